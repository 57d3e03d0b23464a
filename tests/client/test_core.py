"""What is sent, when and how often, step by step: no service, no clock, no sleep."""

from collections.abc import Callable
from typing import Any

import pytest

from seqserve.client import Answers, ModelVersion, Translation, errors
from seqserve.client.asking import Ask, Kind, Which
from seqserve.client.core import Core, Send, Steps, Together, Wait
from seqserve.client.errors import ServiceError, Violation

MODEL = ModelVersion("en-de", 7, "sha256:0")
Answering = Callable[[Ask], Any]


class World:
    """A service that is a function, on a clock of its own, which waits and calls advance."""

    def __init__(self, answer: Answering, seconds: float = 0.0, **options: Any) -> None:
        self.now = 0.0
        self.core = Core(
            **{"timeout": 60.0, "retries": 3, **options}, clock=lambda: self.now, chance=lambda: 0.5
        )
        self.sent: list[Ask] = []
        self.seconds: list[float | None] = []
        self.waits: list[float] = []
        self._answer = answer
        self._takes = seconds

    def run(self, steps: Steps[Any]) -> Any:
        """Take steps to their end, those that may be taken at once in turn."""
        try:
            step = next(steps)
            while True:
                try:
                    came = self._take(step)
                except ServiceError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(came)
        except StopIteration as end:
            return end.value

    def _take(self, step: Any) -> Any:
        match step:
            case Send():
                self.sent.append(step.ask)
                self.seconds.append(step.seconds)
                self.now += self._takes
                return self._answer(step.ask)
            case Wait():
                self.waits.append(step.seconds)
                self.now += step.seconds
            case Together():
                return [self.run(steps) for steps in step.all]
        return None

    def translate(self, texts: list[str], **options: Any) -> Any:
        """Translate a list."""
        return self.run(self.core.ask_list(Kind.TRANSLATE, "en-de", texts, options))

    def lists(self) -> list[list[str]]:
        """Return the texts of each request."""
        return [list(ask.body["texts"]) for ask in self.sent]


def upper(ask: Ask) -> Answers[Any]:
    """Translate to capitals; a text with nothing in it fails, and all of them fail the request."""
    texts = ask.body["texts"]
    faults = [Violation(f"#/texts/{i}", "empty", "EMPTY_TEXT") for i, text in enumerate(texts) if not text]
    if len(faults) == len(texts):
        raise errors.EmptyText("empty", errors=faults)
    kept = {int(fault.pointer.rpartition("/")[2]): fault for fault in faults}
    items = [
        errors.EmptyText("empty", errors=[kept[i]]) if i in kept else Translation(text.upper())
        for i, text in enumerate(texts)
    ]
    return Answers(MODEL, tuple(items))


def failing(*told: ServiceError) -> Answering:
    """Fail so, one after the other, then answer."""
    left = list(told)

    def answer(ask: Ask) -> Any:
        if left:
            raise left.pop(0)
        return upper(ask) if ask.kind is Kind.TRANSLATE else "done"

    return answer


# --- what is sent again ------------------------------------------------------------------------------


def test_what_was_refused_for_now_is_sent_again_after_the_hint() -> None:
    """Never before it; later by chance, more so each time."""
    world = World(failing(errors.QueueFull("full", retry_after=2), errors.RateLimited("much", retry_after=1)))
    assert world.translate(["a"]).items == (Translation("A"),)
    assert world.waits == [2.05, 1.1]
    assert world.seconds == [60.0, 57.95, 56.85]


def test_so_many_retries_and_no_more() -> None:
    """Then the last error is raised."""
    told = [errors.BackendUnavailable(str(i)) for i in range(4)]
    world = World(failing(*told), retries=2)
    with pytest.raises(errors.BackendUnavailable) as raised:
        world.translate(["a"])
    assert (raised.value, len(world.sent)) == (told[2], 3)


def test_a_wait_that_would_outlast_the_deadline_is_not_begun() -> None:
    """What the service said is raised at once."""
    world = World(failing(errors.QueueFull("full", retry_after=2)))
    with pytest.raises(errors.QueueFull):
        world.translate(["a"], timeout=2.0)
    assert world.waits == []


