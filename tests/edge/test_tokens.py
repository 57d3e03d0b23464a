"""Tokens (JWT): only what the issuer signed for this service, and nothing that a stranger can make of it."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, strategies as st

from seqserve.service import errors
from seqserve.service.core.types import Principal
from seqserve.service.edge import tokens
from seqserve.service.edge.tokens import LEEWAY_SECONDS, Tokens, read_jwks
from seqserve.service.followed import LOOK_SECONDS, Followed
from tests.core.fakes import Clock

ISSUER, AUDIENCE = "https://login.example", "seqserve"
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
STRANGER = rsa.generate_private_key(65537, 2048)


def jwk(kid: str | None, key: Any, **changes: Any) -> dict[str, Any]:
    """Return the public key of a private one as a JWK."""
    kind = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
    }
    maker: Any = next((to for of, to in kind.items() if isinstance(key, of)), jwt.algorithms.OKPAlgorithm)
    table = {**maker.to_jwk(key.public_key(), as_dict=True), "kid": kid, **changes}
    return {name: value for name, value in table.items() if value is not None and name != "key_ops"}


def written(folder: Path, *keys: dict[str, Any]) -> Path:
    """Write a set."""
    path = folder / "jwks.json"
    path.write_text(json.dumps({"keys": list(keys)}))
    return path


def claims(**changes: Any) -> dict[str, Any]:
    """Return good claims; None leaves one out."""
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "mobile",
        "exp": time.time() + 86_400,
        "scope": "translate:en-de",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(algorithm: str = "RS256", key: Any = None, kid: str | None = None, **changes: Any) -> str:
    """Return a token signed by one of KEYS, named as that is."""
    header = {"kid": kid or algorithm}
    return jwt.encode(claims(**changes), key or KEYS[algorithm], algorithm, header)


def raw(header: Any, payload: Any, signature: bytes = b"") -> str:
    """Return a token of any parts at all."""
    parts = (json.dumps(part).encode() if not isinstance(part, bytes) else part for part in (header, payload))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (*parts, signature))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with a key of each kind, and one that signs nothing."""
    folder = tmp_path_factory.mktemp("jwks")
    return written(folder, *(jwk(name, key) for name, key in KEYS.items()), {"kty": "X", "use": "enc"})


def reader(path: Path, clock: Callable[[], float] = time.monotonic, **options: Any) -> Tokens:
    """Return what knows the tokens of a set."""
    return Tokens(
        Followed("the keys of tokens", [path], partial(read_jwks, path), clock), ISSUER, AUDIENCE, **options
    )


@pytest.fixture(scope="module")
def known(path: Path) -> Tokens:
    """What knows the tokens of that set."""
    return reader(path)


def refused(known: Tokens, token: str) -> str:
    """Return why a token is refused."""
    with pytest.raises(errors.Unauthenticated) as caught:
        known.bearer(token)
    assert len(token) < 20 or token not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("algorithm", KEYS)
def test_who_bears_a_token(known: Tokens, algorithm: str) -> None:
    """Its subject, with those of its scopes that are of this service; without any it may do nothing."""
    asked = "openid translate:en-de predict:* *:shop :x x: a:b:c"
    scopes = {("translate", "en-de"), ("predict", "*"), ("*", "shop"), ("a", "b:c")}
    assert known.bearer(signed(algorithm, scope=asked)) == Principal("mobile", frozenset(scopes))
    for scope in (None, "", 17, ["translate:en-de"], {"translate:en-de": 1}):
        assert known.bearer(signed(algorithm, scope=scope)) == Principal("mobile", frozenset())
    assert known.bearer(signed(algorithm, aud=["other", AUDIENCE])).name == "mobile"


def attacks() -> Iterator[tuple[str, str, str]]:
    """Yield tokens that must be refused: what is wrong, the token, and what is said of it."""
    public = KEYS["RS256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    whole = signed()
    head, body, signature = whole.split(".")
    by_public = f"{raw({'alg': 'HS256', 'kid': 'RS256'}, claims()).rsplit('.', 1)[0]}"
    mac = (
        base64.urlsafe_b64encode(hmac.digest(public, by_public.encode(), hashlib.sha256))
        .rstrip(b"=")
        .decode()
    )
    for name in ("none", "None", "nOnE", ""):
        yield f"alg {name}", raw({"alg": name, "kid": "RS256"}, claims()), ""
        yield (
            f"alg {name} with a signature",
            f"{raw({'alg': name, 'kid': 'RS256'}, 0).split('.')[0]}.{body}.{signature}",
            "",
        )
    yield "HS256 by the public key", f"{by_public}.{mac}", "alg"
    yield "another algorithm's key", signed("ES256", kid="RS256"), "alg"
    yield "a stranger's signature", signed(key=STRANGER), "signature"
    yield "an unknown kid", signed(kid="other"), "kid"
    yield "no kid, where there are several", jwt.encode(claims(), KEYS["RS256"], "RS256"), "kid"
    yield (
        "a kid that is no text",
        f"{raw({'alg': 'RS256', 'kid': ['RS256']}, 0).split('.')[0]}.{body}.{signature}",
        "",
    )
    yield (
        "a key of its own",
        raw({"alg": "RS256", "kid": "x", "jwk": jwk("x", STRANGER)}, claims(), b"x"),
        "kid",
    )
    yield (
        "an extension that must be known",
        jwt.encode(claims(), KEYS["RS256"], "RS256", {"kid": "RS256", "crit": ["x"], "x": 1}),
        "",
    )
    yield "claims changed", f"{head}.{raw({}, claims(sub='admin')).split('.')[1]}.{signature}", "signature"
    yield "another issuer", signed(iss="https://evil.example"), "iss"
    yield "another audience", signed(aud="billing"), "aud"
    yield "no audience", signed(aud=None), "aud"
    yield "no issuer", signed(iss=None), "iss"
    yield "no end", signed(exp=None), "exp"
    yield "no subject", signed(sub=None), "sub"
    yield "an empty subject", signed(sub=""), ""
    yield "a long subject", signed(sub="x" * 257), ""
    yield "a subject that is no text", signed(sub=17), ""
    yield "an end that is no number", signed(exp="soon"), ""
    yield "an endless end", signed(exp=float("inf")), ""
    yield "expired", signed(exp=time.time() - LEEWAY_SECONDS - 1), "expired"
    yield "of tomorrow", signed(nbf=time.time() + 86400), "not valid yet"
    yield "a nested header", raw(b"[" * 6000, b"[" * 6000), ""
    yield "huge", raw({"alg": "RS256", "kid": "RS256"}, {"x": "x" * 100_000}, b"x" * 100_000), "signature"
    yield "encrypted", "a.b.c.d.e", ""
    yield "empty", "", ""


def test_no_token_of_a_stranger_is_good(known: Tokens) -> None:
    """Each is refused with a word for what is wrong, and none twice in another way."""
    wrong = []
    for name, token, said in attacks():
        for _ in range(2):
            try:
                why = refused(known, token)
            except BaseException as error:  # that it got through, or another error: name the attack
                wrong.append(f"{name}: {error!r}"[:300])
            else:
                wrong += [f"{name}: {why}"] if said not in why else []
    assert not wrong, "\n".join(wrong)


PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*claims(), "alg", "kid"]), inner)
    ),
)


