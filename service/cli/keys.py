"""`seqserve keys …`: give keys to callers, list them, and take them back."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from seqserve.service.cli.show import console, failed, problems

app = typer.Typer()
keys = typer.Typer(
    help="Give API keys to callers, list them and take them back: the file of SEQSERVE_KEYS.\n\n"
    "It holds hashes of the keys, never a key. A running service takes a change within a second.\n\n"
    "Example: seqserve keys add shop --scope 'predict:*' --file keys.jsonl\n\n"
    "Example: SEQSERVE_KEYS=keys.jsonl seqserve serve\n\n"
    'Example: curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8000/v1/models',
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(keys, name="keys")
Made = TypeVar("Made")
EVERYTHING = "*:*"

NameArgument = Annotated[str, typer.Argument(help="who bears the key: what limits and the access log go by")]
FileOption = Annotated[
    Path, typer.Option("--file", envvar="SEQSERVE_KEYS", help="the file of keys; made where there is none")
]


@keys.command()
def add(
    name: NameArgument,
    file: FileOption,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="ACTION:MODEL that it may, * for any; may be repeated; absent: everything"),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="when it ends: a date, a time (RFC 3339), or days as 90d")
    ] = None,
    certificate: Annotated[
        bool, typer.Option("--certificate", help="no key: what the client certificate of this name may do")
    ] = False,
) -> None:
    """Make a key, and print it: this once, and nowhere else.

    A name may have several. To change one for the next: add, give it to the caller, revoke the old by its id.

    Example: seqserve keys add shop --scope 'predict:*' --scope translate:en-de --expires 90d
    """
    from seqserve.service.edge.key_file import add as write
    from seqserve.service.edge.keys import Line, digest_of, new_key

    scopes = [_checked(text) for text in scope or [EVERYTHING]]
    key = new_key()
    given = {
        "name": name,
        "sha256": None if certificate else digest_of(key),
        "scopes": scopes,
        "created": datetime.now(UTC).replace(microsecond=0),
        "expires": _end(expires) if expires is not None else None,
    }
    _usable(lambda: write(file, Line.model_validate(given)))
    may = ", ".join(scopes)
    problems.print(f"{name} may {may}; written to {file}", markup=False, highlight=False, soft_wrap=True)
    if not certificate:
        typer.echo(key)


@keys.command("list")
def show(file: FileOption) -> None:
    """List who may do what, with the id of each key: the beginning of its hash.

    Example: seqserve keys list --file keys.jsonl
    """
    from seqserve.service.edge.key_file import read_lines

    table = Table("name", "id", "may", "created", "expires")
    for line in _usable(lambda: read_lines(file)):
        times = (f"{time:%F %T}" if time is not None else "" for time in (line.created, line.expires))
        table.add_row(*map(escape, (line.name, line.id or "certificate", ", ".join(line.scopes), *times)))
    console.print(table)


@keys.command()
def revoke(
    name: NameArgument,
    file: FileOption,
    id: Annotated[str | None, typer.Option(help="only the key of this id; absent: all of the name")] = None,
) -> None:
    """Take back the keys of a name, or one of them: calls with it are refused within a second.

    Example: seqserve keys revoke shop --id 9f86d081884c
    """
    from seqserve.service.edge.key_file import remove

    gone = _usable(lambda: remove(file, lambda line: line.name == name and (id is None or line.id == id)))
    if not gone:
        raise failed(f"{file} has no key of {name}{f' with the id {id}' if id else ''}: seqserve keys list")
    ids = ", ".join(line.id or "its certificate" for line in gone)
    problems.print(f"revoked of {name}: {ids}", markup=False, highlight=False)


def _usable(work: Callable[[], Made]) -> Made:
    """Return what comes of work on the file, or end with what is wrong with it."""
    try:
        return work()
    except (OSError, ValueError) as error:
        raise failed(_told(error)) from None


def _told(error: Exception) -> str:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return str(error)


def _checked(scope: str) -> str:
    """Return a scope whose action there is; a misspelt one would refuse every call."""
    from seqserve.service.core.tasks import TASKS

    verbs = sorted(task.verb for task in TASKS.values())
    action, has_model, _ = scope.partition(":")
    if not has_model or action not in ("*", *verbs):
        raise failed(f"--scope {scope!r} is not ACTION:MODEL with an action of *, {', '.join(verbs)}")
    return scope


def _end(text: str) -> datetime:
    """Return when a key ends."""
    if days := re.fullmatch(r"(\d{1,5})d", text):
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=int(days[1]))
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise failed(f"--expires {text!r} is no date, time (RFC 3339) or number of days as 90d") from None
    end = end if end.tzinfo is not None else end.replace(tzinfo=UTC)
    if end <= datetime.now(UTC):
        raise failed(f"--expires {text!r} is past")
    return end
