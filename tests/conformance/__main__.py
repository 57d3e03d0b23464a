"""Prepares a model root for a real TensorFlow Serving, and says how to start it and how to run the suite.

Where the server's program can be started on this machine, no root is needed, and all of the suite is run:

    SEQSERVE_TEST_TFSERVING_COMMAND=tensorflow_model_server pytest tests/conformance
"""

import argparse
from pathlib import Path

from tests.conformance.roots import ADDRESS, CONFIG, FLAGS, MODELS, ROOT, prepare


def main() -> None:
    """Write the root and print two commands."""
    parser = argparse.ArgumentParser(
        "python -m tests.conformance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", type=Path, metavar="DIR")
    parser.add_argument("--seen-as", type=Path, metavar="DIR", help="the root's path where the server runs")
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        default=[],
        metavar="DIR/NAME",
        help="another model's folder where the server runs, to have its golden examples run too; repeatable",
    )
    given = parser.parse_args()
    root = given.root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    seen = given.seen_as or root
    prepare(root, seen, given.model)
    flags = " ".join(f"--{name}={str(value).lower()}" for name, value in FLAGS.items())
    print(f"tensorflow_model_server --port=8500 --model_config_file={seen / CONFIG} {flags}")
    where = f"{ADDRESS}=127.0.0.1:8500 {ROOT}={root}"
    if given.model:
        where += f" {MODELS}={','.join(folder.name for folder in given.model)}"
    print(f"{where} pytest tests/conformance")


if __name__ == "__main__":
    main()
