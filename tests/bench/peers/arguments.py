"""The command line that all peers have, read without TensorFlow: some run the model in another process."""

import argparse
import json
from pathlib import Path

from tests.bench.peers import Task


def arguments() -> argparse.Namespace:
    """Read folder, port and batch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=64)
    return parser.parse_args()


def task_of(folder: Path) -> Task:
    """Return the task of a version."""
    task: Task = json.loads((folder / "assets/manifest.json").read_bytes())["task"]
    return task
