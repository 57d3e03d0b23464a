"""The client's errors are the service's: a class for each reason."""

from itertools import chain

import pytest

from seqserve.client import errors
from seqserve.client.errors import base
from seqserve.service.errors import leaves


def test_there_is_a_class_for_each_reason_of_the_service() -> None:
    """With its name, code and line in the documented table; and no other."""
    service = {
        kind.reason: (kind.__name__, kind.code.value, (kind.__doc__ or "").splitlines()[0])
        for kind in leaves()
        if kind.__module__.startswith("seqserve.service.errors")
    }
    own = {"UNREACHABLE", "NO_ANSWER"}
    kinds = [kind for kind in base.kinds() if kind.reason and kind.reason not in own]
    assert {kind.reason: (kind.__name__, kind.code, kind.__doc__) for kind in kinds} == service
    assert all(getattr(errors, name) for name in chain(*(name[:1] for name in service.values())))


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("RESOURCE_EXHAUSTED", "QUEUE_FULL", errors.QueueFull),
        ("RESOURCE_EXHAUSTED", "LATER_INVENTED", errors.ResourceExhausted),
        ("LATER_INVENTED", "LATER_INVENTED", errors.ServiceError),
        ("UNAVAILABLE", "UNREACHABLE", errors.Unavailable),
    ],
)
def test_a_reason_that_is_not_known_is_of_its_code(
    code: str, reason: str, kind: type[errors.ServiceError]
) -> None:
    """So that a newer service can be called."""
    assert errors.kind_of(code, reason) is kind


def test_what_is_printed_says_reason_and_message() -> None:
    """Of a reason without a class too."""
    assert str(errors.EmptyText("the text is empty")) == "EMPTY_TEXT: the text is empty"
    assert str(errors.ServiceError("no", code="INTERNAL")) == "INTERNAL: no"
