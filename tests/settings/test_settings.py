"""Settings as operators and orchestrators give them: read, ignored with a word, or refused by their names."""

import re
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from prometheus_client import CollectorRegistry

from seqserve.service.main import make_backend, make_store
from seqserve.service.metrics import Metrics
from seqserve.service.settings import THEMES, Settings, SettingsUnusable, read_settings
from seqserve.service.settings.environment import sort_out, variable
from seqserve.service.settings.rules import is_loopback

FIELDS = Settings.model_fields
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours but the test's."""
    for name in FIELDS:
        monkeypatch.delenv(variable(name), raising=False)


def links(service: str) -> dict[str, str]:
    """Return what Kubernetes and Docker say of a service, as their documentation has it."""
    name = service.upper().replace("-", "_")
    return {
        f"{name}_SERVICE_HOST": "10.96.0.12",
        f"{name}_SERVICE_PORT": "8000",
        f"{name}_SERVICE_PORT_HTTP": "8000",
        f"{name}_PORT": "tcp://10.96.0.12:8000",
        f"{name}_PORT_8000_TCP": "tcp://10.96.0.12:8000",
        f"{name}_PORT_8000_TCP_PROTO": "tcp",
        f"{name}_PORT_8000_TCP_PORT": "8000",
        f"{name}_PORT_8000_TCP_ADDR": "10.96.0.12",
        f"{name}_NAME": f"/gateway/{service}",
        f"{name}_ENV_MAX_ITEMS": "3",
    }


@given(st.sampled_from(["", "-rest", "-grpc", "-ops", "-tfserving", "-max-items", "-host"]))
def test_what_an_orchestrator_tells_of_services_is_ignored_and_named(service: str) -> None:
    told = links(f"seqserve{service}")
    found = sort_out({**told, "SEQSERVE_MAX_ITEMS": "7", "PATH": "/bin"}, FIELDS)
    assert found.given == {"max_items": "7"}
    assert found.links == tuple(sorted(told))
    (warning,) = found.warnings(FIELDS)
    assert all(name in warning for name in told)


def test_links_leave_the_settings_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port of the setting's own name as well: a number is ours, an address is an orchestrator's."""
    for name, value in links("seqserve-rest").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEQSERVE_GRPC_PORT", "9100")
    settings, (warning,) = read_settings({})
    assert (settings.rest_port, settings.grpc_port) == (8000, 9100)
    assert "SEQSERVE_REST_PORT" in warning
    assert "Kubernetes" in warning


def test_an_unknown_variable_is_told_with_the_nearest_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEQSERVE_MAX_BATCHROWS", "s3cret")
    monkeypatch.setenv("SEQSERVE_XYZZY", "s3cret")
    monkeypatch.setenv("SEQSERVE_PORT", "8123")
    monkeypatch.setenv("SEQSERVE_TAG", "local")
    _, warnings = read_settings({})
    assert [w.partition(" ")[0] for w in warnings] == [
        "SEQSERVE_MAX_BATCHROWS",
        "SEQSERVE_PORT",
        "SEQSERVE_XYZZY",
    ]
    assert "did you mean SEQSERVE_MAX_BATCH_ROWS?" in warnings[0]
    assert "serve --help" in warnings[2]
    assert "s3cret" not in "".join(warnings)


def test_every_variable_that_this_project_names_is_known() -> None:
    """In any file of it but the tests and prose: a setting, or another program's."""
    named = {
        name
        for path in program_files()
        for name in re.findall(r"\bSEQSERVE_[A-Z0-9_]*[A-Z0-9]\b", path.read_text())
    }
    assert len(named) > 20
    assert sort_out(dict.fromkeys(named, "1"), FIELDS).unknown == ()


def program_files() -> list[Path]:
    """Return the files that programs are made of."""
    kinds = {".py", ".yml", ".yaml", ".sh", ".md", ".gateway", ".trainer", ".Dockerfile"}
    folders = [REPOSITORY / name for name in ("service", "models", "deploy", "docs", "examples")]
    paths = [path for folder in folders for path in folder.rglob("*") if path.suffix in kinds]
    return [*paths, REPOSITORY / "docker-compose.yml", REPOSITORY / "Makefile", REPOSITORY / "README.md"]


