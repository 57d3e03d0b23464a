from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from seqserve.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictRequest(_message.Message):
    __slots__ = ("model", "sequences", "heads", "top_k", "seed")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelSelector
    sequences: _containers.RepeatedCompositeFieldContainer[Sequence]
    heads: _containers.RepeatedScalarFieldContainer[str]
    top_k: int
    seed: int
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelSelector, _Mapping]] = ..., sequences: _Optional[_Iterable[_Union[Sequence, _Mapping]]] = ..., heads: _Optional[_Iterable[str]] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class Sequence(_message.Message):
    __slots__ = ("features",)
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Feature
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Feature, _Mapping]] = ...) -> None: ...
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    features: _containers.MessageMap[str, Feature]
    def __init__(self, features: _Optional[_Mapping[str, Feature]] = ...) -> None: ...

class Feature(_message.Message):
    __slots__ = ("strings", "numbers", "timestamps")
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMPS_FIELD_NUMBER: _ClassVar[int]
    strings: Strings
    numbers: Numbers
    timestamps: Timestamps
    def __init__(self, strings: _Optional[_Union[Strings, _Mapping]] = ..., numbers: _Optional[_Union[Numbers, _Mapping]] = ..., timestamps: _Optional[_Union[Timestamps, _Mapping]] = ...) -> None: ...

