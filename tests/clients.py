"""Clients of other protocols, which lie in an environment of their own (`make build/clients-venv/.done`)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

PYTHON = Path(__file__).parents[1] / "build/clients-venv/bin/python"
PRELUDE = "import json, sys\nports = sys.argv[1:]\n"


async def said_by(script: str, *ports: int) -> Any:
    """Return what a script prints, as JSON; it finds the ports in `ports`."""
    if not PYTHON.exists():
        pytest.skip("make build/clients-venv/.done makes what this needs")
    program = await asyncio.create_subprocess_exec(
        PYTHON, "-c", PRELUDE + script, *map(str, ports), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await program.communicate()
    assert program.returncode == 0
    return json.loads(told)