@given(
    st.text(max_size=40)
    | st.builds(raw, PARTS | st.just({"alg": "RS256", "kid": "RS256"}), PARTS, st.binary())
)
def test_whatever_comes_is_refused_alike(known: Tokens, token: str) -> None:
    """Nothing that a caller sends is a fault of ours."""
    refused(known, token)


def test_a_token_is_verified_once_until_it_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept by its hash: not past its end, and no more than so many."""
    clock, verified = Clock(), []
    clock.now = time.time()
    decode = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *a, **options: verified.append(1) or decode(*a, **options))
    monkeypatch.setattr(tokens, "MOST_KEPT", 3)
    known = reader(path, now=clock)
    token = signed("ES256", exp=time.time() + 60)
    assert {known.bearer(token).name for _ in range(5)} == {"mobile"}
    assert len(verified) == 1
    clock.now += 60 + LEEWAY_SECONDS + 1
    known.bearer(token)  # by the clock of PyJWT it is still good
    assert len(verified) == 2
    others = [signed("ES256", sub=f"other-{number}") for number in range(3)]
    assert [known.bearer(other).name for other in others] == [f"other-{number}" for number in range(3)]
    known.bearer(token)
    assert len(verified) == 6
    assert len(known._kept) == 3


def test_what_a_withdrawn_key_has_signed_is_not_good_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor if it was before; a set that cannot be used changes nothing."""
    clock = Clock()
    path = written(tmp_path, jwk("RS256", KEYS["RS256"]), jwk("ES256", KEYS["ES256"]))
    known = reader(path, clock)
    old, new = signed(), signed("ES256")
    assert known.bearer(old) == known.bearer(new)
    path.write_text("{")
    clock.now += LOOK_SECONDS
    assert known.bearer(old) == known.bearer(new)
    assert caplog.text.count("stays in force") == 1
    written(tmp_path, jwk("ES256", KEYS["ES256"]))
    clock.now += LOOK_SECONDS
    assert "kid" in refused(known, old)
    assert known.bearer(new).name == "mobile"


def test_the_only_key_of_a_set_needs_no_name(tmp_path: Path) -> None:
    """A token without `kid` is of that key."""
    for kid in (None, "a"):
        known = reader(written(tmp_path, jwk(kid, KEYS["ES256"], alg="ES256")))
        assert known.bearer(jwt.encode(claims(), KEYS["ES256"], "ES256")).name == "mobile"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "unexpected end of data"),
        ("[]", "no JWKS"),
        ("{}", "no JWKS"),
        ({"keys": []}, "must have keys"),
        ({"keys": [17]}, "no JWKS"),
        ({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}, "no public key of"),
        ({"keys": [jwk("a", KEYS["ES256"], alg="HS256")]}, "no public key of"),
        ({"keys": [jwk("a", KEYS["ES256"], d="AA")]}, "no public key of"),
        ({"keys": [jwk("a", KEYS["ES256"], x="AA")]}, "jwks.json"),
        ({"keys": [jwk("a", rsa.generate_private_key(65537, 1024))]}, "1024 bits, fewer than 2048"),
        ({"keys": [jwk("a", KEYS["ES256"]), jwk("a", KEYS["RS256"])]}, "a kid of its own"),
        ({"keys": [jwk(None, KEYS["ES256"]), jwk("a", KEYS["RS256"])]}, "a kid of its own"),
        ({"keys": [jwk("a", KEYS["ES256"], use="enc")]}, "must have keys"),
    ],
)
def test_a_set_that_cannot_be_used_is_named(tmp_path: Path, content: Any, said: str) -> None:
    """At the start, with the key at fault."""
    path = tmp_path / "jwks.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=said) as caught:
        read_jwks(path)
    assert str(path) in str(caught.value)
