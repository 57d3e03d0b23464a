"""Which versions the directories and the policies ask for."""

import re
from pathlib import Path
from typing import Any

from tests.tfserving.status import invalid

NUMBER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
LARGEST = 2**63 - 1


def aspired(config: Any) -> dict[int, Path]:
    """Return the folders of the versions that a ModelConfig asks for, by number.

    Raises:
        StatusError: there is no base path; then a poll changes nothing, for no model.
    """
    base = Path(config.base_path)
    if not base.exists():
        raise invalid(f"Could not find base path {base} for servable {config.name}")
    present = _by_number(base)
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return present
    if choice == "specific":
        return {number: present[number] for number in policy.specific.versions if number in present}
    newest = sorted(present, reverse=True)[: max(policy.latest.num_versions, 1)]
    return {number: present[number] for number in newest}


def check_models(models: Any) -> None:
    """Refuse a ModelConfigList that names a model twice or whose paths are relative."""
    names = [model.name for model in models]
    for model in models:
        if names.count(model.name) > 1:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        if not Path(model.base_path).is_absolute() and "://" not in model.base_path:
            path = f"got base_path()={model.base_path}"
            raise invalid(f"Expected model {model.name} to have an absolute path or URI; {path}")
        if not model.model_platform and not model.model_type:
            raise invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {model.name}"
            )


def _by_number(base: Path) -> dict[int, Path]:
    """Return what is named as a number: a file too, and "01" for 1 where there is no "1"."""
    children = sorted(base.iterdir(), key=lambda path: path.name)
    numbers = {int(child.name): child for child in children if NUMBER.fullmatch(child.name)}
    return {number: child for number, child in numbers.items() if abs(number) <= LARGEST}
