"""The committed message code is what the `.proto` files generate, and every element of those is described."""

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

PROTO = Path(__file__).parents[2] / "proto"
PUBLIC = sorted((PROTO / "seqserve" / "v1").glob("*.proto"))
pytestmark = pytest.mark.slow
WIRE = sorted(path for kind in ("openinference", "tfserving") for path in PROTO.glob(f"seqserve/{kind}/*.proto"))


def protoc(sources: list[Path], *arguments: str) -> None:
    include = ("-I", str(PROTO), "-I", sysconfig.get_path("purelib"))
    command = [sys.executable, "-m", "grpc_tools.protoc", *include, *arguments, *map(str, sources)]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    target = tmp_path_factory.mktemp("descriptors") / "set.binpb"
    protoc([*PUBLIC, *WIRE], "--include_source_info", f"--descriptor_set_out={target}")
    return list(FileDescriptorSet.FromString(target.read_bytes()).file)


def test_generating_again_gives_the_committed_files(tmp_path: Path) -> None:
    protoc(PUBLIC, f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", f"--grpc_python_out={tmp_path}")
    protoc(WIRE, f"--python_out={tmp_path}", f"--pyi_out={tmp_path}")  # called by path: no stubs
    generated = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*_pb2*.py*")}
    committed = {
        path.relative_to(PROTO): path.read_bytes()
        for path in PROTO.rglob("*_pb2*.py*")
        if path.parent.name != "__pycache__"
    }
    assert len(generated) == 3 * len(PUBLIC) + 2 * len(WIRE)
    assert committed == generated, "run `make proto`"


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
