"""Our messages are TensorFlow Serving's: the same numbers, names, types and bytes as the official ones."""

from collections.abc import Iterator

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from seqserve.tfserving import config_pb2, predict_pb2
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_pb2,
    status_pb2,
)
from tensorflow_serving.apis import (
    predict_pb2 as official,
)
from tensorflow_serving.config import file_system_storage_path_source_pb2, model_server_config_pb2

POLICY = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
PAIRS = [
    (predict_pb2.TensorProto, tensor_pb2.TensorProto),
    (predict_pb2.TensorShapeProto, tensor_shape_pb2.TensorShapeProto),
    (predict_pb2.ModelSpec, model_pb2.ModelSpec),
    (predict_pb2.PredictRequest, official.PredictRequest),
    (predict_pb2.PredictResponse, official.PredictResponse),
    (predict_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
    (predict_pb2.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
    (predict_pb2.ModelVersionStatus, get_model_status_pb2.ModelVersionStatus),
    (predict_pb2.StatusProto, status_pb2.StatusProto),
    (config_pb2.ModelServerConfig, model_server_config_pb2.ModelServerConfig),
    (config_pb2.ModelConfigList, model_server_config_pb2.ModelConfigList),
    (config_pb2.ModelConfig, model_server_config_pb2.ModelConfig),
    (config_pb2.ServableVersionPolicy, POLICY),
]
SAME_ON_THE_WIRE = {FieldDescriptor.TYPE_ENUM: FieldDescriptor.TYPE_INT32}  # an enum's numbers are int32s


def fields(ours: Descriptor, theirs: Descriptor) -> Iterator[tuple[FieldDescriptor, FieldDescriptor]]:
    """Pair every field of ours, nested messages included, with theirs of the same number."""
    for field in ours.fields:
        yield field, theirs.fields_by_number[field.number]
    for nested in ours.nested_types:
        yield from fields(nested, theirs.nested_types_by_name[nested.name])


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_every_field_is_the_official_one(ours: type, theirs: type) -> None:
    """Number, name, type, repetition and one-of agree."""
    for mine, official_field in fields(ours.DESCRIPTOR, theirs.DESCRIPTOR):
        assert mine.name == official_field.name
        kinds = {SAME_ON_THE_WIRE.get(field.type, field.type) for field in (mine, official_field)}
        assert len(kinds) == 1, mine.full_name
        assert mine.is_repeated == official_field.is_repeated
        mine_of, theirs_of = mine.containing_oneof, official_field.containing_oneof
        assert (mine_of and mine_of.name) == (theirs_of and theirs_of.name)
    assert ours.DESCRIPTOR.full_name.startswith("seqserve.tfserving.")


def test_enums_have_the_official_numbers() -> None:
    """Element types and version states."""
    states = get_model_status_pb2.ModelVersionStatus.State
    assert dict(predict_pb2.ModelVersionStatus.State.items()) == dict(states.items())
    assert predict_pb2.DataType.items()
    assert all(types_pb2.DataType.Value(name) == value for name, value in predict_pb2.DataType.items())


def test_a_config_file_of_theirs_is_read_as_theirs() -> None:
    """Everything that the gateway takes from the file comes out as the official message has it."""
    text = """
    model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow"
      model_version_policy { specific { versions: 1 versions: 3 } }
      version_labels { key: "stable" value: 1 } } }
    """
    ours = text_format.Parse(text, config_pb2.ModelServerConfig())
    theirs = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
