"""Errors as REST writes them."""

import json

import pytest

from seqserve.service import errors
from seqserve.service.errors import SeqserveError
from seqserve.service.rest.problems import problem


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.QueueFull("full", retry_after=1.2), {"retry-after": "2"}),
        (errors.NotReady("starting"), {"retry-after": "1"}),
        (errors.MethodNotAllowed("no", allowed=("GET", "POST")), {"allow": "GET, POST"}),
        (errors.Unauthenticated("who?"), {"www-authenticate": 'Bearer realm="seqserve"'}),
        (errors.UnsupportedMediaType("no", encodings=("gzip", "br")), {"accept-encoding": "gzip, br"}),
        (errors.EmptyText("empty"), {}),
    ],
)
def test_what_a_client_can_act_on_is_in_the_headers(error: SeqserveError, headers: dict[str, str]) -> None:
    written = dict(problem(error).headers)
    assert {name: written[name] for name in written if not name.startswith("content-")} == headers
    assert written["content-type"] == "application/problem+json"


def test_a_place_is_a_pointer_in_its_fragment_form() -> None:
    error = errors.WrongType("no", path=("sequences", 0, "a/b ~c", 2))
    body = json.loads(bytes(problem(error).body))
    assert body["errors"] == [
        {"pointer": "#/sequences/0/a~1b%20~0c/2", "detail": "no", "reason": "WRONG_TYPE"}
    ]
    assert (body["type"], body["status"], body["code"]) == (
        "urn:seqserve:reason:wrong-type",
        400,
        "INVALID_ARGUMENT",
    )