def test_an_empty_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Compose leaves it, where the operator gave none."""
    monkeypatch.setenv("SEQSERVE_OPS_PORT", "")
    monkeypatch.setenv("SEQSERVE_KEYS", "")
    settings, warnings = read_settings({})
    assert (settings.ops_port, settings.keys, warnings) == (None, None, [])


def test_a_value_that_does_not_do_is_told_with_its_variable_or_option(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All at once, so that they can be mended at once."""
    monkeypatch.setenv("SEQSERVE_MAX_ITEMS", "many")
    monkeypatch.setenv("SEQSERVE_DRAIN_SECONDS", "inf")
    monkeypatch.setenv("SEQSERVE_GRPC_PORT", "tcp:9000")
    monkeypatch.setenv("SEQSERVE_MAX_ITEM", "7")
    with pytest.raises(SettingsUnusable) as caught:
        read_settings({"rest_port": 70000})
    for named in (
        "SEQSERVE_MAX_ITEMS=many: ",
        "SEQSERVE_DRAIN_SECONDS=inf: ",
        "SEQSERVE_GRPC_PORT=tcp:9000: ",
        "--rest-port=70000: ",
        "did you mean SEQSERVE_MAX_ITEMS?",
    ):
        assert named in str(caught.value)


def test_the_password_of_a_url_is_not_told() -> None:
    with pytest.raises(SettingsUnusable) as caught:
        read_settings({"sessions": "http://:s3cret@redis:6379"})
    settings, _ = read_settings({"sessions": "redis://me:s3cret@redis:port"})
    with pytest.raises(SettingsUnusable) as another:
        make_store(settings, Metrics(CollectorRegistry()))
    for told in (str(caught.value), str(another.value)):
        assert "s3cret" not in told
        assert "@redis" in told


def test_a_password_without_a_redis_is_told() -> None:
    with pytest.raises(SettingsUnusable, match="needs SEQSERVE_SESSIONS beside it"):
        read_settings({"sessions_password_file": Path("word")})


TLS = {"tls_cert": "c.pem", "tls_key": "k.pem"}
JWT = {"jwt_jwks": "j.json", "jwt_issuer": "me", "jwt_audience": "you"}
CONTRADICTIONS = [
    ({"jwt_jwks": "j.json"}, "jwt_jwks", "SEQSERVE_JWT_ISSUER"),
    ({"jwt_jwks": "j.json", "jwt_issuer": "me"}, "jwt_jwks", "SEQSERVE_JWT_AUDIENCE"),
    ({"jwt_audience": "you"}, "jwt_audience", "SEQSERVE_JWT_JWKS"),
    ({"tls_cert": "c.pem"}, "tls_cert", "SEQSERVE_TLS_KEY"),
    ({"tls_key": "k.pem"}, "tls_key", "SEQSERVE_TLS_CERT"),
    ({"tls_client_ca": "ca.pem"}, "tls_client_ca", "SEQSERVE_TLS_CERT"),
    ({"tfserving": "a:8500"}, "tfserving", "SEQSERVE_MODELS"),
    ({"tfserving": "a:port", "models": "m"}, "tfserving", "HOST:PORT"),
    ({"tfserving_cert": "c.pem"}, "tfserving_cert", "SEQSERVE_TFSERVING_KEY"),
    ({"tfserving_cert": "c.pem", "tfserving_key": "k"}, "tfserving_cert", "SEQSERVE_TFSERVING_CA"),
    ({"grpc_port": 8000}, "grpc_port", "SEQSERVE_REST_PORT"),
    ({"ops_port": 8000}, "ops_port", "SEQSERVE_REST_PORT"),
    ({"ops_port": 9000}, "ops_port", "SEQSERVE_GRPC_PORT"),
    ({"root_path": "nlp"}, "root_path", "/nlp"),
    ({"root_path": "/nlp/"}, "root_path", "/nlp"),
    ({"root_path": "/a//b"}, "root_path", "/nlp"),
    ({"cors_origins": "app.example"}, "cors_origins", "https://app.example"),
    ({"cors_origins": "https://app.example/"}, "cors_origins", "https://app.example"),
    ({"cors_origins": "*,https://app.example"}, "cors_origins", "alone"),
    ({"trusted_proxies": "10.0.0.1,proxy"}, "trusted_proxies", "10.0.0.0/8"),
    ({"trusted_proxies": "10.0.0.1/8"}, "trusted_proxies", "host bits"),
    ({"host": "0.0.0.0"}, "host", "SEQSERVE_KEYS"),
    ({"host": "0.0.0.0"}, "host", "SEQSERVE_TLS_CERT"),
    ({"host": "::"}, "host", "SEQSERVE_OPEN=all"),
    ({"host": "gateway.example", **TLS}, "host", "SEQSERVE_JWT_JWKS"),
    ({"host": "10.0.0.5", "keys": "k.toml"}, "host", "SEQSERVE_OPEN=tls"),
    ({"host": "10.0.0.5", "open": "tls"}, "host", "SEQSERVE_KEYS"),
    ({"publish": "0.0.0.0", "host": "127.0.0.1"}, "publish", "SEQSERVE_KEYS"),
]