def test_the_deadline_is_of_all_tries_together() -> None:
    """Each is given what is left; where nothing is, none is sent."""
    told = [errors.NotReady("wait", retry_after=1)] * 3
    world = World(failing(*told), seconds=3.0, timeout=10.0)
    with pytest.raises(errors.NotReady):
        world.translate(["a"])
    assert world.seconds == pytest.approx([10.0, 5.95, 1.85])
    late = World(failing(), seconds=30.0)
    late.core._most_items = 1
    with pytest.raises(errors.DeadlineExceeded):
        late.translate(["a", "b", "c"])
    assert len(late.sent) == 2


def test_without_a_timeout_there_is_no_deadline() -> None:
    """The service has one of its own."""
    world = World(failing(errors.Draining("later")), timeout=None)
    world.translate(["a"])
    assert world.seconds == [None, None]


REFUSED = [
    errors.QueueFull("", retry_after=1),
    errors.RateLimited(""),
    errors.NotReady(""),
    errors.Draining(""),
]
UNSENT, BROKEN = errors.Unreachable("", sent=False), errors.Unreachable("", sent=True)
DOUBTFUL = [BROKEN, errors.BackendUnavailable(""), errors.SessionsUnavailable(""), errors.Unavailable("")]
FINAL = [
    errors.DeadlineExceeded(""),
    errors.EventConflict(""),
    errors.BackendFailed(""),
    errors.NoAnswer(""),
    errors.ModelNotFound(""),
]
REPEATABLE = [Kind.LIST_MODELS, Kind.GET_MODEL, Kind.APPEND, Kind.GET_SESSION]
ONCE = [Kind.CREATE_SESSION, Kind.DELETE_SESSION]


@pytest.mark.parametrize(
    ("kind", "error", "tries"),
    [
        *((kind, error, 2) for kind in REPEATABLE for error in [*REFUSED, UNSENT, *DOUBTFUL]),
        *((kind, error, 2) for kind in ONCE for error in [*REFUSED, UNSENT]),
        *((kind, error, 1) for kind in ONCE for error in DOUBTFUL),
        *((kind, error, 1) for kind in [*REPEATABLE, *ONCE] for error in FINAL),
    ],
)
def test_what_may_have_been_done_is_not_done_again(kind: Kind, error: ServiceError, tries: int) -> None:
    """An append is told by its number; a second session would be one too many."""
    world = World(failing(error))
    steps = world.core.ask(Ask(kind, Which("shop")), None)
    if tries == 1:
        with pytest.raises(type(error)):
            world.run(steps)
    else:
        assert world.run(steps) == "done"
    assert len(world.sent) == tries


# --- how lists are cut -------------------------------------------------------------------------------


def taking(most: int, told: type[ServiceError] = errors.TooManyItems) -> Answering:
    """Answer lists of so many items."""

    def answer(ask: Ask) -> Any:
        if len(ask.body["texts"]) > most:
            raise told("too many")
        return upper(ask)

    return answer


@pytest.mark.parametrize("count", [1, 8, 9, 20, 1024, 1025, 3000])
def test_a_long_list_is_cut_and_answered_in_order(count: int) -> None:
    """Each text once, and in its place."""
    texts = [f"t{i}" for i in range(count)]
    world = World(taking(1024))
    answers = world.translate(texts)
    assert [item.text for item in answers.items] == [text.upper() for text in texts]
    assert [len(part) for part in world.lists()] == [min(1024, count - i) for i in range(0, count, 1024)]


def test_the_version_that_answers_first_answers_all() -> None:
    """Else a list could be answered by two."""
    world = World(taking(1024))
    world.run(world.core.ask_list(Kind.TRANSLATE, "en-de", ["a"] * 3000, {"label": "stable"}))
    asked = [ask.which for ask in world.sent]
    assert asked == [Which("en-de", label="stable"), Which("en-de", 7), Which("en-de", 7)]


