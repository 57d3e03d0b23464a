"""A contract file read: of a sequence model, or of a translator where its `task` says so."""

from pathlib import Path

from pydantic import ValidationError

from seqserve.models.bring.contract import Contract
from seqserve.models.bring.faults import contract_faults
from seqserve.models.bring.translation.contract import TranslationContract
from seqserve.models.config import ConfigInvalid, load_toml


def load_contract(path: Path) -> Contract | TranslationContract:
    """Read a contract file.

    Raises:
        ConfigInvalid: no such file, not TOML, or a field is wrong; the message names file and field.
    """
    table = load_toml(path)
    kind = TranslationContract if table.get("task") == "translation" else Contract
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise ConfigInvalid(f"{path}: {contract_faults(error, table)}") from error
