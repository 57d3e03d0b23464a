"""The command line as a caller: its key and certificates come from the environment, and from there alone."""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from typer.main import get_command
from typer.testing import CliRunner

from seqserve.client import Translation
from seqserve.service.cli import app, calling
from seqserve.service.edge.keys import new_key
from tests.edge.fakes import key_line, write_certificate
from tests.edge.service import Doors, listed, service

KEY = new_key()


async def ran(doors: Doors, door: str, environment: dict[str, str], scheme: str = "") -> tuple[int, str, str]:
    """Predict by one of the doors; return exit status, output and complaints."""
    rest = door == "rest"
    address = f"{scheme}localhost:{doors.started.rest_port if rest else doors.started.grpc_port}"
    arguments = [
        "predict",
        "--model",
        "totals",
        '{"x": [1, 2]}',
        "--address",
        address,
        *([] if rest else ["--grpc"]),
    ]
    unset = dict.fromkeys(("API_KEY", "API_KEY_FILE", "CA", "CLIENT_CERT", "CLIENT_KEY"))
    given = {f"SEQSERVE_{name}": value for name, value in {**unset, **environment}.items()}
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=given)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("door", ["rest", "grpc"])
async def test_calls_with_a_key_and_by_mutual_tls(door: str, tmp_path: Path) -> None:
    """What is missing is said with its reason, and no key ever."""
    authority = trustme.CA()
    cert, key, ca = tmp_path / "cert", tmp_path / "key", tmp_path / "ca"
    write_certificate(authority, cert, key)
    authority.cert_pem.write_to_path(str(ca))
    own, own_key, keyed = tmp_path / "own", tmp_path / "own.key", tmp_path / "api.key"
    write_certificate(authority, own, own_key)
    keyed.write_text(f"{KEY}\n")
    tls = {"CA": str(ca), "CLIENT_CERT": str(own), "CLIENT_KEY": str(own_key)}
    files = {
        "tls_cert": cert,
        "tls_key": key,
        "tls_client_ca": ca,
        "keys": listed(tmp_path, key_line("me", KEY)),
    }
    async with service(authority, **files) as doors:
        for environment, scheme in (
            ({**tls, "API_KEY": KEY}, ""),
            ({**tls, "API_KEY_FILE": str(keyed)}, "https://"),
        ):
            code, printed, told = await ran(doors, door, environment, scheme)
            assert (code, told) == (0, "")
            assert '"value": 5.0' in printed
        refused = new_key()
        for environment, said in (
            (tls, "UNAUTHENTICATED: the certificate's name 'localhost'"),
            ({**tls, "API_KEY": refused}, "UNAUTHENTICATED: the API key is not known here"),
            (
                {"CA": str(ca), "API_KEY": KEY},
                str(doors.started.rest_port if door == "rest" else "UNREACHABLE"),
            ),
            ({**tls, "API_KEY_FILE": str(tmp_path / "absent")}, "SEQSERVE_API_KEY_FILE"),
            ({"CA": str(keyed)}, "SEQSERVE_CA, SEQSERVE_CLIENT_CERT or SEQSERVE_CLIENT_KEY: "),
            ({"CA": str(ca), "CLIENT_KEY": str(own_key)}, "SEQSERVE_CLIENT_CERT, SEQSERVE_CLIENT_KEY: "),
        ):
            code, printed, told = await ran(doors, door, environment)
            assert (code, printed) == (1, "")
            assert said in told
            assert KEY not in told
            assert refused not in told


@pytest.mark.parametrize("door", [[], ["--grpc"]])
@pytest.mark.parametrize(
    ("address", "key", "said"),
    [
        ("localhost:port", "", "the address "),
        ("localhost:8000", "a\nb", "--address or SEQSERVE_API_KEY: a key is printable ASCII"),
    ],
)
def test_what_is_wrong_with_an_address_or_a_key_is_named(
    door: list[str], address: str, key: str, said: str
) -> None:
    """And no certificate is blamed for it."""
    given = {"SEQSERVE_API_KEY": key}
    result = CliRunner().invoke(app, ["models", "--address", address, *door], env=given)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "SEQSERVE_CA" not in result.stderr


@pytest.mark.parametrize("arguments", [["--line-buffered"], []])
def test_lines_are_answered_one_by_one_where_it_is_asked_for(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each before the next is read; else many at once, while others are read."""
    asked: list[dict[str, Any]] = []

    class Fake:
        def __init__(self, url: str, **options: Any) -> None:
            asked.append(options)

        def __enter__(self) -> "Fake":
            return self

        def __exit__(self, *told: object) -> None:
            pass

        def translate_stream(self, model: str, texts: Iterable[str], **options: Any) -> Iterator[Translation]:
            asked.append(options)
            return (Translation(text.upper()) for text in texts)

    monkeypatch.setattr("seqserve.client.Client", Fake)
    result = CliRunner().invoke(app, ["translate", "--model", "m", *arguments], input="a\nb\n")
    assert (result.exit_code, result.stdout) == (0, "A\nB\n")
    assert (asked[0]["parallel"], asked[1]["part"]) == ((1, 1) if arguments else (4, 64))


def test_no_key_is_an_argument() -> None:
    """Everybody on the machine sees those."""
    group = get_command(calling.app)
    options = {
        option for command in group.commands.values() for each in command.params for option in each.opts
    }  # type: ignore[attr-defined]
    assert "--address" in options
    assert not [option for option in options if "key" in option or "token" in option]
