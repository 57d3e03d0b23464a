"""Who may call, at both doors of a whole service: the same is refused at each, and nothing tells a key."""

import io
import logging
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from seqserve.service.edge.keys import Line, new_key
from seqserve.v1 import model_pb2, model_pb2_grpc
from tests.edge.fakes import key_line
from tests.edge.service import (
    GET,
    HEALTH,
    LIST,
    OK,
    PREDICT,
    TRANSLATE,
    by_grpc,
    by_rest,
    listed,
    sent,
    service,
)
from tests.edge.test_tokens import AUDIENCE, ISSUER, KEYS, jwk, signed, written

ALL, NARROW, PAST = new_key(), new_key(), new_key()
INFERENCE = "/inference.GRPCInferenceService"
PREDICTION = "/tensorflow.serving.PredictionService"
DENIED, UNKNOWN = "PERMISSION_DENIED", "UNAUTHENTICATED"
TOKEN = signed(scope="predict:totals")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Of one who may everything, one who may predict with `totals`, and one that has expired."""
    past = Line.model_validate({**key_line("past", PAST).model_dump(), "expires": "2026-01-01T00:00:00Z"})
    return listed(tmp_path, key_line("all", ALL), key_line("narrow", NARROW, "predict:totals"), past)


@pytest.fixture
def settings(keys: Path, tmp_path: Path) -> dict[str, Any]:
    """Keys and tokens."""
    jwks = written(tmp_path, jwk("RS256", KEYS["RS256"]))
    return {"keys": keys, "jwt_jwks": jwks, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}


def bearer(secret: str) -> dict[str, str]:
    """Return what names its bearer."""
    return {"Authorization": f"Bearer {secret}"}


WHO: list[tuple[dict[str, str], str, str, str]] = [
    # who, then: predict by `totals`; translate by it; predict by `other`
    ({"X-API-Key": ALL}, OK, "WRONG_TASK", OK),
    (bearer(ALL), OK, "WRONG_TASK", OK),
    (bearer(NARROW), OK, DENIED, DENIED),
    (bearer(TOKEN), OK, DENIED, DENIED),
    (bearer(signed(scope=None)), DENIED, DENIED, DENIED),
    ({}, UNKNOWN, UNKNOWN, UNKNOWN),
    ({"X-API-Key": PAST}, UNKNOWN, UNKNOWN, UNKNOWN),
    ({"X-API-Key": new_key()}, UNKNOWN, UNKNOWN, UNKNOWN),
    ({"X-API-Key": ALL, **bearer(NARROW)}, UNKNOWN, UNKNOWN, UNKNOWN),
    (bearer(signed(aud="other")), UNKNOWN, UNKNOWN, UNKNOWN),
    ({"Authorization": f"Basic {ALL}"}, UNKNOWN, UNKNOWN, UNKNOWN),
]


async def test_both_doors_let_in_the_same(settings: dict[str, Any]) -> None:
    """By key or token, in either header; what a scope lacks is denied, whether or not there is the model."""
    async with service(**settings) as doors, doors.rest() as rest, doors.channel() as channel:
        for naming, may, translate, other in WHO:
            for model, wanted in (("totals", may), ("other", other)):
                assert await by_rest(rest, model, naming) == wanted
                assert await by_grpc(channel, model, naming) == wanted
            assert await by_rest(rest, "totals", naming, "translate") == translate
            raw = model_pb2.ModelSelector(name="totals").SerializeToString()
            request = b"\x0a" + bytes([len(raw)]) + raw
            metadata = tuple((name.lower(), value) for name, value in naming.items())
            assert await sent(channel, TRANSLATE, request, metadata) == translate
        for naming, wanted in ((bearer(NARROW), DENIED), (bearer(ALL), "MODEL_NOT_FOUND"), ({}, UNKNOWN)):
            assert await by_rest(rest, "nope", naming) == await by_grpc(channel, "nope", naming) == wanted


async def test_models_are_shown_to_who_may_use_them(settings: dict[str, Any]) -> None:
    """A list has only those; another's description is denied, as if it were not there."""
    async with service(**settings) as doors, doors.rest() as rest, doors.channel() as channel:
        stub: Any = model_pb2_grpc.ModelServiceStub(channel)
        for key, names in ((ALL, ["other", "totals"]), (NARROW, ["totals"]), (signed(scope=None), [])):
            by_http = (await rest.get("/v1/models", headers=bearer(key))).json()["models"]
            metadata = (("authorization", f"Bearer {key}"),)
            by_rpc = (await stub.ListModels(model_pb2.ListModelsRequest(), metadata=metadata)).models
            assert [model["name"] for model in by_http] == [model.name for model in by_rpc] == names
        for name, reason in (("totals", OK), ("other", DENIED), ("nope", DENIED)):
            answered = await rest.get(f"/v1/models/{name}", headers=bearer(NARROW))
            assert answered.json().get("reason", OK) == reason
            raw = model_pb2.GetModelRequest(name=name).SerializeToString()
            assert await sent(channel, GET, raw, (("x-api-key", NARROW),)) == reason
            assert "other" not in answered.text or name == "other"


