"""docker-compose.yml and what is laid over it, as the gateway reads them: who may call, how long it stops."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqserve.service.settings import Settings, SettingsUnusable, read_settings
from seqserve.service.settings.environment import variable
from seqserve.service.stopping import CLOSING_SECONDS

REPOSITORY = Path(__file__).parents[2]
PUBLIC = {"SEQSERVE_PUBLISH": "0.0.0.0"}


def gateway(file: str, operator: dict[str, str]) -> dict[str, Any]:
    """Return the gateway's service with what the operator's environment makes of it."""

    def filled(match: re.Match[str]) -> str:
        return operator.get(match[1], "") or (match[2] or "")

    text = re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", filled, (REPOSITORY / file).read_text())
    service: dict[str, Any] = yaml.safe_load(text)["services"]["gateway"]
    return service


def read(monkeypatch: pytest.MonkeyPatch, *files: str, **operator: str) -> Settings:
    """Read the settings as the container does; nothing there is unknown."""
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    for file in files:
        for name, value in gateway(file, operator)["environment"].items():
            monkeypatch.setenv(name, str("" if value is None else value))
    settings, warnings = read_settings({})
    assert warnings == []
    return settings


def test_on_this_machine_alone_everybody_may_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, "docker-compose.yml").keys is None
    ports = gateway("docker-compose.yml", {})["ports"]
    assert {port.rpartition(":")[0].rpartition(":")[0] for port in ports} == {"127.0.0.1"}


def test_published_for_others_it_does_not_start_by_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of the ports is the one that is judged; the operator gives keys and TLS, or says `all`."""
    ports = gateway("docker-compose.yml", PUBLIC)["ports"]
    assert all(port.startswith("0.0.0.0:") for port in ports)
    with pytest.raises(SettingsUnusable, match=r"SEQSERVE_PUBLISH=0\.0\.0\.0: .*SEQSERVE_OPEN=all"):
        read(monkeypatch, "docker-compose.yml", **PUBLIC)
    assert read(monkeypatch, "docker-compose.yml", **PUBLIC, SEQSERVE_OPEN="all").keys is None
    files = ("docker-compose.yml", "deploy/compose.public.yml")
    closed = read(monkeypatch, *files, **PUBLIC, SEQSERVE_SECRETS="/secrets")
    assert closed.keys is not None
    assert closed.tls_cert is not None


def test_it_is_not_killed_while_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, "docker-compose.yml")
    grace = float(gateway("docker-compose.yml", {})["stop_grace_period"].removesuffix("s"))
    assert grace >= 5 + settings.drain_seconds + CLOSING_SECONDS
