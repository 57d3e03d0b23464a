"""Every setting of the gateway, and its only reader of the environment (prefix SEQSERVE_).

`read_settings` is for the command; tests and programs make `Settings` themselves. `seqserve serve --help`
prints this table.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from seqserve.service.settings.environment import Environment, sort_out, variable
from seqserve.service.settings.rules import wrong

LAME_DUCK_SECONDS = 5.0
LONGEST_VALUE = 100
RULES = "rules"
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=0, le=65535)]


class _Variables(PydanticBaseSettingsSource):
    """The environment as a source of settings."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self._given = _environment().given

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[str | None, str, bool]:
        return self._given.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self._given)


class Settings(BaseSettings):
    """SEQSERVE_ROOT, SEQSERVE_REST_PORT, …: each field below in capitals; an empty one counts as absent."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    root: Path = Field(
        Path("build/models"), description="folder of MODEL/VERSION directories that this process runs itself"
    )
    model_config_file: Path | None = Field(
        None,
        description="TensorFlow Serving's model config file: names the models, instead of root or models",
    )
    tfserving: str = Field(
        "", description="HOST:PORT,… of TensorFlow Serving's gRPC; empty: models run in this process"
    )
    models: str = Field("", description="NAME,… of the models at TensorFlow Serving")
    tfserving_ca: Path | None = Field(None, description="PEM of the authority to trust; turns TLS on")
    tfserving_cert: Path | None = Field(None, description="PEM of this client's certificate, for mutual TLS")
    tfserving_key: Path | None = Field(None, description="PEM of this client's key, for mutual TLS")
    tfserving_root: Path | None = Field(
        None,
        description="folder in which this process sees the models' folders of TensorFlow Serving, each under "
        "the last part of its base_path: a version that failed there is dropped when its folder is gone",
    )
    device: Literal["cpu", "gpu"] = Field(
        "cpu", description="what the models run on: chooses the tolerance of the golden examples"
    )
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    rest_port: Port = Field(8000, description="REST port; 0 takes a free one")
    grpc_port: Port = Field(9000, description="gRPC port; 0 takes a free one")
    ops_port: Port | None = Field(
        None,
        description="port for health, metrics and docs alone, without keys or TLS: for operators, not for "
        "everybody; 0 takes a free one; absent: they are answered on the REST port",
    )
    open: Literal["", "tls", "all"] = Field(
        "",
        description="what a public address may lack on purpose: tls (a proxy has it) or all (keys too)",
    )
    publish: str = Field(
        "",
        description="address at which a container's ports are published, which callers reach in place of "
        "host: docker-compose.yml sets it",
    )
    keys: Path | None = Field(None, description="file of API keys, by their hashes: seqserve keys --help")
    jwt_jwks: Path | None = Field(None, description="file of the keys (JWKS) that sign callers' tokens (JWT)")
    jwt_issuer: str = Field("", description="who must have issued a token")
    jwt_audience: str = Field("", description="whom a token must be for")
    tls_cert: Path | None = Field(None, description="PEM of this service's certificate; turns TLS on")
    tls_key: Path | None = Field(None, description="PEM of that certificate's key")
    tls_client_ca: Path | None = Field(
        None, description="PEM of the authority of callers' certificates; nobody connects without one then"
    )
    trusted_proxies: str = Field(
        "",
        description="ADDRESS or NETWORK,… of proxies whose Forwarded or X-Forwarded-For header is believed",
    )
    root_path: str = Field("", description="path under which a proxy shows the REST door, as /nlp")
    cors_origins: str = Field(
        "", description="ORIGIN,… of pages whose scripts may call, as https://app.example; * for any"
    )
    access_log: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of successful requests in the access log; failures always are"
    )
    principal_requests_per_second: Rate = Field(0, description="requests a second of one principal; 0: any")
    principal_cells_per_second: Rate = Field(0, description="cells a second of one principal; 0: any")
    principal_requests: Count = Field(1024, description="most open requests of one principal")
    principal_cells: Count = Field(
        131_072,
        description="most cells, waiting or computed, of one principal; one request alone may have more",
    )
    principal_refusals_per_second: Rate = Field(
        100, description="refusals a second of one principal that are told without delay; 0: any"
    )
    max_request_cells: Count = Field(
        720_896, description="most cells of one request: rows x (length + beams x longest output)"
    )
    rest_connections: Count = Field(4096, description="most open REST connections")
    rest_connections_per_address: Count = Field(2048, description="most open REST connections of one address")
    max_header_bytes: Count = Field(32_768, description="most bytes of a REST request's line and headers")
    max_headers: Count = Field(100, description="most headers of a REST request")
    head_seconds: Seconds = Field(10.0, description="seconds in which a REST request's headers must come")
    body_seconds: Seconds = Field(60.0, description="seconds in which its body must come")
    idle_seconds: Seconds = Field(75.0, description="seconds an idle REST connection is kept")
    body_bytes_in_flight: Count = Field(
        128 * 2**20, description="most bytes of bodies and messages that are held at once, at both doors"
    )
    max_json_marks: Count = Field(
        2_500_000,
        description="most structural characters ([]{},:) of a body's JSON; a 25th of them in one item",
    )
    grpc_message_bytes: Count = Field(4 * 2**20, description="largest gRPC request, in bytes")
    grpc_fields: Count = Field(
        262_144, description="most fields (texts, labels, timestamps, ...) of a gRPC request"
    )
    grpc_connections: Count = Field(4096, description="most open gRPC connections")
    grpc_calls: Count = Field(4096, description="most open gRPC calls")
    grpc_streams: Count = Field(4096, description="most open calls of one gRPC connection")
    grpc_append_streams: Count = Field(
        32, description="most open streams of appends; each may hold a message that has not come whole"
    )
    max_metadata_bytes: Count = Field(16_384, description="most bytes of a gRPC call's metadata")
    grpc_age_seconds: Rate = Field(
        0, description="seconds after which a gRPC connection is renewed; 0: never"
    )
    default_timeout: Seconds = Field(30.0, description="seconds a request may take if it names no timeout")
    max_timeout: Seconds = Field(300.0, description="seconds a request gets at most, whatever it asks for")
    backend_timeout: Seconds = Field(30.0, description="seconds one batch may take")
    max_message_bytes: Count = Field(16 * 2**20, description="largest REST body, in bytes, decompressed")
    max_items: Count = Field(1024, description="most texts or sequences in one request")
    max_batch_rows: Count = Field(128, description="most rows in one batch")
    max_batch_cells: Count = Field(4096, description="most cells (rows x padded length) in one batch")
    max_queue_cells: Count = Field(
        262_144,
        description="most cells (rows x length x beams) waiting for one model; past it QUEUE_FULL, 429",
    )
    slots: Count | None = Field(
        None,
        description="batches run at once; absent: 2 at each address of TensorFlow Serving (one computes, one "
        "is prepared), or for models in this process one for each of its cores, 2 on a GPU",
    )
    sessions: str = Field(
        "",
        description="redis://… or rediss://… (TLS) of the Redis that keeps sessions, for several gateways; "
        "empty: this process's memory does",
    )
    sessions_password_file: Path | None = Field(
        None, description="file that holds the password of that Redis, instead of the URL"
    )
    session_seconds: Seconds = Field(
        604_800.0, description="seconds after which a session is forgotten that nothing was appended to"
    )
    session_memory_bytes: Count = Field(
        256 * 2**20, description="most bytes of all sessions in this process's memory"
    )
    session_bytes: Count = Field(2**20, description="most bytes of one session: its events and its state")
    session_replay_events: Count = Field(
        256, description="most events of a session that moves to a new version, which replays them"
    )
    max_append_bytes: Count = Field(65_536, description="largest REST body of an append, decompressed")
    poll_seconds: Seconds = Field(1.0, description="seconds between looks for new or removed versions")
    ready_models: Literal["all", "one"] = Field(
        "all", description="how many of the models must have been callable once before this is ready"
    )
    ready_grace_seconds: Seconds = Field(
        10.0, description="seconds without an answering TensorFlow Serving after which this is not ready"
    )
    lame_duck_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None,
        description="seconds from SIGTERM, unready, in which new calls are still answered; absent: 5, or 0 "
        "where standard input is a terminal",
    )
    drain_seconds: Seconds = Field(20.0, description="seconds that open requests may take on shutdown")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="how much is logged")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Variables(settings_cls)

    @property
    def tfserving_addresses(self) -> list[str]:
        """The model servers, in order."""
        return _names(self.tfserving)

    @property
    def model_names(self) -> list[str]:
        """The models named for TensorFlow Serving."""
        return _names(self.models)

    @property
    def trusted_proxy_networks(self) -> list[str]:
        """The addresses and networks of trusted proxies."""
        return _names(self.trusted_proxies)

    @property
    def origins(self) -> list[str]:
        """The origins of pages whose scripts may call."""
        return _names(self.cors_origins)

    @property
    def lame_duck(self) -> float:
        """The seconds from SIGTERM in which new calls are answered; none for who waits at a terminal."""
        if self.lame_duck_seconds is not None:
            return self.lame_duck_seconds
        return 0.0 if sys.stdin is not None and sys.stdin.isatty() else LAME_DUCK_SECONDS

    @model_validator(mode="after")
    def _fits(self) -> "Settings":
        if found := wrong(self):
            told = "; ".join(f"{variable(fault.field)} {fault.why}" for fault in found)
            raise PydanticCustomError(RULES, "{told}", {"told": told, "found": found})
        return self


THEMES = {
    "root": "Models",
    "host": "Where it listens",
    "keys": "Who may call",
    "tls_cert": "TLS, proxies, browsers",
    "access_log": "Access log",
    "principal_requests_per_second": "How much one caller may",
    "rest_connections": "REST connections and bodies",
    "grpc_message_bytes": "gRPC calls and messages",
    "default_timeout": "Timeouts",
    "max_message_bytes": "Requests, batches and the queue",
    "sessions": "Sessions",
    "poll_seconds": "New versions, readiness",
    "lame_duck_seconds": "Stopping, logs",
}
"""What settings are about, by the first field of each theme."""


class SettingsUnusable(Exception):
    """The settings do not do, or a file that they name cannot be used; the message says which and why."""


def read_settings(options: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Return the settings from options, which win, and the environment; and warnings of what is ignored.

    Args:
        options: by field, as the command line gave them.

    Raises:
        SettingsUnusable: every setting that does not do, by its option or variable, with the value given.
    """
    warnings = _environment().warnings(Settings.model_fields)
    try:
        settings = Settings(**options)
    except ValidationError as error:
        told = [line for fault in error.errors() for line in _told(fault, options)]
        raise SettingsUnusable("; ".join([*told, *warnings])) from None  # a mistyped name may be why
    return settings, warnings


@contextmanager
def naming(field: str, value: object) -> Iterator[None]:
    """Raise SettingsUnusable, with the setting and its value, where a file that it names cannot be used."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise SettingsUnusable(_line(variable(field), value, str(error))) from error


def _told(fault: ErrorDetails, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each setting at fault."""
    if fault["type"] == RULES:
        for field, why in fault["ctx"]["found"]:
            yield _line(_source(field, options), options.get(field, _environment().given.get(field)), why)
    else:
        yield _line(_source(str(fault["loc"][0]), options), fault["input"], fault["msg"])


def _line(source: str, value: object, why: str) -> str:
    shown = "" if value is None else f"={_without_password(str(value))[:LONGEST_VALUE]}"
    return f"{source}{shown}: {why}"


def _without_password(value: str) -> str:
    """Return a value as it may be shown: of a URL, without who logs in."""
    return re.sub(r"(?<=://)[^/]*@", "…@", value)


def _source(field: str, options: Mapping[str, Any]) -> str:
    return f"--{field.replace('_', '-')}" if field in options else variable(field)


def _environment() -> Environment:
    return sort_out(os.environ, Settings.model_fields)


def _names(listed: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
