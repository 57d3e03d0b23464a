"""What the command line's own calls read of the environment: who they are of, and whom they trust."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class CallerSettings(BaseSettings):
    """SEQSERVE_API_KEY, SEQSERVE_CA, …: each field below in capitals. No key is taken as an argument.

    Arguments are seen by everybody on the machine.
    """

    model_config = SettingsConfigDict(env_prefix="SEQSERVE_", frozen=True, env_ignore_empty=True)

    api_key: SecretStr | None = Field(None, description="the key, or token, to call with")
    api_key_file: Path | None = Field(None, description="a file that holds it, instead")
    ca: Path | None = Field(None, description="PEM of the authority of the service; turns TLS on")
    client_cert: Path | None = Field(None, description="PEM of the caller's certificate, for mutual TLS")
    client_key: Path | None = Field(None, description="PEM of its key")