async def test_what_needs_a_name_and_what_does_not(settings: dict[str, Any]) -> None:
    """Health does not; metrics, reflection and everything else does, before it says what is there."""
    async with service(**settings) as doors, doors.rest() as rest, doors.channel() as channel:
        for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
            for naming in ({}, bearer("nonsense"), {"Authorization": "Basic x"}):
                assert (await rest.get(path, headers=naming)).status_code == 200
        theirs = ("/v1/models/totals/versions/1", "/v1/models/totals/metadata", "/v2/models/totals")
        for path in (
            "/metrics",
            "/v1/models",
            "/v1/models/totals",
            "/nothing",
            "/v1/models/x:embed",
            *theirs,
        ):
            refused = await rest.get(path)
            assert (refused.status_code, refused.json()["reason"]) == (401, UNKNOWN)
            assert refused.headers["www-authenticate"] == 'Bearer realm="seqserve"'
            assert (await rest.get(path, headers=bearer(NARROW))).status_code != 401
        for metadata in ((), (("x-api-key", "nonsense"),)):
            for open_to_all in (HEALTH, f"{INFERENCE}/ServerLive", f"{INFERENCE}/ServerReady"):
                assert await sent(channel, open_to_all, b"", metadata) == OK
            for closed in (
                f"{INFERENCE}/ModelInfer",
                f"{INFERENCE}/ServerMetadata",
                f"{PREDICTION}/Predict",
                f"{PREDICT}Stream",
                f"{TRANSLATE}Stream",
            ):
                assert await sent(channel, closed, b"", metadata) == UNKNOWN
            assert await sent(channel, LIST, b"", metadata) == UNKNOWN
            assert await sent(channel, LIST, b"\xff\xff", metadata) == UNKNOWN
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await services_by_reflection(channel, metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "seqserve.v1.SequenceService" in await services_by_reflection(
            channel, (("x-api-key", NARROW),)
        )


async def services_by_reflection(channel: grpc.aio.Channel, metadata: Any) -> list[str]:
    """Return the services that reflection lists."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answers = [answer async for answer in stub.ServerReflectionInfo(asked, metadata=metadata, timeout=20)]
    return [found.name for found in answers[0].list_services_response.service]


async def test_no_key_is_told(settings: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Good or bad, wherever a caller puts it: in no log at any level, no answer, trailer or metric."""
    caplog.set_level(logging.DEBUG)
    secrets = [ALL, NARROW, PAST, TOKEN, new_key(), signed(iss="x"), signed(aud="x"), TOKEN[:-4], "x" * 9000]
    told = io.StringIO()
    async with service(**settings, access_log=1.0) as doors, doors.rest() as rest, doors.channel() as channel:
        for secret in secrets:
            for naming in (
                bearer(secret),
                {"X-API-Key": secret},
                {"X-API-Key": secret, "Authorization": "Bearer other"},
                {"Authorization": f"Basic {secret}"},
                {"Authorization": secret},
            ):
                for path in (
                    "/v1/models",
                    "/v1/models/nope",
                    "/metrics",
                    "/nothing",
                    f"/nothing?key={secret}",
                ):
                    answer = await rest.get(path, headers=naming)
                    told.write(f"{answer.text}{answer.headers}\n")
                metadata = tuple((name.lower(), value) for name, value in naming.items())
                try:
                    await channel.unary_unary(LIST)(b"", metadata=metadata, timeout=20)
                except grpc.aio.AioRpcError as error:
                    told.write(f"{error.details()}{error.initial_metadata()}{error.trailing_metadata()}\n")
        metrics = (await rest.get("/metrics", headers=bearer(ALL))).text
    ours = (record for record in caplog.records if not record.name.startswith("http"))  # the client's own
    logged = "\n".join(str(vars(record)) for record in ours)
    assert logged.count("UNAUTHENTICATED") > 100  # the access log has each
    for secret in secrets:
        for place in (told.getvalue(), metrics, logged):
            assert secret not in place
            assert secret[9:40] not in place
    turned_away = [
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.labels.get("reason") == UNKNOWN
    ]
    assert sum(turned_away) > 100


async def test_behind_a_proxy_callers_go_by_their_own_address(caplog: pytest.LogCaptureFixture) -> None:
    """The same at both doors, and a header that comes in two lines is one list."""
    caplog.set_level(logging.INFO)
    proxied = [
        ([("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7")], "192.0.2.7"),
        ([("forwarded", "for=6.6.6.6"), ("forwarded", 'for="[2001:db8::7]:80"')], "2001:db8::/64"),
    ]
    settings = {"trusted_proxies": "127.0.0.0/8,::1", "access_log": 1.0}
    async with service(**settings) as doors, doors.rest() as rest, doors.channel() as channel:
        for headers, _ in proxied:
            assert (await rest.get("/v1/models", headers=httpx.Headers(headers))).status_code == 200
            assert await sent(channel, LIST, b"", tuple(headers)) == OK
    lines = [vars(record)["fields"] for record in caplog.records if record.name == "seqserve.access"]
    told = [(line["transport"], line["principal"]) for line in lines]
    assert told == [(transport, address) for _, address in proxied for transport in ("rest", "grpc")]
