"""The committed message code is what the `.proto` files generate, and every element of those is described."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

import google.rpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

PROTO = Path(__file__).parents[2] / "proto"
PUBLIC = sorted((PROTO / "seqserve" / "v1").glob("*.proto"))
pytestmark = pytest.mark.slow
WIRE = sorted(path for kind in ("openinference", "tfserving") for path in PROTO.glob(f"seqserve/{kind}/*.proto"))


OLDER = Path(__file__).parents[2] / "build/proto-venv/bin/python"
"""Has the protoc of the public messages: callers may have an older protobuf than ours."""


def protoc(sources: list[Path], *arguments: str, python: Path | str = sys.executable) -> None:
    include = ("-I", str(PROTO), "-I", str(Path(google.rpc.__path__[0]).parents[1]))
    command = [str(python), "-m", "grpc_tools.protoc", *include, *arguments, *map(str, sources)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    target = tmp_path_factory.mktemp("descriptors") / "set.binpb"
    protoc([*PUBLIC, *WIRE], "--include_source_info", f"--descriptor_set_out={target}")
    return list(FileDescriptorSet.FromString(target.read_bytes()).file)


def committed(sources: list[Path]) -> dict[Path, bytes]:
    folders = {path.parent for path in sources}
    files = [path for folder in folders for path in folder.glob("*_pb2*.py*")]
    return {path.relative_to(PROTO): path.read_bytes() for path in files}


def generated(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*_pb2*.py*")}


def test_generating_again_gives_the_committed_files(tmp_path: Path) -> None:
    protoc(WIRE, f"--python_out={tmp_path}", f"--pyi_out={tmp_path}")  # called by path: no stubs
    assert len(generated(tmp_path)) == 2 * len(WIRE)
    assert committed(WIRE) == generated(tmp_path), "run `make proto`"


def test_generating_the_public_ones_again_gives_the_committed_files(tmp_path: Path) -> None:
    if not OLDER.exists():
        pytest.skip("make build/proto-venv/.done makes what this needs")
    outs = (f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python"))
    protoc(PUBLIC, *outs, python=OLDER)
    assert len(generated(tmp_path)) == 3 * len(PUBLIC)
    assert committed(PUBLIC) == generated(tmp_path), "run `make proto`"


FIT = """
from google import protobuf
from seqserve.v1 import model_pb2_grpc, sequence_pb2, sequence_pb2_grpc, session_pb2_grpc, translation_pb2_grpc
request = sequence_pb2.PredictRequest(model={"name": "shop"}, top_k=3)
request.sequences.add().features["event"].strings.values.append("visit")
assert sequence_pb2.PredictRequest.FromString(request.SerializeToString()) == request
print(protobuf.__version__)
"""


def test_callers_may_have_an_older_protobuf() -> None:
    """TensorFlow 2.16 takes none from 5 on."""
    if not OLDER.exists():
        pytest.skip("make build/proto-venv/.done makes what this needs")
    done = subprocess.run([OLDER, "-c", FIT], env={"PYTHONPATH": str(PROTO)}, capture_output=True, check=True)
    assert done.stdout.startswith(b"4.25.")


def test_the_committed_messages_are_those_of_the_proto_files(files: list[FileDescriptorProto]) -> None:
    """Whatever protoc wrote them: the older one has no wheels for the newest Python."""
    for file in files:
        module = import_module(file.name.removesuffix(".proto").replace("/", ".") + "_pb2")
        wanted, ours = FileDescriptorProto(), FileDescriptorProto()
        wanted.CopyFrom(file)
        wanted.ClearField("source_code_info")
        for message in _messages(wanted.message_type):
            for field in message.field:
                field.ClearField("json_name")  # which generated code leaves out
        module.DESCRIPTOR.CopyToProto(ours)
        assert ours == wanted, "run `make proto`"


def test_every_element_has_a_comment(files: list[FileDescriptorProto]) -> None:
    assert len(files) == len(PUBLIC) + len(WIRE)
    for file in files:
        described = {
            tuple(location.path): location.leading_comments.strip()
            for location in file.source_code_info.location
        }
        elements = list(_elements(file))
        assert len(elements) > 10
        bare = [name for path, name in elements if not described.get(path, "").endswith((".", ":"))]
        assert bare == [], file.name


def test_messages_of_a_method_are_named_after_it(files: list[FileDescriptorProto]) -> None:
    for file in files:
        for service in file.service:
            assert service.name.endswith("Service")
            for method in service.method:
                types = (method.input_type, method.output_type)
                assert types == tuple(f".seqserve.v1.{method.name}{end}" for end in ("Request", "Response"))


def _messages(messages: Iterable[DescriptorProto]) -> Iterator[DescriptorProto]:
    for message in messages:
        yield message
        yield from _messages(message.nested_type)


def _elements(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield the path in source info and the name of everything that a reader meets."""
    for i, service in enumerate(file.service):
        yield (6, i), service.name
        yield from (((6, i, 2, j), method.name) for j, method in enumerate(service.method))
    for i, enum in enumerate(file.enum_type):
        yield (5, i), enum.name
        yield from (((5, i, 2, j), value.name) for j, value in enumerate(enum.value))
    for i, message in enumerate(file.message_type):
        yield from _of_message((4, i), message)


def _of_message(path: tuple[int, ...], message: DescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    yield path, message.name
    yield from (((*path, 2, j), f"{message.name}.{field.name}") for j, field in enumerate(message.field))
    for j, oneof in enumerate(message.oneof_decl):
        if not oneof.name.startswith("_"):  # one that stands for `optional` is written by nobody
            yield (*path, 8, j), f"{message.name}.{oneof.name}"
    for j, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _of_message((*path, 3, j), nested)
