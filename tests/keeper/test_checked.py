"""What the checked copy leaves out, and what it says of it."""

import shutil
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from seqserve.service.keeper.checked import Checked, check
from seqserve.service.keeper.readable import Reader
from tests.keeper.made import TWO, config, label, spoil, version


def copied(checked: Checked) -> dict[str, object]:
    """Return the copy's models by name, as TensorFlow Serving reads them."""
    read = text_format.Parse(checked.text, ModelServerConfig())
    assert read.WhichOneof("config") == "model_config_list"  # else a server could never go on to a list
    return {model.name: model for model in read.model_config_list.config}


def reasons(checked: Checked) -> list[tuple[str, str, str, str]]:
    """Return what is wrong, without the wording."""
    return [(f.reason, f.model, f.version, f.label) for f in checked.faults]


def test_what_can_be_had_is_copied_as_it_is(tmp_path: Path) -> None:
    """Byte for byte: comments and fields that are not known here stay."""
    version(tmp_path, "demo", 1)
    text = "# mine\n" + config(tmp_path, {"demo": TWO + label("stable", 1) + " logging_config { }"})
    checked = check(text, Reader())
    assert (checked.text, checked.versions, checked.faults) == (text, {"demo": frozenset({1})}, ())


def test_a_version_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    """`latest 2` becomes the two newest that can be read, by number; the policy is back with the version."""
    for number in (1, 2, 3):
        version(tmp_path, "demo", number)
    spoil(version(tmp_path, "demo", 4))
    text = config(tmp_path, {"demo": TWO})
    checked = check(text, Reader())
    assert list(copied(checked)["demo"].model_version_policy.specific.versions) == [2, 3]
    assert reasons(checked) == [("VERSION_UNREADABLE", "demo", "4", "")]
    assert "demo version 4 cannot be read: saved_model.pb: it is cut short" in checked.faults[0].why
    version(tmp_path, "demo", 4)
    assert check(text, Reader()).text == text


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("", [2]),
        ("model_version_policy { all {} }", [1, 2]),
        ("model_version_policy { specific { versions: 1 versions: 3 } }", [1]),
    ],
    ids=["the newest", "all", "specific"],
)
def test_every_policy_passes_it_over(tmp_path: Path, policy: str, kept: list[int]) -> None:
    """Of versions 1, 2 and a spoilt 3, each policy serves those of its choice that can be read."""
    for number in (1, 2, 3):
        version(tmp_path, "demo", number)
    spoil(tmp_path / "demo" / "3")
    checked = check(config(tmp_path, {"demo": policy}), Reader())
    assert list(copied(checked)["demo"].model_version_policy.specific.versions) == kept
    assert reasons(checked) == [("VERSION_UNREADABLE", "demo", "3", "")]


def test_a_model_without_a_version_is_left_out(tmp_path: Path) -> None:
    """No folder, an empty one, one whose only version is spoilt, one whose policy keeps none of its own."""
    version(tmp_path, "demo", 1)
    (tmp_path / "empty").mkdir()
    spoil(version(tmp_path, "spoilt", 1))
    version(tmp_path, "other", 1)
    specific = "model_version_policy { specific { versions: 9 } }" + label("stable", 9)
    names = {"demo": TWO, "gone": TWO, "empty": TWO, "spoilt": TWO, "other": specific}
    checked = check(config(tmp_path, names), Reader())
    assert set(copied(checked)) == {"demo"}
    assert {f.model: f.why for f in checked.faults if f.reason == "NO_VERSION"} == {
        "gone": f"gone is left out: {tmp_path / 'gone'} is not there",
        "empty": f"empty is left out: {tmp_path / 'empty'} has no version",
        "spoilt": "spoilt is left out: none of its versions can be read",
        "other": f"other is left out: its policy keeps none of the versions in {tmp_path / 'other'}",
    }


