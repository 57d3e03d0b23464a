"""The model root that the suite needs, and the configuration that serves it."""

from collections.abc import Sequence
from pathlib import Path

from tests.conformance.modules import write_version

ADDRESS, ROOT = "SEQSERVE_TEST_TFSERVING", "SEQSERVE_TEST_TFSERVING_ROOT"
COMMAND = "SEQSERVE_TEST_TFSERVING_COMMAND"
MODELS, DEVICE = "SEQSERVE_TEST_MODELS", "SEQSERVE_TEST_DEVICE"
CONFIG = "models.config"
POLICIES = {
    "demo": "specific { versions: 1 versions: 2 }",
    "newest": "latest { num_versions: 1 }",
    "two": "latest { num_versions: 2 }",
}
LABELS = {"stable": 1, "canary": 2}
FLAGS: dict[str, object] = {
    "allow_version_labels_for_unavailable_models": True,  # else no label can be in the first configuration
    "max_num_load_retries": 0,  # else a version that fails to load is LOADING for minutes
    "grpc_max_threads": 16,
    "enable_grpc_healthcheck_service": True,
}


def prepare(root: Path, seen_as: Path | None = None, others: Sequence[Path] = ()) -> Path:
    """Write the first versions and the configuration; return the configuration's path.

    Args:
        root: the folder, here.
        seen_as: its path where the server runs, if it is another.
        others: folders of other models to serve, each with the model's name, where the server runs.
    """
    for number in LABELS.values():
        write_version(root / "demo", number, whole=True)
    write_version(root / "newest", 1)
    write_version(root / "two", 1)
    path = root / CONFIG
    path.write_text(_config(seen_as or root, others))
    return path


def _config(root: Path, others: Sequence[Path]) -> str:
    entries = [f'name: "{o.name}" base_path: "{o}" model_platform: "tensorflow"' for o in others]
    for name, policy in POLICIES.items():
        labels = [f'version_labels {{ key: "{k}" value: {v} }}' for k, v in LABELS.items() if name == "demo"]
        fields = [f'name: "{name}"', f'base_path: "{root / name}"', 'model_platform: "tensorflow"']
        entries.append(" ".join([*fields, f"model_version_policy {{ {policy} }}", *labels]))
    return "model_config_list {\n" + "".join(f"  config {{ {entry} }}\n" for entry in entries) + "}\n"
