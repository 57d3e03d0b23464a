"""What every part of a manifest is: frozen, strict about types, and open to fields of a later schema."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of a manifest: frozen, and keeps fields that a later schema may add."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)