class Strings(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class Numbers(_message.Message):
    __slots__ = ("values", "width")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    width: int
    def __init__(self, values: _Optional[_Iterable[float]] = ..., width: _Optional[int] = ...) -> None: ...

class Timestamps(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    def __init__(self, values: _Optional[_Iterable[_Union[_timestamp_pb2.Timestamp, _Mapping]]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("model", "results")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelVersion
    results: _containers.RepeatedCompositeFieldContainer[PredictResult]
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelVersion, _Mapping]] = ..., results: _Optional[_Iterable[_Union[PredictResult, _Mapping]]] = ...) -> None: ...

class PredictResult(_message.Message):
    __slots__ = ("prediction", "error")
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    prediction: Prediction
    error: _status_pb2.Status
    def __init__(self, prediction: _Optional[_Union[Prediction, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class PredictStreamRequest(_message.Message):
    __slots__ = ("predict", "order")
    PREDICT_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    predict: PredictRequest
    order: _model_pb2.ResultOrder
    def __init__(self, predict: _Optional[_Union[PredictRequest, _Mapping]] = ..., order: _Optional[_Union[_model_pb2.ResultOrder, str]] = ...) -> None: ...

class PredictStreamResponse(_message.Message):
    __slots__ = ("model", "index", "result")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelVersion
    index: int
    result: PredictResult
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelVersion, _Mapping]] = ..., index: _Optional[int] = ..., result: _Optional[_Union[PredictResult, _Mapping]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("heads", "warnings", "warning_details")
    class HeadsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: HeadAnswer
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[HeadAnswer, _Mapping]] = ...) -> None: ...
    HEADS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    WARNING_DETAILS_FIELD_NUMBER: _ClassVar[int]
    heads: _containers.MessageMap[str, HeadAnswer]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    warning_details: _containers.RepeatedCompositeFieldContainer[WarningDetail]
    def __init__(self, heads: _Optional[_Mapping[str, HeadAnswer]] = ..., warnings: _Optional[_Iterable[str]] = ..., warning_details: _Optional[_Iterable[_Union[WarningDetail, _Mapping]]] = ...) -> None: ...

class WarningDetail(_message.Message):
    __slots__ = ("warning", "feature", "step", "value")
    WARNING_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    warning: str
    feature: str
    step: int
    value: str
    def __init__(self, warning: _Optional[str] = ..., feature: _Optional[str] = ..., step: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...

class HeadAnswer(_message.Message):
    __slots__ = ("class_answer", "labels_answer", "value_answer", "steps_answer", "horizon_answer", "text_answer")
    CLASS_ANSWER_FIELD_NUMBER: _ClassVar[int]
    LABELS_ANSWER_FIELD_NUMBER: _ClassVar[int]
    VALUE_ANSWER_FIELD_NUMBER: _ClassVar[int]
    STEPS_ANSWER_FIELD_NUMBER: _ClassVar[int]
    HORIZON_ANSWER_FIELD_NUMBER: _ClassVar[int]
    TEXT_ANSWER_FIELD_NUMBER: _ClassVar[int]
    class_answer: ClassAnswer
    labels_answer: LabelsAnswer
    value_answer: ValueAnswer
    steps_answer: StepsAnswer
    horizon_answer: HorizonAnswer
    text_answer: TextAnswer
    def __init__(self, class_answer: _Optional[_Union[ClassAnswer, _Mapping]] = ..., labels_answer: _Optional[_Union[LabelsAnswer, _Mapping]] = ..., value_answer: _Optional[_Union[ValueAnswer, _Mapping]] = ..., steps_answer: _Optional[_Union[StepsAnswer, _Mapping]] = ..., horizon_answer: _Optional[_Union[HorizonAnswer, _Mapping]] = ..., text_answer: _Optional[_Union[TextAnswer, _Mapping]] = ...) -> None: ...

class ClassAnswer(_message.Message):
    __slots__ = ("label", "probability", "top")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    top: _containers.RepeatedCompositeFieldContainer[Labelled]
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ..., top: _Optional[_Iterable[_Union[Labelled, _Mapping]]] = ...) -> None: ...

class Labelled(_message.Message):
    __slots__ = ("label", "probability")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class LabelsAnswer(_message.Message):
    __slots__ = ("labels", "all")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[Labelled]
    all: _containers.RepeatedCompositeFieldContainer[Labelled]
    def __init__(self, labels: _Optional[_Iterable[_Union[Labelled, _Mapping]]] = ..., all: _Optional[_Iterable[_Union[Labelled, _Mapping]]] = ...) -> None: ...

class ValueAnswer(_message.Message):
    __slots__ = ("value", "values", "columns", "unit", "intervals")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    value: float
    values: _containers.RepeatedScalarFieldContainer[float]
    columns: _containers.RepeatedScalarFieldContainer[str]
    unit: str
    intervals: _containers.RepeatedCompositeFieldContainer[Interval]
    def __init__(self, value: _Optional[float] = ..., values: _Optional[_Iterable[float]] = ..., columns: _Optional[_Iterable[str]] = ..., unit: _Optional[str] = ..., intervals: _Optional[_Iterable[_Union[Interval, _Mapping]]] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("level", "low", "high", "lows", "highs")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOWS_FIELD_NUMBER: _ClassVar[int]
    HIGHS_FIELD_NUMBER: _ClassVar[int]
    level: float
    low: float
    high: float
    lows: _containers.RepeatedScalarFieldContainer[float]
    highs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, level: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., lows: _Optional[_Iterable[float]] = ..., highs: _Optional[_Iterable[float]] = ...) -> None: ...

class TextAnswer(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class StepsAnswer(_message.Message):
    __slots__ = ("steps", "words")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[StepAnswer]
    words: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, steps: _Optional[_Iterable[_Union[StepAnswer, _Mapping]]] = ..., words: _Optional[_Iterable[str]] = ...) -> None: ...

class StepAnswer(_message.Message):
    __slots__ = ("class_answer", "labels_answer", "value_answer")
    CLASS_ANSWER_FIELD_NUMBER: _ClassVar[int]
    LABELS_ANSWER_FIELD_NUMBER: _ClassVar[int]
    VALUE_ANSWER_FIELD_NUMBER: _ClassVar[int]
    class_answer: ClassAnswer
    labels_answer: LabelsAnswer
    value_answer: ValueAnswer
    def __init__(self, class_answer: _Optional[_Union[ClassAnswer, _Mapping]] = ..., labels_answer: _Optional[_Union[LabelsAnswer, _Mapping]] = ..., value_answer: _Optional[_Union[ValueAnswer, _Mapping]] = ...) -> None: ...

class HorizonAnswer(_message.Message):
    __slots__ = ("values", "columns", "unit", "intervals")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[HorizonRow]
    columns: _containers.RepeatedScalarFieldContainer[str]
    unit: str
    intervals: _containers.RepeatedCompositeFieldContainer[HorizonInterval]
    def __init__(self, values: _Optional[_Iterable[_Union[HorizonRow, _Mapping]]] = ..., columns: _Optional[_Iterable[str]] = ..., unit: _Optional[str] = ..., intervals: _Optional[_Iterable[_Union[HorizonInterval, _Mapping]]] = ...) -> None: ...

class HorizonRow(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class HorizonInterval(_message.Message):
    __slots__ = ("level", "low", "high")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    level: float
    low: _containers.RepeatedCompositeFieldContainer[HorizonRow]
    high: _containers.RepeatedCompositeFieldContainer[HorizonRow]
    def __init__(self, level: _Optional[float] = ..., low: _Optional[_Iterable[_Union[HorizonRow, _Mapping]]] = ..., high: _Optional[_Iterable[_Union[HorizonRow, _Mapping]]] = ...) -> None: ...
