"""The wheels, installed, in a folder where a user has a `models`, a `service` and a `proto` of their own."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from seqserve.models.cli.show import EXTRA
from seqserve.service.cli import COMMANDS
from seqserve.service.main import running
from seqserve.service.settings import Settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras, saving
]
REPOSITORY = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
CLIENT = tomllib.loads((REPOSITORY / "client" / "pyproject.toml").read_text())["project"]
VERSION = PYPROJECT["project"]["version"]
SOURCES = ("proto", "models", "service", "client")  # and the files below: as deploy/Dockerfile.* do
FILES = ("pyproject.toml", "README.md", "LICENSE")
LAYERS = """
from keras import layers

from models import FACTOR
from service import times

class Own(layers.Layer):
    def call(self, x):
        return times(x, FACTOR)
"""
CONTRACT = """
name = "own"
[features.x]
kind = "numbers"
columns = ["u", "v"]
[heads.label]
kind = "softmax"
labels = ["a", "b", "c"]
scores = "probabilities"
"""


def call(*command: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a folder."""
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        list(map(str, command)), cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )


def pip(*arguments: str | Path) -> None:
    """Run pip without any index."""
    done = call(sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--no-index")
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Installed:
    """A virtual environment that has the wheels."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def seqserve(self) -> Path:
        """Its command."""
        return self.folder / "bin" / "seqserve"


def install(wheels: list[Path], folder: Path, packages: list[Path]) -> Installed:
    """Install wheels into a new virtual environment that sees these folders of packages as well."""
    assert call(sys.executable, "-m", "venv", "--without-pip", folder).returncode == 0
    installed = Installed(folder)
    pip("--python", installed.python, "install", "--no-deps", *wheels)
    # only now: pip would take the project, as it is installed for development, for an older wheel of it
    site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    Path(site, "beside.pth").write_text("".join(f"{path}\n" for path in packages))
    return installed


def packages_here() -> list[Path]:
    """Return the folders of packages that the tests run with, without what is installed for development."""
    return [Path(path) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The service's wheel and the client's, from a copy, so that nothing of an earlier build gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        no_bytecode = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, source / name, symlinks=True, ignore=no_bytecode)
    for name in FILES:
        shutil.copy(REPOSITORY / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source / "client", source)
    return sorted(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheels with everything that they may need."""
    return install(wheels, tmp_path_factory.mktemp("full") / "venv", packages_here())


@pytest.fixture(scope="module")
def bare(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheels without the service's extras."""
    beside = tmp_path_factory.mktemp("packages")
    for package in (path for folder in packages_here() for path in folder.iterdir()):
        link = beside / package.name
        if not package.name.lower().startswith(EXTRA) and not link.exists():
            link.symlink_to(package)
    return install(wheels, tmp_path_factory.mktemp("bare") / "venv", [beside])


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: modules named as this project's folders are, a model, its layer and its contract."""
    import keras
    from keras import layers

    folder = tmp_path_factory.mktemp("users")
    for name in ("models", "proto"):
        (folder / name).mkdir()
    (folder / "models" / "__init__.py").write_text("FACTOR = 0.5\n")
    (folder / "service.py").write_text("def times(x, factor):\n    return x * factor\n")
    (folder / "proto" / "__init__.py").write_text("raise RuntimeError('nobody asked for this')\n")
    (folder / "layers.py").write_text(LAYERS)
    (folder / "own.toml").write_text(CONTRACT)
    own = type("Own", (layers.Layer,), {"call": lambda self, x: x * 0.5})
    keras.utils.set_random_seed(3)
    body = [own(), layers.Masking(0.0), layers.LSTM(4), layers.Dense(3, activation="softmax")]
    keras.Sequential([keras.Input((None, 2)), *body]).save(folder / "own.keras")
    return folder


def test_the_wheels_hold_seqserve_alone_and_share_no_file(wheels: list[Path]) -> None:
    """No top-level name that a user may have; no __init__.py, so that another distribution may add to it."""
    service, client = (set(zipfile.ZipFile(wheel).namelist()) for wheel in wheels)
    for names, own in ((client, f"seqserve_client-{VERSION}"), (service, f"seqserve-{VERSION}")):
        assert {name.partition("/")[0] for name in names} == {"seqserve", f"{own}.dist-info"}
    assert {"seqserve/service/main.py", "seqserve/models/configs/demo_events.toml"} <= service
    assert {"seqserve/v1/model_pb2.py", "seqserve/v1/model.proto", "seqserve/client/errors/base.py"} <= client
    packages = {name.split("/")[1] for name in client if name.startswith("seqserve/")}
    assert packages == {"client", "v1"}
    assert "seqserve/__init__.py" not in client | service
    assert client & service == set()


def packages_of_client(extra: str) -> dict[str, Distribution]:
    """Return all that pip installs beside the client, by name."""
    found: dict[str, Distribution] = {}
    waiting = CLIENT["dependencies"] + (CLIENT["optional-dependencies"][extra] if extra else [])
    while waiting:
        need = Requirement(waiting.pop())
        if need.name not in found and (need.marker is None or need.marker.evaluate({"extra": ""})):
            found[need.name] = distribution(need.name)
            waiting += found[need.name].requires or ()
    return found


@pytest.fixture(scope="module", params=["", "grpc"])
def called_from(
    request: pytest.FixtureRequest, wheels: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Installed]:
    """The client's wheel, with what it needs and nothing else, for an extra."""
    beside = tmp_path_factory.mktemp("clean")
    for package in packages_of_client(request.param).values():
        for file in package.files or ():
            top = file.parts[0]
            if top != ".." and not (beside / top).exists():
                (beside / top).symlink_to(Path(str(package.locate_file(top))))
    _, client = wheels
    return request.param, install([client], beside.with_name(f"{beside.name}-venv"), [beside])


CALL = """
import asyncio, sys
from importlib.util import find_spec
from seqserve.client import AsyncClient, Client
for name in ("tensorflow", "numpy", "fastapi", "seqserve.service"):
    assert find_spec(name) is None, name
with Client(sys.argv[1]) as client:
    print(client.translate("en-de", ["two", ""]).items)
async def main():
    async with AsyncClient(sys.argv[1]) as client:
        (item,) = (await client.predict("shop", [{"event": ["visit"], "minutes": [0]}])).items
        print(sorted(item.heads.items()))
asyncio.run(main())
print(sorted({"grpc", "google"} & sys.modules.keys()))
"""


async def test_the_client_alone_calls_a_service(
    root: Path, called_from: tuple[str, Installed], users: Path
) -> None:
    """By REST with at most 12 packages, itself among them; by gRPC with the extra, and told of it without."""
    extra, client = called_from
    assert len(packages_of_client(extra)) + 1 <= 12
    settings = Settings(root=root, rest_port=0, grpc_port=0, poll_seconds=600)
    async with running(settings) as started:
        rest, grpc = (
            f"{scheme}://127.0.0.1:{port}"
            for scheme, port in (("http", started.rest_port), ("grpc", started.grpc_port))
        )
        by_rest = await asyncio.to_thread(call, client.python, "-c", CALL, rest, folder=users)
        by_grpc = await asyncio.to_thread(call, client.python, "-c", CALL, grpc, folder=users)
    assert (by_rest.returncode, by_rest.stderr) == (0, "")
    assert by_rest.stdout.endswith("[]\n")
    if extra:
        assert (by_grpc.returncode, by_grpc.stderr) == (0, "")
        assert by_grpc.stdout == by_rest.stdout.replace("[]\n", "['google', 'grpc']\n")
    else:
        assert by_grpc.stderr.endswith("ImportError: gRPC is an extra: pip install 'seqserve-client[grpc]'\n")


def test_the_service_needs_the_client_of_its_own_version() -> None:
    """Both are released together, for they share the messages."""
    assert CLIENT["version"] == VERSION
    needed = [need for need in PYPROJECT["project"]["dependencies"] if need.startswith("seqserve-client")]
    assert needed == [f"seqserve-client[grpc]=={VERSION}"]


def test_every_command_comes_from_the_wheel(installed: Installed, users: Path) -> None:
    """Each row of the table can be imported; help lists all in their panels."""
    shown = call(installed.seqserve, "--help", folder=users)
    assert shown.returncode == 0, shown.stderr
    listed = re.findall(r"^│ ([a-z][a-z-]*)  +\S", shown.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
    assert {place.panel for place in COMMANDS.values()} == set(re.findall(r"─ (\w+ and \w+) ─", shown.stdout))
    code = "import seqserve.service.cli as c, seqserve.models as m; print(c.__file__, m.__file__)"
    for file in call(installed.python, "-c", code, folder=users).stdout.split():
        assert Path(file).is_relative_to(installed.folder)
    assert call(installed.seqserve, "--version", folder=users).stdout == f"seqserve {VERSION}\n"


def test_a_service_that_is_not_there_is_one_line(bare: Installed, users: Path) -> None:
    """`seqserve models` needs no extra; where nothing listens it says which address does not answer."""
    with socket.socket() as bound:  # a port that nobody listens on
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        done = call(bare.seqserve, "models", "--address", address, folder=users)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"no service answers at http://{address}" in done.stderr


@pytest.mark.parametrize("way", ["wheel", "clone"])
def test_an_imported_file_may_import_the_users_own_models(
    installed: Installed, users: Path, tmp_path: Path, way: str
) -> None:
    """The wheel in the user's folder, and a clone whose own folders have the names of the user's modules."""
    command = [installed.seqserve] if way == "wheel" else [sys.executable, "-m", "models"]
    given = ["--contract", users / "own.toml", "--import", users / "layers.py", "--out", tmp_path]
    folder = users if way == "wheel" else REPOSITORY
    done = call(*command, "export", users / "own.keras", *given, folder=folder)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "own" / "1" / "saved_model.pb").exists()


@pytest.mark.parametrize(
    "command",
    [
        "train helpdesk --out root",
        "evaluate root/own/1",
        "crossvalidate helpdesk",
        "demo",
        "export own.keras --contract own.toml --out root",
        "check root/own/1",
        "publish root/own/1 other",
        "serve",
    ],
)
def test_without_its_extra_a_command_says_what_to_install(bare: Installed, users: Path, command: str) -> None:
    """One line with the command for pip, status 1, nothing else."""
    done = call(bare.seqserve, *command.split(), folder=users)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    extra = "embedded" if command == "serve" else "models"
    assert done.stderr.endswith(f"pip install 'seqserve[{extra}]'\n")


def test_the_extra_is_the_projects() -> None:
    """What is looked for before a command runs is what pip installs for the extra."""
    listed = PYPROJECT["project"]["optional-dependencies"]["models"]
    names = {re.match(r"[a-z0-9-]+", requirement)[0] for requirement in listed}  # type: ignore[index]
    modules = {name.replace("-", "_").removesuffix("_api") for name in names}
    assert modules == set(EXTRA)