def test_nothing_to_serve_is_a_list_too(tmp_path: Path) -> None:
    """Before the first model is there, the copy is an empty list, with which a server starts."""
    assert copied(check(config(tmp_path, {"demo": TWO}), Reader())) == {}


def test_a_label_of_a_version_that_is_not_served_is_left_out(tmp_path: Path) -> None:
    """One that the policy does not keep and one that is not there; the others stay."""
    for number in (1, 2, 3):
        version(tmp_path, "demo", number)
    labels = label("stable", 3) + label("old", 1) + label("next", 4)
    checked = check(config(tmp_path, {"demo": TWO + labels}), Reader())
    assert dict(copied(checked)["demo"].version_labels) == {"stable": 3}
    assert sorted(reasons(checked)) == [
        ("LABEL_NOWHERE", "demo", "1", "old"),
        ("LABEL_NOWHERE", "demo", "4", "next"),
    ]
    version(tmp_path, "demo", 4)
    checked = check(config(tmp_path, {"demo": TWO + labels}), Reader())
    assert dict(copied(checked)["demo"].version_labels) == {"stable": 3, "next": 4}


def test_a_served_version_stays_until_the_next_start(tmp_path: Path) -> None:
    """A server has it in memory: that its files are spoilt is reported, and does not end it."""
    version(tmp_path, "demo", 1)
    spoil(version(tmp_path, "demo", 2))
    text = config(tmp_path, {"demo": TWO})
    checked = check(text, Reader(), held={"demo": frozenset({1, 2})})
    assert checked.text == text
    assert reasons(checked) == [("VERSION_UNREADABLE", "demo", "2", "")]


def test_folders_may_lie_elsewhere(tmp_path: Path) -> None:
    """`root` holds the folders that base_path names, as on another machine."""
    version(tmp_path, "demo", 1)
    text = config(Path("/models"), {"demo": TWO})
    assert check(text, Reader(), tmp_path).faults == ()
    assert reasons(check(text, Reader(), tmp_path / "nope")) == [("NO_VERSION", "demo", "", "")]


def test_a_store_of_objects_is_not_looked_into(tmp_path: Path) -> None:
    """A base path that is a URI is copied as it is."""
    fields = 'name: "demo" base_path: "s3://models/demo" model_platform: "tensorflow"'
    text = f"model_config_list {{ config {{ {fields} }} }}"
    assert check(text, Reader()).text == text


def test_a_field_that_the_copy_loses_is_named(tmp_path: Path) -> None:
    """Only where the copy differs from the original."""
    version(tmp_path, "demo", 1)
    checked = check(config(tmp_path, {"demo": TWO + " logging_config { }", "gone": TWO}), Reader())
    assert [f.reason for f in checked.faults] == ["NO_VERSION", "FIELD_UNKNOWN"]
    assert "logging_config" in checked.faults[1].why


@pytest.mark.parametrize("text", ["", "model_config_list {", 'model_config_list { config { name: "a" } }'])
def test_what_is_no_config_is_refused(text: str) -> None:
    """As the gateway refuses it."""
    with pytest.raises(ValueError, match=r"name|Expected|base_path"):
        check(text, Reader())


def test_a_model_without_a_platform_is_refused(tmp_path: Path) -> None:
    """TensorFlow Serving refuses the whole file for it, and at a start it ends."""
    version(tmp_path, "demo", 1)
    text = config(tmp_path, {"demo": TWO}).replace('model_platform: "tensorflow"', "")
    with pytest.raises(ValueError, match="demo: model_platform is empty"):
        check(text, Reader())


def test_two_names_may_share_a_folder(tmp_path: Path) -> None:
    """Each gets the versions of its own policy."""
    for number in (1, 2):
        version(tmp_path, "demo", number)
    spoil(version(tmp_path, "demo", 3))
    text = config(tmp_path, {"demo": TWO, "newest": ""}).replace(str(tmp_path / "newest"), f"{tmp_path}/demo")
    checked = check(text, Reader())
    assert checked.versions == {"demo": frozenset({1, 2}), "newest": frozenset({2})}
    assert reasons(checked) == [
        ("VERSION_UNREADABLE", "demo", "3", ""),
        ("VERSION_UNREADABLE", "newest", "3", ""),
    ]


