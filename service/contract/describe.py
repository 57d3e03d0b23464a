"""What a model takes and gives, as a caller needs to know it: the manifest without its inner workings.

Both doors show it; the JSON of `GET /v1/models/{model}` is `as_json` of it.
"""

from dataclasses import asdict, dataclass
from typing import Any

from seqserve.service.contract.manifest import Feature, Head, Manifest, has_steps


@dataclass(frozen=True, slots=True)
class FeatureDescription:
    """One feature: its kind and what its values are."""

    kind: str
    labels: tuple[str, ...] = ()
    width: int | None = None
    columns: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    unit: str | None = None
    origin: str | None = None
    per: str | None = None  # sequence, where it has one value and not one a step


@dataclass(frozen=True, slots=True)
class HeadDescription:
    """One head: its kind, what its answer is, and whether it answers a sequence, a step or a horizon."""

    kind: str
    per: str
    labels: tuple[str, ...] = ()
    unit: str | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What one version takes and gives."""

    features: dict[str, FeatureDescription]
    heads: dict[str, HeadDescription]
    limits: dict[str, int]


def describe(manifest: Manifest) -> ModelDescription:
    """Describe a version to those who call it."""
    limits = manifest.limits.model_dump(exclude_none=True)
    return ModelDescription(
        {name: _feature(feature) for name, feature in manifest.features.items()},
        {name: _head(head) for name, head in manifest.heads.items()},
        {name: limit for name, limit in limits.items() if isinstance(limit, int)},
    )


def as_json(description: ModelDescription) -> dict[str, Any]:
    """Return a description as JSON-ready dicts; absent members are left out."""
    plain = asdict(description)
    kept = {key: plain[key] for key in ("features", "heads")}
    return {
        **{key: {name: _present(entry) for name, entry in entries.items()} for key, entries in kept.items()},
        "limits": plain["limits"],
    }


def _present(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value not in (None, ())}


def _feature(feature: Feature) -> FeatureDescription:
    own = _shared(feature, ("labels", "width", "columns", "units", "unit", "origin"))
    return FeatureDescription(**own, per=None if has_steps(feature) else "sequence")


def _head(head: Head) -> HeadDescription:
    return HeadDescription(**_shared(head, ("per", "labels", "unit", "columns")))


def _shared(part: Feature | Head, names: tuple[str, ...]) -> dict[str, Any]:
    return {"kind": part.kind, **{name: getattr(part, name) for name in names if hasattr(part, name)}}
