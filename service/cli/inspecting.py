"""`seqserve inspect`: what a version directory says about itself."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from seqserve.service.cli.show import console, failed
from seqserve.service.contract.digest import digest_of
from seqserve.service.contract.manifest import FILE_NAME, Manifest
from seqserve.service.contract.manifest_file import parse_manifest
from seqserve.service.errors import SeqserveError

app = typer.Typer(rich_markup_mode="rich")


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="a version directory, ROOT/NAME/NUMBER")],
) -> None:
    """Show what a model version says about itself, without loading it.

    Example: seqserve inspect build/models/shop/1
    """
    path = folder / "assets" / FILE_NAME
    try:
        data = path.read_bytes()
        manifest = parse_manifest(data)
    except OSError as error:
        advice = "give a version directory, ROOT/NAME/NUMBER"
        raise failed(f"MANIFEST_MISSING: {path}: {error.strerror}; {advice}") from None
    except SeqserveError as error:
        raise failed(f"{error.reason}: {error.message}") from None
    table = Table(show_header=False)
    for name, value in _facts(folder, manifest, digest_of(data)).items():
        table.add_row(escape(name), escape(str(value)))
    console.print(table)


def _facts(folder: Path, manifest: Manifest, digest: str) -> dict[str, Any]:
    lies, exported = "/".join(folder.absolute().parts[-2:]), f"{manifest.name}/{manifest.version}"
    card, listed = manifest.card or {}, manifest.decode and manifest.decode.shortlist
    return {
        "model": lies if lies == exported else f"{lies} (exported as {exported})",
        "task": manifest.task,
        "digest": digest,
        "signatures": ", ".join(manifest.serving_signatures),
        **{f"feature {name}": feature.kind for name, feature in manifest.features.items()},
        **{f"head {name}": f"{head.kind} per {head.per}" for name, head in manifest.heads.items()},
        **(
            {"shortlist": f"{listed.common} common pieces, {listed.partners} partners a piece"}
            if listed
            else {}
        ),
        "limits": manifest.limits.model_dump(exclude_none=True),
        "buckets": ", ".join(map(str, manifest.buckets)),
        "batching": manifest.batching,
        "golden examples": len(manifest.examples),
        "files": len(manifest.files),
        **{f"quality: {name}": value for name, value in card.get("metrics", {}).items()},
    }
