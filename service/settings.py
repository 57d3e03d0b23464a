"""Every setting of the gateway, and the only reader of the environment (prefix SEQSERVE_).

Built once by `service.cli`; `seqserve serve --help` prints this table.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """SEQSERVE_ROOT, SEQSERVE_REST_PORT, …: each field below in capitals."""

    model_config = SettingsConfigDict(env_prefix="SEQSERVE_", frozen=True, extra="forbid")

    root: Path = Field(Path("build/models"), description="folder of MODEL/VERSION directories to serve")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    rest_port: Port = Field(8000, description="REST port; 0 takes a free one")
    grpc_port: Port = Field(9000, description="gRPC port; 0 takes a free one")
    default_timeout: Seconds = Field(30.0, description="seconds a request may take if it names no timeout")
    max_timeout: Seconds = Field(300.0, description="seconds a request gets at most, whatever it asks")
    backend_timeout: Seconds = Field(30.0, description="seconds one batch may take")
    max_message_bytes: Count = Field(16 * 2**20, description="largest request, in bytes, on either door")
    max_items: Count = Field(1024, description="most texts or sequences in one request")
    max_batch_rows: Count = Field(64, description="most rows in one batch")
    max_batch_cells: Count = Field(4096, description="most cells (rows x padded length) in one batch")
    max_queue_cells: Count = Field(262_144, description="most cells waiting; past it QUEUE_FULL, 429")
    slots: Count = Field(2, description="batches at the backend at once: one computes, one is prepared")
    poll_seconds: Seconds = Field(1.0, description="seconds between looks for new or removed versions")
    drain_seconds: Seconds = Field(20.0, description="seconds that open requests may take on shutdown")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="how much is logged")