def test_a_service_that_takes_fewer_items_is_sent_fewer_from_then_on() -> None:
    """It is found out once."""
    world = World(taking(8))
    texts = [f"t{i}" for i in range(20)]
    for _ in range(2):
        assert [item.text for item in world.translate(texts).items] == [text.upper() for text in texts]
    assert [len(part) for part in world.lists()] == [20, 10, 5, 5, 10, 5, 5, 5, 5, 5, 5]


@pytest.mark.parametrize(
    "told", [errors.BodyTooLarge, errors.RequestTooCostly, errors.ResourceExhausted, errors.MalformedMessage]
)
def test_a_request_that_is_too_large_is_sent_by_halves(told: type[ServiceError]) -> None:
    """Whatever it is too large for, and again where a half is; lists to come are not cut for it."""
    world = World(taking(2, told))
    assert [item.text for item in world.translate(list("abcde")).items] == list("ABCDE")
    assert [len(part) for part in world.lists()] == [5, 3, 2, 1, 2]
    assert world.core._most_items == 1024


def test_an_item_that_is_too_large_alone_harms_no_other() -> None:
    """It fails in its place."""

    def answer(ask: Ask) -> Any:
        if "c" in ask.body["texts"]:
            raise errors.RequestTooCostly("too costly")
        return upper(ask)

    items = World(answer).translate(list("abcd")).items
    assert [type(item) for item in items] == [Translation, Translation, errors.RequestTooCostly, Translation]


def test_a_part_in_which_every_item_fails_harms_no_other_part() -> None:
    """The request for it fails; in the whole list its items do, each in its place."""
    world = World(upper)
    world.core._most_items = 2
    answers = world.translate(["", "", "a", "b", "", ""])
    told = [item.errors[0].pointer if isinstance(item, ServiceError) else item.text for item in answers.items]
    assert told == ["#/texts/0", "#/texts/1", "A", "B", "#/texts/4", "#/texts/5"]


def test_a_list_in_which_every_item_fails_fails() -> None:
    """As a single request does: by the first one's error, with the faults of all."""
    world = World(upper)
    world.core._most_items = 2
    with pytest.raises(errors.EmptyText) as raised:
        world.translate([""] * 5)
    assert [fault.pointer for fault in raised.value.errors] == [f"#/texts/{i}" for i in range(5)]


def test_faults_that_were_left_out_are_asked_for() -> None:
    """gRPC tells as many as fit its trailers."""

    def answer(ask: Ask) -> Any:
        try:
            return upper(ask)
        except errors.EmptyText as error:
            kept = error.errors[:2]
            raise errors.EmptyText("", errors=kept, left_out=len(error.errors) - len(kept)) from None

    items = World(answer).translate([""] * 5 + ["a"] + [""] * 5).items
    assert [type(item) for item in items] == [errors.EmptyText] * 5 + [Translation] + [errors.EmptyText] * 5
    world = World(answer)
    with pytest.raises(errors.EmptyText) as raised:
        world.translate([""] * 5)
    assert [fault.pointer for fault in raised.value.errors] == [f"#/texts/{i}" for i in range(5)]


def test_a_fault_of_the_request_is_no_items_fault() -> None:
    """It is raised, and nothing else is sent."""
    told = errors.OptionOutOfRange("beams", errors=[Violation("#/beam_size", "beams", "OPTION_OUT_OF_RANGE")])
    world = World(failing(told))
    world.core._most_items = 1
    with pytest.raises(errors.OptionOutOfRange):
        world.translate(["a", "b"])
    assert len(world.sent) == 1


def test_a_version_and_a_label_are_one_too_many() -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match="not both"):
        World(upper).translate(["a"], version=1, label="stable")


def test_what_is_not_given_is_not_sent() -> None:
    """So that the service's defaults hold; None counts as not given."""
    world = World(upper)
    world.translate(["a"], beam_size=2, max_length=None, timeout=3, version=4)
    assert world.sent == [Ask(Kind.TRANSLATE, Which("en-de", 4), {"texts": ["a"], "beam_size": 2})]
