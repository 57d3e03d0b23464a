"""What schemathesis makes of `/openapi.json`: cases from the schema, and answers held to it."""

import asyncio
from pathlib import Path
from tempfile import NamedTemporaryFile

from tests.fuzz import world

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
)
CONFIG = """
[[operations]]
include-path-regex = ":translate$"
parameters = { "path.model" = "echo", "path.version" = "1" }
[[operations]]
include-path-regex = ":predict$"
parameters = { "path.model" = "totals", "path.version" = "1" }
[[operations]]
include-path-regex = "^/v2/|metadata$|/versions/.version.$"
parameters = { "path.model" = "totals", "path.version" = "1" }
[[operations]]
include-path-regex = "/sessions"
parameters = { "path.model" = "visits", "path.version" = "1", "path.session" = "fuzzed-live-sequence-1" }
"""
"""Models that there are, so that most cases come further than to their names."""


async def run(program: Path, cases: int, seed: int) -> int:
    """Run schemathesis against a service of its own, and return its exit status.

    Args:
        program: schemathesis' own; it lies in an environment of its own.
        cases: at most, for each operation and kind of data.
    """
    async with world.service() as started:
        with NamedTemporaryFile("w", suffix=".toml") as config:
            config.write(CONFIG)
            config.flush()
            process = await asyncio.create_subprocess_exec(
                program,
                f"--config-file={config.name}",
                "run",
                f"http://127.0.0.1:{started.rest_port}/openapi.json",
                f"--checks={','.join(CHECKS)}",
                f"--max-examples={cases}",
                f"--seed={seed}",
                "--phases=examples,coverage,fuzzing",
                "--no-color",
                "--generation-database=none",
            )
            return await process.wait()
