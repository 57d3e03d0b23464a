"""Requests that only REST can get wrong."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.doors import both_doors, translate

MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"texts": "two"}',
    b'{"texts": [2]}',
    b'{"texts": ["two"], "beam": 4}',
    b'{"texts": [0, 0, 0, 0]}',
    b"{" + b",".join(b'"%d": 0' % n for n in range(100_000)) + b"}",
    b'{"texts": ["two"], "sampling": {' + b",".join(b'"%d": 0' % n for n in range(100_000)) + b"}}",
    b'{"texts": ["two"], "beam_size": 1.5}',
    b'{"texts": ["two"], "beam_size": true}',
    b'{"texts": ["two"], "length_penalty": NaN}',
    b'{"texts": ["two"], "length_penalty": Infinity}',
    b'{"texts": ["two"], "length_penalty": 1e400}',
    b'{"texts": ["\\ud800"]}',
    b'{"texts": ["\xff\xfe"]}',
    b'{"texts": ' + b"[" * 100_000,
]


async def test_what_only_rest_can_get_wrong(root: Path) -> None:
    """Bodies that are not JSON or not of the form, types, sizes, paths and methods: each its reason."""
    url, json_type = "/v1/models/en-de:translate", {"Content-Type": "application/json"}
    async with both_doors(root) as both:

        async def reason(method: str, path: str, **request: Any) -> tuple[int, str]:
            response = await both.rest.request(method, path, **request)
            problem = response.json()
            assert response.headers["content-type"] == "application/problem+json"
            assert problem["status"] == response.status_code
            assert problem["request_id"] == response.headers["x-request-id"]
            return response.status_code, problem["reason"]

        for content in MALFORMED:
            refused = await reason("POST", url, content=content, headers=json_type)
            assert refused == (400, "MALFORMED_JSON"), content[:60]
        many = {"content": b'{"texts": [' + b"0," * 1_000_000 + b"0]}", "headers": json_type}
        assert await reason("POST", url, **many) == (400, "TOO_MANY_ITEMS")
        large = b'{"texts": ["' + b"x" * (17 * 2**20)
        assert await reason("POST", url, content=large, headers=json_type) == (413, "BODY_TOO_LARGE")
        assert await reason("POST", url, content=chunks(large), headers=json_type) == (413, "BODY_TOO_LARGE")
        wrong_type = {"content": b"two", "headers": {"Content-Type": "text/plain"}}
        assert await reason("POST", url, **wrong_type) == (415, "UNSUPPORTED_MEDIA_TYPE")
        assert await reason("POST", "/v1/nothing", json={}) == (404, "ROUTE_NOT_FOUND")
        assert await reason("GET", "/v1/models/") == (404, "ROUTE_NOT_FOUND")
        assert await reason("DELETE", url) == (405, "METHOD_NOT_ALLOWED")
        late = {**json_type, "Grpc-Timeout": "soon"}
        assert (await reason("POST", url, content=b"{}", headers=late))[1] == "OPTION_OUT_OF_RANGE"
        assert (await both.by_rest(translate()))[0] == (await both.by_grpc(translate()))[0]


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    """Send a body whose length is not declared."""
    for at in range(0, len(data), 2**20):
        yield data[at : at + 2**20]
