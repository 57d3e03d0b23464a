"""The keeper's looks: the copy follows, a start is answered, and each fault is reported once."""

import logging
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from seqserve.service.keeper.keeper import COPY, Keeper, Report
from seqserve.service.keeper.moves import Moves
from seqserve.service.keeper.readable import Reader
from seqserve.service.metrics import KeeperMetrics
from tests.keeper.made import TWO, config, label, spoil, version

HOLD = 30.0


class Rig:
    """A keeper of `demo`, versions 1 and 2, and what it says."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.root, self.out, self.file = folder / "models", folder / "out", folder / "models.config"
        self.out.mkdir()
        for number in (1, 2):
            version(self.root, "demo", number)
        self.write(TWO)
        self._caplog = caplog
        self.now = 0.0
        self.start()

    def start(self) -> None:
        """Start a keeper, in place of the one before."""
        self.registry = CollectorRegistry()
        reader, moves = Reader(HOLD, lambda: self.now), Moves(HOLD, lambda: self.now)
        self.keeper = Keeper(self.file, self.out, None, Report(KeeperMetrics(self.registry)), reader, moves)
        self.keeper.look()

    def write(self, demo: str, **others: str) -> None:
        """Edit the file."""
        self.file.write_text(config(self.root, {"demo": demo, **others}))

    def look(self) -> str:
        """Have it look twice, so that what is said again would be seen; return the copy."""
        self.keeper.look()
        self.keeper.look()
        return self.copy

    @property
    def copy(self) -> str:
        """The copy."""
        return (self.out / COPY).read_text()

    def said(self) -> list[str]:
        """Return the warnings, and what ended, since the last call."""
        lines = [message for message in self.messages() if not message.endswith("is written")]
        self._caplog.clear()
        return [line.split(":")[0] + ":" + line.split(":")[1][:10] for line in lines if ":" in line]

    def messages(self) -> list[str]:
        """Return every message since the last call of `said`."""
        return [record.getMessage() for record in self._caplog.records]

    def metric(self) -> dict[str, float]:
        """Return the metric by reason."""
        samples = (sample for family in self.registry.collect() for sample in family.samples)
        return {s.labels["reason"]: s.value for s in samples if s.name == "seqserve_keeper_fault"}


@pytest.fixture
def rig(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Rig:
    """A keeper that has looked once, and found nothing wrong."""
    return Rig(tmp_path, caplog)


def test_the_copy_follows_the_file(rig: Rig) -> None:
    """At first, and after each edit; the copy is always a whole file."""
    assert rig.copy == rig.file.read_text()
    rig.write(TWO + label("stable", 1))
    assert rig.look() == rig.file.read_text()
    assert sorted(path.name for path in rig.out.iterdir()) == [COPY]
    assert (rig.said(), rig.metric()) == ([], {})


def test_a_fault_is_reported_once_and_so_is_its_end(rig: Rig) -> None:
    """A model without a version and a label that points nowhere, by log and metric; then both come right."""
    rig.write(TWO + label("stable", 9), late=TWO)
    assert '"late"' not in rig.look()
    assert rig.said() == ["LABEL_NOWHERE: demo", "NO_VERSION: late is l"]
    assert rig.metric() == {"NO_VERSION": 1, "LABEL_NOWHERE": 1}
    version(rig.root, "late", 1)
    rig.write(TWO + label("stable", 2), late=TWO)
    assert rig.look() == rig.file.read_text()
    assert rig.said() == ["no longer so: LABEL_NOW", "no longer so: NO_VERSIO"]
    assert rig.metric() == {}


@pytest.mark.parametrize("text", ["", "model_config_list {", None], ids=["empty", "cut short", "missing"])
def test_a_file_that_is_not_valid_is_not_followed(rig: Rig, text: str | None) -> None:
    """The last valid text stands, by a keeper that is started anew too; the next valid one is taken."""
    before = rig.copy
    rig.file.unlink() if text is None else rig.file.write_text(text)
    assert rig.look() == before
    assert rig.metric() == {"CONFIG_INVALID": 1}
    rig.start()
    assert rig.copy == before
    rig.write(TWO + label("stable", 1))
    assert rig.look() == rig.file.read_text()
    assert rig.metric() == {}


def test_a_keeper_may_start_with_nothing_to_keep(rig: Rig) -> None:
    """A file that is not valid and a copy that names no model: nothing is written until the file is valid."""
    (rig.out / COPY).write_text("model_config_list {\n}\n")
    rig.file.write_text("")
    rig.start()
    assert rig.look() == "model_config_list {\n}\n"
    assert rig.metric() == {"CONFIG_INVALID": 1}
    rig.write(TWO)
    assert rig.look() == rig.file.read_text()


def test_who_starts_gets_a_fresh_copy(rig: Rig) -> None:
    """A version spoilt while it is served stays in the copy; a server that starts gets one without it."""
    spoil(rig.root / "demo" / "2")
    assert rig.look() == rig.file.read_text()
    assert rig.metric() == {"VERSION_UNREADABLE": 1}
    for name in ("a", "b"):
        (rig.out / f"{name}.ask").touch()
    rig.look()
    assert sorted(path.name for path in rig.out.iterdir()) == [COPY]
    assert "specific {\n        versions: 1\n" in rig.copy
    assert rig.said() == ["VERSION_UNREADABLE: demo vers"]
    version(rig.root, "demo", 2)
    (rig.out / "c.ask").touch()
    assert rig.look() == rig.file.read_text()


def test_a_new_version_that_is_not_whole_waits(rig: Rig) -> None:
    """Others are served while it is copied, and until every server has taken a configuration without it."""
    spoil(version(rig.root, "demo", 3))
    rig.look()
    others = rig.copy
    assert "versions: 1\n        versions: 2\n" in others
    version(rig.root, "demo", 3)
    for rig.now in (0.0, HOLD - 1):
        assert rig.look() == others
    assert rig.said() == ["VERSION_UNREADABLE: demo vers"]
    rig.now = HOLD
    assert rig.look() == rig.file.read_text()
    assert rig.said() == ["no longer so: VERSION_U"]


def test_a_copy_that_cannot_be_written_leaves_who_asks_waiting(rig: Rig) -> None:
    """And is reported; once it can be, it is written and the start is answered."""
    (rig.out / "models.new").mkdir()
    rig.write(TWO + label("stable", 1))
    (rig.out / "a.ask").touch()
    rig.look()
    assert (rig.out / "a.ask").exists()
    assert rig.metric() == {"KEEPER_FAILED": 1}
    (rig.out / "models.new").rmdir()
    assert rig.look() == rig.file.read_text()
    assert not (rig.out / "a.ask").exists()
    assert rig.metric() == {}


ONE = "model_version_policy { specific { versions: 1 } }" + label("stable", 1)
OTHER = "model_version_policy { specific { versions: 2 } }" + label("stable", 2)


def test_a_label_moves_once_its_version_has_been_served(rig: Rig) -> None:
    """One edit brings a version and moves a label to it: the old one and its label stay for a while."""
    rig.write(ONE)
    assert rig.look() == rig.file.read_text()
    rig.write(OTHER)
    for rig.now in (1.0, HOLD):
        copy = rig.look()
        assert "versions: 2\n        versions: 1\n" in copy
        assert 'key: "stable"\n      value: 1\n' in copy
    assert rig.metric() == {"LABEL_WAITS": 1}
    rig.now += 1.0
    assert rig.look() == rig.file.read_text()
    assert rig.said() == ["LABEL_WAITS: demo", "no longer so: LABEL_WAI"]


def test_a_label_moves_at_once_where_its_version_is_served(rig: Rig) -> None:
    """As it does where the policy brings versions by itself, and to a server that starts."""
    rig.write(TWO + label("stable", 1))
    rig.look()
    rig.write(TWO + label("stable", 2))
    assert rig.look() == rig.file.read_text()
    rig.write(ONE)
    rig.look()
    rig.write(OTHER)
    (rig.out / "a.ask").touch()
    assert rig.look() == rig.file.read_text()
    assert rig.said() == []


def test_a_label_in_a_store_of_objects_moves_at_once(rig: Rig) -> None:
    """Which versions there are is not known there."""
    for fields in (ONE, OTHER):
        rig.write(TWO, far=fields)
        rig.file.write_text(rig.file.read_text().replace(str(rig.root / "far"), "s3://models/far"))
        assert rig.look() == rig.file.read_text()


def test_a_label_waits_beside_a_version_that_is_left_out(rig: Rig) -> None:
    """Then it is the keeper that brings the new version, by a policy of its own."""
    spoil(version(rig.root, "demo", 3))
    rig.write(TWO + label("stable", 1))
    rig.look()
    version(rig.root, "demo", 4)
    rig.now = 1.0
    rig.write(TWO + label("stable", 4))
    copy = rig.look()
    assert "versions: 2\n        versions: 4\n        versions: 1\n" in copy
    assert 'key: "stable"\n      value: 1\n' in copy
    rig.now += HOLD
    copy = rig.look()
    assert "versions: 2\n        versions: 4\n      }" in copy
    assert 'key: "stable"\n      value: 4\n' in copy


def test_a_copy_that_is_spoilt_is_written_anew(rig: Rig) -> None:
    """Bytes that are no text, as a disk may leave them."""
    for start in (lambda: None, rig.start):
        (rig.out / COPY).write_bytes(b"\xff\xfe\x80")
        start()
        assert rig.look() == rig.file.read_text()
    assert rig.metric() == {}


def test_what_a_failing_look_did_not_see_is_still_so(rig: Rig) -> None:
    """While no copy can be written, a fault from before is neither ended nor reported once more."""
    spoil(version(rig.root, "demo", 3))
    rig.look()
    (rig.out / "models.new").mkdir()
    rig.write(TWO + label("stable", 1))
    rig.look()
    assert rig.metric() == {"VERSION_UNREADABLE": 1, "KEEPER_FAILED": 1}
    (rig.out / "models.new").rmdir()
    rig.look()
    assert rig.said() == [
        "VERSION_UNREADABLE: demo vers",
        "KEEPER_FAILED: the model",
        "no longer so: KEEPER_FA",
    ]


def test_a_look_that_fails_in_an_unknown_way_is_not_the_last(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported, the copy stands, and the next look goes on."""
    before = rig.copy
    rig.write(TWO + label("stable", 1))
    with monkeypatch.context() as patched:
        patched.setattr("seqserve.service.keeper.keeper.check", lambda *_: 1 / 0)
        assert rig.look() == before
    assert rig.metric() == {"KEEPER_FAILED": 1}
    assert rig.look() == rig.file.read_text()
    assert rig.metric() == {}


def test_a_start_without_any_valid_file_is_answered(rig: Rig) -> None:
    """And the log does not say that a copy was checked."""
    (rig.out / COPY).unlink()
    rig.file.write_text("")
    rig.start()
    (rig.out / "a.ask").touch()
    rig.keeper.look()
    assert list(rig.out.iterdir()) == []
    assert "a model server starts, unchecked: no file was valid yet" in rig.messages()