def test_a_folder_that_cannot_be_looked_at_concerns_no_other_model(tmp_path: Path) -> None:
    """What a running server has of it stays as it is; for a start it is left out."""
    name = "x" * 300  # longer than a file's name may be, so that even root cannot look
    version(tmp_path, "demo", 1)
    text = config(tmp_path, {"demo": TWO, name: TWO + label("stable", 2) + label("old", 1)})
    for held in ({}, {"demo": frozenset({1})}):
        checked = check(text, Reader(), held=held)
        assert set(copied(checked)) == {"demo"}
        assert reasons(checked) == [("NO_VERSION", name, "", "")]
        assert "File name too long" in checked.faults[0].why
    checked = check(text, Reader(), held={name: frozenset({2, 3})})
    model = copied(checked)[name]
    assert list(model.model_version_policy.specific.versions) == [2, 3]
    assert dict(model.version_labels) == {"stable": 2}
    assert checked.versions[name] == {2, 3}
    assert reasons(checked) == [("KEEPER_FAILED", name, "", ""), ("LABEL_NOWHERE", name, "1", "old")]


def test_storage_that_goes_takes_no_model_from_a_running_server(tmp_path: Path) -> None:
    """Where all folders are missing it keeps what it has, as by itself; one removed alone is left out."""
    for model in ("demo", "other"):
        version(tmp_path, model, 1)
    text, held = (
        config(tmp_path, {"demo": TWO, "other": TWO}),
        dict.fromkeys(("demo", "other"), frozenset({1})),
    )
    shutil.rmtree(tmp_path / "demo")
    assert reasons(check(text, Reader(), held=held)) == [("NO_VERSION", "demo", "", "")]
    shutil.rmtree(tmp_path / "other")
    for root in (tmp_path, tmp_path / "unmounted"):
        checked = check(text.replace(f"{tmp_path}/", f"{root}/"), Reader(), held=held)
        assert checked.versions == held
        assert set(copied(checked)) == set(held)
        assert [(f.reason, f.model) for f in checked.faults] == [("KEEPER_FAILED", m) for m in held]
    assert copied(check(text, Reader())) == {}


def test_a_version_may_lie_elsewhere(tmp_path: Path) -> None:
    """A link to its folder is followed, changes there too; one that leads nowhere is no version."""
    elsewhere = version(tmp_path, "store", 7)
    version(tmp_path, "demo", 1)
    (tmp_path / "demo" / "2").symlink_to(elsewhere)
    (tmp_path / "demo" / "3").symlink_to(tmp_path / "nowhere")
    reader, text = Reader(), config(tmp_path, {"demo": TWO})
    assert check(text, reader).versions == {"demo": frozenset({1, 2})}
    spoil(elsewhere)
    checked = check(text, reader)
    assert checked.versions == {"demo": frozenset({1})}
    assert [(f.version, f.why.partition(": ")[2]) for f in checked.faults] == [
        ("3", "3 is no folder"),
        ("2", "saved_model.pb: it is cut short, or no message"),
    ]


def test_a_version_beside_which_its_copy_is_being_made(tmp_path: Path) -> None:
    """An empty folder of a number beside N.tmp: the number alone counts, and cannot be read."""
    version(tmp_path, "demo", 1)
    (tmp_path / "demo" / "2").mkdir()
    version(tmp_path, "demo", "2.tmp")
    checked = check(config(tmp_path, {"demo": TWO}), Reader())
    assert list(copied(checked)["demo"].model_version_policy.specific.versions) == [1]
    assert reasons(checked) == [("VERSION_UNREADABLE", "demo", "2", "")]
