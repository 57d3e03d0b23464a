"""What the commands print with: tables on stdout, an error as one line on stderr."""

import typer
from rich.console import Console
from rich.markup import escape

console = Console()
problems = Console(stderr=True)


def failed(message: str) -> typer.Exit:
    """Print an error, and return what ends the command with status 1: `raise failed(…)`."""
    problems.print("[bold red]error[/]", escape(message), highlight=False, soft_wrap=True)
    return typer.Exit(1)
