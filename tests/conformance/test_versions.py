"""How TensorFlow Serving takes up new versions and lets old ones go."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from grpc import StatusCode

from tests.conformance.calls import Call, Client, State, Versions, entries, refusal, tensor, until
from tests.conformance.modules import shorten, write_version
from tests.conformance.roots import ADDRESS, COMMAND, CONFIG

RUN_SECONDS = 5.0 if {ADDRESS, COMMAND} & set(os.environ) else 1.5
"""Longer than a new version takes to come: a server elsewhere may look at its folders once a second."""
WAY = [State.START, State.LOADING, State.AVAILABLE, State.UNLOADING, State.END]


def numbers(root: Path, model: str) -> list[int]:
    """Return the numbers that a model's folders have, in order."""
    return sorted(int(path.name) for path in (root / model).iterdir() if path.name.isdecimal())


def beside(root: Path, model: str) -> tuple[Path, Path]:
    """Write a model's next version beside; return it and its place to be."""
    number = 1 + numbers(root, model)[-1]
    return write_version(root / f".next-{model}", number), root / model / str(number)


def add(root: Path, model: str, warmup: str | None = None) -> int:
    """Publish a model's next version; return its number."""
    number = 1 + numbers(root, model)[-1]
    write_version(root / model, number, warmup=warmup)
    return number


def add_corrupt(root: Path, model: str) -> int:
    """Publish a version whose weights end too soon."""
    aside, place = beside(root, model)
    shorten(aside)
    aside.rename(place)
    return int(place.name)


def available(versions: Versions) -> list[int]:
    """Return the versions that can be called, newest first."""
    return sorted((n for n, status in versions.items() if status.state == State.AVAILABLE), reverse=True)


def test_a_new_version_comes_before_the_old_one_goes(client: Client, model_root: Path) -> None:
    """`latest 1`: at no moment is there none, states go forward only, and then the old one is END."""
    (old,) = available(client.versions("newest"))
    new = add(model_root, "newest")
    seen = client.until("newest", lambda v: available(v) == [new] and v[old].state == State.END)
    assert all(available(versions) for versions in seen)
    for number in (old, new):
        states = [WAY.index(versions[number].state) for versions in seen if number in versions]
        assert states == sorted(states)
    assert client.number(model="newest") == new
    error = refusal(lambda: client.predict(Call(model="newest", version=old)))
    assert error.code() is StatusCode.NOT_FOUND
    assert error.details() == f"Servable not found for request: Specific(newest, {old})"


def test_callers_notice_no_change_of_version(client: Client, model_root: Path) -> None:
    """While versions change, unpinned calls are all answered, each by the version that it names."""
    done = threading.Event()

    def call() -> set[int]:
        called = set()
        while not done.is_set():
            called.add(client.number(model="newest"))
        return called

    with ThreadPoolExecutor(2) as pool:
        (old,) = available(client.versions("newest"))
        callers = [pool.submit(call) for _ in range(2)]
        try:
            new = add(model_root, "newest")
            client.until("newest", lambda v: available(v) == [new])
        finally:
            done.set()
        for caller in callers:
            assert caller.result() <= {old, new}


def test_latest_two_keeps_two(client: Client, model_root: Path) -> None:
    """`latest 2`: the two newest can be called by number, the third is END."""
    second = add(model_root, "two")
    client.until("two", lambda v: second in available(v))
    third = add(model_root, "two")
    seen = client.until("two", lambda v: available(v) == [third, second])
    assert all(available(versions) for versions in seen)
    client.until("two", lambda v: v[second - 1].state == State.END)
    assert [client.number(model="two", version=n) for n in (second, third)] == [second, third]
    assert refusal(lambda: client.number(model="two", version=second - 1)).code() is StatusCode.NOT_FOUND


def test_statuses_are_newest_first_and_ended_ones_stay(client: Client, model_root: Path) -> None:
    """GetModelStatus remembers what was, without an error where there was none."""
    (old,) = available(client.versions("newest"))
    new = add(model_root, "newest")
    client.until("newest", lambda v: v.get(new) is not None and v[old].state == State.END)
    statuses = client.statuses("newest")
    listed = [status.version for status in statuses]
    assert listed == sorted(listed, reverse=True)
    assert listed[:2] == [new, old]
    assert statuses[1].status.error_code == 0


@pytest.mark.parametrize("model", ["newest", "two"])
def test_a_corrupt_version_ends_and_the_last_good_one_serves_on(
    client: Client, model_root: Path, model: str
) -> None:
    """It is END with an error code and a message; calls without a number go to the good one."""
    good = available(client.versions(model))[0]
    bad = add_corrupt(model_root, model)
    try:
        seen = client.until(model, lambda v: bad in v and v[bad].state == State.END)
        assert all(good in available(versions) for versions in seen)
        assert seen[-1][bad].status.error_code
        assert seen[-1][bad].status.error_message
        assert client.number(model=model) == good
        assert refusal(lambda: client.number(model=model, version=bad)).code() is StatusCode.NOT_FOUND
    finally:
        after = add(model_root, model)
        client.until(model, lambda v: after in available(v))
        shutil.rmtree(model_root / model / str(bad))


