"""What TensorFlow Serving answers to calls that are right."""

import numpy as np
import pytest

from seqserve.tfserving import predict_pb2 as pb
from tests.conformance.calls import LISTS, Call, Client, entries, tensor
from tests.conformance.modules import MANIFEST, SERVING
from tests.conformance.roots import LABELS

EXTREMES = {
    "float32": [1.5, -0.0, 3.4e38],
    "float64": [1e300, -2.5, 0.1],
    "int32": [-(2**31), 0, 2**31 - 1],
    "int64": [-(2**63), -1, 2**63 - 1],
    "bool": [True, False, True],
    "string": [b"", b"\x00\xff\x00", "größe".encode()],
}


def test_outputs_come_by_name(client: Client) -> None:
    """The sum of two lists comes back as `sum`, with its shape."""
    response = client.predict(Call())
    assert set(response.outputs) == {"sum"}
    assert entries(response.outputs["sum"]) == [4, 6]
    assert [dim.size for dim in response.outputs["sum"].tensor_shape.dim] == [2]


def test_typed_fields_hold_every_entry(client: Client) -> None:
    """Every type comes back in the list of its type, whole, extremes and NUL bytes included."""
    inputs = {name: tensor(values, name) for name, values in EXTREMES.items()}
    outputs = client.predict(Call(inputs, "echo")).outputs
    assert set(outputs) == set(LISTS)
    for name, values in EXTREMES.items():
        assert outputs[name].dtype == LISTS[name][0]
        assert entries(outputs[name]) == (np.float32(values).tolist() if name == "float32" else values)


def test_an_equal_run_is_not_shortened(client: Client) -> None:
    """Entries that repeat are all there: a list is as long as its shape says."""
    x = tensor(np.full((4,), 7.0))
    assert entries(client.predict(Call({"x": x}, "large")).outputs["y"]) == [7.0] * 4


@pytest.mark.parametrize("shape", [(0,), (2, 0), (), (2, 1, 3)])
def test_every_shape_comes_back(client: Client, shape: tuple[int, ...]) -> None:
    """An empty tensor, a scalar and three axes keep their shape."""
    inputs = {name: tensor(np.full(shape, b"1"), name) for name in LISTS}
    for name, output in client.predict(Call(inputs, "echo")).outputs.items():
        assert tuple(dim.size for dim in output.tensor_shape.dim) == shape
        assert len(entries(output)) == np.prod(shape, dtype=int), name


def test_the_answer_names_what_ran(client: Client) -> None:
    """Name, version and signature come back resolved: the newest version, the default signature."""
    spec = client.predict(Call()).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("demo", 2, SERVING)
    spec = client.predict(Call({}, MANIFEST, version=1)).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("demo", 1, MANIFEST)


@pytest.mark.parametrize("number", [1, 2])
def test_a_version_can_be_pinned(client: Client, number: int) -> None:
    """A call for a version runs that version."""
    assert client.number(version=number) == number


@pytest.mark.parametrize("label", LABELS)
def test_a_label_resolves_to_its_version(client: Client, label: str) -> None:
    """A call by label runs the labelled version, and the answer names its number."""
    assert client.number(label=label) == LABELS[label]


@pytest.mark.parametrize("label", [*LABELS, "nope"])
def test_a_status_ignores_labels(client: Client, label: str) -> None:
    """GetModelStatus by a label lists every version, even by a label that is not there."""
    assert [status.version for status in client.statuses("demo", version_label=label)] == [2, 1]


def test_a_status_can_be_of_one_version(client: Client) -> None:
    """GetModelStatus by number lists that version alone."""
    (status,) = client.statuses("demo", version={"value": 1})
    assert (status.version, status.state, status.status.error_code) == (1, pb.ModelVersionStatus.AVAILABLE, 0)


def test_a_signature_without_inputs_runs(client: Client) -> None:
    """Strings come from it, bytes and all."""
    outputs = client.predict(Call({}, MANIFEST)).outputs
    assert entries(outputs["names"]) == [b"manifest.json", b"x"]
    assert entries(outputs["contents"]) == [b"{}", b"\x00\xff\x00"]


def test_outputs_can_be_chosen(client: Client) -> None:
    """With a filter, the outputs named come back, and no other."""
    assert set(client.predict(Call({}, MANIFEST, outputs=("number",))).outputs) == {"number"}


@pytest.mark.parametrize(
    ("call", "sums"),
    [
        (Call({"a": tensor(np.ones((2, 2))), "b": tensor([3, 4])}), [4, 5, 4, 5]),
        (Call({"x": tensor(np.ones((2, 5)))}, "rows"), [5, 5]),
        (Call({"a": tensor(1), "b": tensor([3, 4])}), [4, 5]),
    ],
    ids=["another rank", "another size", "a scalar"],
)
def test_shapes_are_not_checked_against_the_signature(client: Client, call: Call, sums: list[float]) -> None:
    """What the graph can compute is computed, so it is the gateway that must send right shapes."""
    assert entries(client.predict(call).outputs["sum"]) == sums


def test_lists_longer_and_shorter_than_the_shape(client: Client) -> None:
    """Surplus entries are dropped; the last entry of a short list repeats."""
    shape = tensor([0, 0]).tensor_shape
    long = pb.TensorProto(dtype=pb.DT_FLOAT, tensor_shape=shape, float_val=[1, 2, 3])
    short = pb.TensorProto(dtype=pb.DT_FLOAT, tensor_shape=shape, float_val=[5])
    assert entries(client.predict(Call({"a": long, "b": short})).outputs["sum"]) == [6, 7]


def test_large_messages_pass(client: Client) -> None:
    """80 MB go in and come out."""
    x = tensor(np.arange(20_000_000) % 1000)
    y = client.predict(Call({"x": x}, "large")).outputs["y"]
    assert len(y.float_val) == 20_000_000
    assert y.float_val[-1] == 999


def test_a_row_just_under_the_assert_passes(client: Client) -> None:
    """An assert that holds is not felt, and a failed call before leaves nothing behind."""
    assert entries(client.predict(Call({"x": tensor([9.5])}, "checked")).outputs["y"]) == [9.5]
