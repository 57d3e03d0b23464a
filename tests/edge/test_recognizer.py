"""Who is known by what: keys, tokens, certificates, addresses, and what is refused of each."""

from pathlib import Path
from typing import Any

import pytest

from seqserve.service import errors
from seqserve.service.core.types import Principal
from seqserve.service.edge.addresses import Addresses
from seqserve.service.edge.keys import Keys, Line, new_key
from seqserve.service.edge.recognizer import LONGEST, Credentials, Recognizer
from seqserve.service.followed import Followed
from seqserve.service.settings import Settings, SettingsUnusable
from tests.edge.fakes import key_line
from tests.edge.test_tokens import AUDIENCE, ISSUER, KEYS, jwk, reader, signed, written

KEY, OTHER = new_key(), new_key()
SHOP = Principal("shop", frozenset({("*", "*")}))
TRANSLATING = frozenset({("translate", "*")})
BATCH = Line(name="batch.example", scopes=("translate:*",))


@pytest.fixture
def keys(tmp_path: Path) -> Followed[Keys]:
    """A key of `shop`, and a line for the certificate of `batch.example`."""
    return Followed("the API keys", [tmp_path], lambda: Keys([key_line("shop", KEY), BATCH]))


def recognized(recognizer: Recognizer, **given: Any) -> Principal | str:
    """Return who it is, or why nobody."""
    try:
        return recognizer.principal(Credentials("192.0.2.7", **given))
    except errors.Unauthenticated as error:
        return error.message


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"api_key": KEY}, SHOP),
        ({"authorization": f"Bearer {KEY}"}, SHOP),
        ({"authorization": f"bEARER   {KEY} "}, SHOP),
        ({"authorization": f"Bearer {KEY}", "api_key": KEY}, SHOP),
        ({"authorization": f"Bearer {KEY}", "api_key": OTHER}, "differ"),
        ({"authorization": f"Bearer {OTHER}", "api_key": KEY}, "differ"),
        ({"authorization": f"Bearer {KEY},Bearer {KEY}"}, "not known"),
        ({"api_key": f"{KEY},{OTHER}"}, "not known"),
        ({"api_key": OTHER}, "not known"),
        ({"api_key": "x" * (LONGEST + 1)}, f"over {LONGEST}"),
        ({"authorization": f"Basic {KEY}"}, "Bearer KEY"),
        ({"authorization": KEY}, "Bearer KEY"),
        ({"authorization": "Bearer"}, "Bearer KEY"),
        ({"authorization": "Bearer  "}, "Bearer KEY"),
        ({"authorization": f"Basic {KEY}", "api_key": KEY}, "Bearer KEY"),
        ({"authorization": signed()}, "Bearer KEY"),
        ({"api_key": signed()}, Principal("mobile", frozenset({("translate", "en-de")}))),
        ({"authorization": f"Bearer {signed()}"}, Principal("mobile", frozenset({("translate", "en-de")}))),
        ({"authorization": f"Bearer {signed(iss='x')}"}, "iss"),
        ({"certificate": "batch.example"}, Principal("batch.example", TRANSLATING)),
        ({"certificate": "batch.example", "api_key": KEY}, SHOP),
        ({"certificate": "batch.example", "api_key": OTHER}, "not known"),
        ({"certificate": "other.example"}, "seqserve keys add other.example --certificate"),
        ({}, "API key or a token"),
        ({"forwarded": "for=192.0.2.1"}, "API key or a token"),
    ],
)
def test_who_is_known(
    given: dict[str, str], wanted: Principal | str, keys: Followed[Keys], tmp_path: Path
) -> None:
    """With all of them on; a bad key is never passed over for something else that is good."""
    tokens = reader(written(tmp_path, jwk("RS256", KEYS["RS256"])))
    found = recognized(Recognizer(keys, tokens, certificates=True), **given)
    assert found == wanted if isinstance(wanted, Principal) else wanted in str(found)
    assert not any(secret in str(found) for secret in (KEY, OTHER, signed()))


def test_without_any_of_them_the_address_is_the_name() -> None:
    """And whatever else is sent says nothing: a proxy may use it."""
    known = Recognizer.of(Settings(trusted_proxies="192.0.2.7"))
    for given in ({}, {"api_key": KEY}, {"authorization": "Basic x"}, {"certificate": "batch.example"}):
        assert recognized(known, **given) == Principal("192.0.2.7")
    assert recognized(known, forwarded="for=198.51.100.1") == Principal("198.51.100.1")


def test_who_is_refused_still_has_an_address(keys: Followed[Keys]) -> None:
    """The log tells where bad keys come from, also behind a proxy."""
    known = Recognizer(keys, addresses=Addresses(["192.0.2.7"]))
    given = Credentials("192.0.2.7", api_key=OTHER, forwarded="for=198.51.100.1")
    with pytest.raises(errors.Unauthenticated):
        known.principal(given)
    assert known.address(given) == "198.51.100.1"


def test_certificates_alone() -> None:
    """Where nothing says what each may do, the authority's word is enough; keys mean nothing then."""
    known = Recognizer(certificates=True)
    assert recognized(known, certificate="a.example", authorization="Basic x") == Principal("a.example")
    assert "certificate" in str(recognized(known, api_key=KEY))


def test_a_certificate_beside_tokens_may_do_nothing_alone(tmp_path: Path) -> None:
    """Else who leaves the token away might do more than who brings it."""
    tokens = reader(written(tmp_path, jwk("RS256", KEYS["RS256"])))
    known = Recognizer(tokens=tokens, certificates=True)
    assert recognized(known, certificate="a.example") == Principal("a.example", frozenset())
    bearer = Principal("mobile", frozenset({("translate", "en-de")}))
    assert recognized(known, certificate="a.example", api_key=signed()) == bearer


def test_the_settings_name_the_files(tmp_path: Path) -> None:
    """And a file that cannot be used is named."""
    keys = tmp_path / "keys"
    keys.write_text(key_line("shop", KEY).model_dump_json() + "\n")
    jwks = written(tmp_path, jwk("RS256", KEYS["RS256"]))
    given = {"keys": keys, "jwt_jwks": jwks, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    known = Recognizer.of(Settings(**given))
    assert recognized(known, api_key=KEY) == SHOP
    assert isinstance(recognized(known, authorization=f"Bearer {signed()}"), Principal)
    for name in ("keys", "jwt_jwks"):
        with pytest.raises(SettingsUnusable, match=f"SEQSERVE_{name.upper()}=.*absent cannot be read"):
            Recognizer.of(Settings(**{**given, name: tmp_path / "absent"}))