@pytest.mark.parametrize(("given", "field", "advice"), CONTRADICTIONS)
def test_a_contradiction_names_the_variable_its_value_and_what_to_set(
    given: dict[str, object], field: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(variable(name), str(value))
    with pytest.raises(SettingsUnusable) as caught:
        read_settings({})
    assert f"{variable(field)}={given[field]}: " in str(caught.value)
    assert advice in str(caught.value)
    monkeypatch.delenv(variable(field))
    with pytest.raises(SettingsUnusable, match=f"--{field.replace('_', '-')}="):
        read_settings({field: given[field]})


@pytest.mark.parametrize(
    "given",
    [
        {"host": "0.0.0.0", "keys": "k.toml", **TLS},
        {"host": "::", **JWT, **TLS},
        {"host": "0.0.0.0", "keys": "k.toml", "open": "tls"},
        {"host": "0.0.0.0", "open": "all"},
        {"host": "0.0.0.0", "publish": "127.0.0.1"},
        {"host": "localhost"},
        {"host": "127.8.8.8"},
        {"host": "::1"},
        {"rest_port": 0, "grpc_port": 0, "ops_port": 0},
        {"cors_origins": "https://app.example:8443, http://localhost:3000"},
        {"cors_origins": "*"},
        {"root_path": "/a/b"},
        {"trusted_proxies": "10.0.0.0/8,fd00::/8,192.0.2.7"},
    ],
)
def test_settings_that_go_together(given: dict[str, object]) -> None:
    settings = Settings(**given)  # type: ignore[arg-type]
    assert {name: str(getattr(settings, name)) for name in given} == {n: str(v) for n, v in given.items()}


@given(st.ip_addresses())
def test_only_loopback_addresses_are_of_this_machine_alone(address: object) -> None:
    assert is_loopback(str(address)) == address.is_loopback or "::ffff:" in str(address)  # type: ignore[attr-defined]
    assert is_loopback("::ffff:127.0.0.1")
    assert not is_loopback("::ffff:10.0.0.1")


def test_a_file_that_cannot_be_read_is_told_with_its_variable(tmp_path: Path) -> None:
    absent = tmp_path / "none"
    settings = Settings(tfserving="localhost:8500", models="demo", tfserving_ca=absent)
    wanted = f"SEQSERVE_TFSERVING_CA={absent}: {absent} cannot be read: No such file or directory"
    with pytest.raises(SettingsUnusable, match=re.escape(wanted)):
        make_backend(settings, Metrics(CollectorRegistry()))


def test_a_lame_duck_waits_for_nobody_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Input:
        is_terminal = True

        def isatty(self) -> bool:
            return self.is_terminal

    monkeypatch.setattr("sys.stdin", Input())
    assert Settings().lame_duck == 0
    assert Settings(lame_duck_seconds=7).lame_duck == 7
    monkeypatch.setattr(Input, "is_terminal", False)
    assert Settings().lame_duck == 5
    monkeypatch.setattr("sys.stdin", None)
    assert Settings().lame_duck == 5


def test_themes_begin_at_fields_and_the_first_field_begins_one() -> None:
    assert set(THEMES) <= set(FIELDS)
    assert list(THEMES) == [name for name in FIELDS if name in THEMES]
    assert next(iter(FIELDS)) in THEMES
