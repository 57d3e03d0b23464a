from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResultOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESULT_ORDER_UNSPECIFIED: _ClassVar[ResultOrder]
    RESULT_ORDER_INDEX: _ClassVar[ResultOrder]
    RESULT_ORDER_FINISHED: _ClassVar[ResultOrder]

class Standing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STANDING_UNSPECIFIED: _ClassVar[Standing]
    STANDING_LOADING: _ClassVar[Standing]
    STANDING_ROUTABLE: _ClassVar[Standing]
    STANDING_REFUSED: _ClassVar[Standing]
RESULT_ORDER_UNSPECIFIED: ResultOrder
RESULT_ORDER_INDEX: ResultOrder
RESULT_ORDER_FINISHED: ResultOrder
STANDING_UNSPECIFIED: Standing
STANDING_LOADING: Standing
STANDING_ROUTABLE: Standing
STANDING_REFUSED: Standing

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class ModelSelector(_message.Message):
    __slots__ = ("name", "version", "label")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    label: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "task", "current", "versions", "features", "heads", "limits")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FeatureDescription
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FeatureDescription, _Mapping]] = ...) -> None: ...
    class HeadsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: HeadDescription
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[HeadDescription, _Mapping]] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    name: str
    task: str
    current: int
    versions: _containers.RepeatedCompositeFieldContainer[VersionStatus]
    features: _containers.MessageMap[str, FeatureDescription]
    heads: _containers.MessageMap[str, HeadDescription]
    limits: Limits
    def __init__(self, name: _Optional[str] = ..., task: _Optional[str] = ..., current: _Optional[int] = ..., versions: _Optional[_Iterable[_Union[VersionStatus, _Mapping]]] = ..., features: _Optional[_Mapping[str, FeatureDescription]] = ..., heads: _Optional[_Mapping[str, HeadDescription]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class VersionStatus(_message.Message):
    __slots__ = ("version", "standing", "digest", "reason", "message", "exported_name")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EXPORTED_NAME_FIELD_NUMBER: _ClassVar[int]
    version: int
    standing: Standing
    digest: str
    reason: str
    message: str
    exported_name: str
    def __init__(self, version: _Optional[int] = ..., standing: _Optional[_Union[Standing, str]] = ..., digest: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., exported_name: _Optional[str] = ...) -> None: ...

class FeatureDescription(_message.Message):
    __slots__ = ("kind", "labels", "width", "columns", "units", "unit", "origin", "per")
    KIND_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    PER_FIELD_NUMBER: _ClassVar[int]
    kind: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    width: int
    columns: _containers.RepeatedScalarFieldContainer[str]
    units: _containers.RepeatedScalarFieldContainer[str]
    unit: str
    origin: str
    per: str
    def __init__(self, kind: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., width: _Optional[int] = ..., columns: _Optional[_Iterable[str]] = ..., units: _Optional[_Iterable[str]] = ..., unit: _Optional[str] = ..., origin: _Optional[str] = ..., per: _Optional[str] = ...) -> None: ...

class HeadDescription(_message.Message):
    __slots__ = ("kind", "per", "labels", "unit", "columns")
    KIND_FIELD_NUMBER: _ClassVar[int]
    PER_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    per: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    unit: str
    columns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kind: _Optional[str] = ..., per: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., unit: _Optional[str] = ..., columns: _Optional[_Iterable[str]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("text_characters", "text_pieces", "sequence_steps", "sequence_least")
    TEXT_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    TEXT_PIECES_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_LEAST_FIELD_NUMBER: _ClassVar[int]
    text_characters: int
    text_pieces: int
    sequence_steps: int
    sequence_least: int
    def __init__(self, text_characters: _Optional[int] = ..., text_pieces: _Optional[int] = ..., sequence_steps: _Optional[int] = ..., sequence_least: _Optional[int] = ...) -> None: ...
