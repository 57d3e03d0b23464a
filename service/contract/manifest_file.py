"""`manifest.json` read and written; a fault names its field."""

import orjson
from pydantic import ValidationError

from seqserve.service.contract.bounds import LONGEST_FAULT, MOST_FAULTS, check_bounds, in_one_line
from seqserve.service.contract.manifest import FILE_NAME, Manifest
from seqserve.service.errors import ManifestInvalid


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest from its JSON.

    Raises:
        ManifestInvalid: not JSON, past a bound, or not a manifest; the message names the fields at fault.
    """
    check_bounds(data, FILE_NAME)
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise ManifestInvalid(f"{FILE_NAME}: {name_faults(error, 'manifest')}") from error


def name_faults(error: ValidationError, whole: str) -> str:
    """Return the faults, each with its field, or `whole` where no single field is at fault."""
    shown = error.errors(include_url=False, include_input=False)[:MOST_FAULTS]
    faults = [f"{'.'.join(str(p) for p in e['loc']) or whole}: {e['msg']}"[:LONGEST_FAULT] for e in shown]
    more = error.error_count() - len(faults)
    return in_one_line("; ".join([*faults, f"and {more} more"] if more else faults))


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as indented JSON; absent optional fields are left out."""
    kept = manifest.model_dump(mode="json", exclude_none=True)
    return orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