def test_a_corrupt_version_stays_in_the_status_when_it_is_gone(client: Client, model_root: Path) -> None:
    """END and the error are listed on after its folder was removed, until the number is used again."""
    bad = add_corrupt(model_root, "two")
    (seen,) = client.until("two", lambda v: bad in v and v[bad].state == State.END)[-1:]
    shutil.rmtree(model_root / "two" / str(bad))
    newest = add(model_root, "newest")  # takes some looks at the folders
    client.until("newest", lambda v: newest in available(v))
    assert client.versions("two")[bad] == seen[bad]
    write_version(model_root / "two", bad)
    client.until("two", lambda v: bad in available(v))
    assert client.versions("two")[bad].status.error_code == 0


@contextmanager
def taken_away(folder: Path) -> Iterator[None]:
    """Move a version out of sight, as one whose removal is a single step; then remove it."""
    hidden = folder.parent.parent / f".gone-{folder.parent.name}-{folder.name}"
    folder.rename(hidden)
    yield
    shutil.rmtree(hidden)


def test_a_version_taken_away_is_unloaded(client: Client, model_root: Path) -> None:
    """The directory goes, the version is END and NOT_FOUND, and the one before it answers."""
    last = add(model_root, "two")
    client.until("two", lambda v: last in available(v))
    with taken_away(model_root / "two" / str(last)):
        client.until("two", lambda v: v[last].state == State.END)
    assert refusal(lambda: client.number(model="two", version=last)).code() is StatusCode.NOT_FOUND
    client.until("two", lambda v: len(available(v)) == 2)
    assert client.number(model="two") < last


def test_a_version_can_come_back(client: Client, model_root: Path) -> None:
    """A number that went is loaded anew when its directory is back."""
    last = add(model_root, "two")
    client.until("two", lambda v: last in available(v))
    with taken_away(model_root / "two" / str(last)):
        client.until("two", lambda v: v[last].state == State.END)
    write_version(model_root / "two", last)
    client.until("two", lambda v: last in available(v))
    assert client.number(model="two") == last


def test_only_numbers_are_versions(client: Client, model_root: Path) -> None:
    """Folders of other names are passed over, so a version may be written beside and then renamed."""
    for name in (".9000", "9000.tmp", "v9000"):
        write_version(model_root / ".aside", 9000).rename(model_root / "newest" / name)
    try:
        before = max(client.versions("newest"))
        after = add(model_root, "newest")
        client.until("newest", lambda v: available(v) == [after])
        assert sorted(client.versions("newest"), reverse=True)[:2] == [after, before]
    finally:
        for name in (".9000", "9000.tmp", "v9000"):
            shutil.rmtree(model_root / "newest" / name)


@pytest.mark.parametrize("model", ["newest", "demo"], ids=["the same model", "another model"])
def test_a_call_under_way_delays_the_change_of_version(client: Client, model_root: Path, model: str) -> None:
    """While a call runs, a new version is LOADING, though calls without a number go to it; the old one stays.

    When the call has ended, and ended well, the new one is AVAILABLE and the old one END.
    """

    def run(steps: int) -> int:
        """Take so many steps of a loop, in the version that is there before."""
        call = Call({"steps": tensor(steps, "int32")}, "slow", model, before)
        return entries(client.predict(call).outputs["steps"])[0]

    (old,), before = available(client.versions("newest")), available(client.versions(model))[0]
    run(1)  # the first is slow
    start = time.perf_counter()
    run(20_000)
    steps = int(20_000 * RUN_SECONDS / (time.perf_counter() - start))
    aside, place = beside(model_root, "newest")
    new = int(place.name)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(run, steps)
        aside.rename(place)
        until(lambda: client.number(model="newest"), lambda number: number == new)
        versions = client.versions("newest")
        pinned = client.number(model="newest", version=old)
        assert not under_way.done()  # else the rest shows nothing
        assert (versions[new].state, versions[old].state) == (State.LOADING, State.AVAILABLE)
        assert pinned == old
        assert under_way.result() == steps
    client.until("newest", lambda v: available(v) == [new] and v[old].state == State.END)


def test_a_version_that_fails_its_warmup_ends(client: Client, model_root: Path) -> None:
    """The warm-up records are run at load: where one fails, the version is END, with that error."""
    (good,) = available(client.versions("newest"))
    bad = 1 + numbers(model_root, "newest")[-1]
    write_version(model_root / "newest", bad, warmup="zzz")
    seen = client.until("newest", lambda v: bad in v and v[bad].state == State.END)
    assert seen[-1][bad].status.error_code == StatusCode.FAILED_PRECONDITION.value[0]
    assert seen[-1][bad].status.error_message == 'Serving signature key "zzz" not found.'
    assert available(seen[-1]) == [good]
    warm = add(model_root, "newest", warmup="serving_default")
    client.until("newest", lambda v: available(v) == [warm])
    shutil.rmtree(model_root / "newest" / str(bad))


def test_the_configuration_file_is_read_once(client: Client, model_root: Path) -> None:
    """Without --model_config_file_poll_wait_seconds an edited file moves no label."""
    path = model_root / CONFIG
    text = path.read_text()
    try:
        path.write_text(text.replace('"stable" value: 1', '"stable" value: 2'))
        assert path.read_text() != text
        new = add(model_root, "newest")
        client.until("newest", lambda v: available(v) == [new])
        assert client.number(label="stable") == 1
    finally:
        path.write_text(text)
