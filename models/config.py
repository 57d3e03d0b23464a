"""The training configuration: one TOML file a model, checked before anything is spent.

The shipped ones are in `models/configs/`.
"""

import keyword
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from seqserve.models.data.layout import LogFile, NumbersFile
from seqserve.service.errors import Code, SeqserveError

LONGEST_OUTPUT = 512
"""The most pieces that a caller may ask of a translation."""
CONFIGS = Path(__file__).parent / "configs"


class ConfigInvalid(SeqserveError):
    """A training configuration or contract file is wrong; the message names file and field."""

    code = Code.INVALID_ARGUMENT


class Section(BaseModel):
    """A table of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
"""A model's name: a folder, and a part of a URL."""
RESERVED = frozenset((*keyword.kwlist, "self"))
"""Names that no argument of a graph function can have."""


def _unreserved(name: str) -> str:
    if name in RESERVED:
        raise ValueError(f"{name!r} is a Python keyword: a feature or head cannot have that name")
    return name


FeatureName = Annotated[
    str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60), AfterValidator(_unreserved)
]
"""A feature's name: an argument of a graph function."""
Width = Annotated[int, Field(ge=1)]
STATE = ("hidden", "memory")
"""The names of the state tensors of an event model's step."""
TimeUse = Literal["time_gate", "concat", "conv1x1", "none"]
"""How an event model uses elapsed time; see `networks.events.EventModel`."""
LENGTHS = "lengths"
"""The input that says how many steps of a row are real, where a real value may be any number."""


class TranslationData(Section):
    """`parallel`: train.SOURCE.gz, train.TARGET.gz, val.… in a folder. `phrases`: generated."""

    kind: Literal["parallel", "phrases"]
    source: str = "en"
    target: str = "de"


class EventsData(Section):
    """`log`: a CSV file of cases, events and times. `journeys`: generated shop journeys."""

    kind: Literal["log", "journeys"]
    file: LogFile = LogFile()
    event: FeatureName = "activity"  # what callers name the two features
    elapsed: FeatureName = "elapsed"
    unit: Literal["seconds", "minutes", "hours", "days"] = "days"
    origin: Literal["previous", "last"] = "previous"  # elapsed since the one before, or up to the last

    @model_validator(mode="after")
    def _check(self) -> "EventsData":
        if self.event == self.elapsed:
            raise ValueError(f"event and elapsed are both {self.event!r}")
        for name in {self.event, self.elapsed} & set(STATE):
            raise ValueError(f"a feature is named {name!r}, as the model's state is")
        return self


class ShortlistModel(Section):
    """What a row may write, as `networks.shortlist` says: so many common pieces, and partners of a piece.

    Pieces that no training text is translated by are not common, however many are asked for. Without partners
    the others are left out of the graph.
    """

    common: Annotated[int, Field(ge=128)] = 1024  # beams need twice as many as they are
    partners: Annotated[int, Field(ge=0)] = 64


class TranslationModel(Section):
    """Cells, widths and dropout of `networks.translation.Translator`, and the settings of its tokenizer."""

    cell: Literal["gru", "lstm"] = "gru"
    vocabulary_size: Annotated[int, Field(ge=32)] = 6000
    character_coverage: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of the texts; the rest is unknown
    longest_piece: Annotated[int, Field(ge=1, le=512)] = 16  # characters
    subword_smoothness: Annotated[float, Field(gt=0)] | None = None  # of `data.segmentations`
    embedding: Width = 256
    units: Width = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    shortlist: ShortlistModel | None = None  # none: every piece is a candidate


class EventsModel(Section):
    """How `networks.events` uses time, its widths, and the weights of its heads in the loss."""

    time: TimeUse = "time_gate"
    embedding: Width = 32
    units: Width = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    daily: bool = True  # the phase of the day is a channel of time; see `networks.clock`
    unseen: Annotated[float, Field(ge=0, lt=1)] = 0.0  # see `networks.events`; 0: an unseen kind is refused
    time_weight: Annotated[float, Field(ge=0)] = 1.0
    auxiliary_weight: Annotated[float, Field(ge=0)] = 0.2


Noise = Literal["element", "feature", "spatial", "step", "sample"]
"""Which values (batch, time, features) dropout drops together; see `networks.dropout.noise_shape`."""
Rate = Annotated[float, Field(ge=0, lt=1)]


class ForecasterData(Section):
    """A CSV table: a time, and one number a column; the rows evenly spaced, `train` of them first."""

    file: NumbersFile = NumbersFile()
    time: str = "date"  # the column of times, which is not a series
    feature: FeatureName = "history"  # what callers name the window, and the answer
    head: FeatureName = "forecast"
    history: Width = 96
    horizon: Width = 24
    season: Width = 24  # after so many rows the past repeats
    train: Width
    validation: Width
    test: Width | None = None  # rows after those; all that follow if absent

    @model_validator(mode="after")
    def _check(self) -> "ForecasterData":
        if self.feature in ("lengths", "seed", self.head):
            raise ValueError(f"feature: {self.feature!r} is another input's or the head's name")
        if not self.season < self.history:
            raise ValueError(f"history: {self.history} rows hold no two seasons of {self.season}")
        if self.validation < self.horizon:
            raise ValueError(f"validation: {self.validation} rows hold no horizon of {self.horizon}")
        return self


class Drop(Section):
    """A place of dropout: the share that is dropped, and what is dropped together."""

    rate: Rate
    noise: Noise


class ForecasterModel(Section):
    """Widths of `networks.forecaster`, what it drops and where, and how its intervals are made."""

    units: Width = 32
    before: Drop = Drop(rate=0.1, noise="feature")  # on the LSTM's inputs
    inside: Rate = 0.2  # on its hidden state, the same at every step
    after: Drop = Drop(rate=0.2, noise="feature")  # on its outputs
    samples: Annotated[int, Field(ge=0, le=1000)] = 40  # of Monte Carlo dropout; 0: no such head
    ridge: Annotated[float, Field(gt=0)] = 100.0  # penalty of the linear map's least squares
    tail: Annotated[float, Field(gt=0, lt=1)] = 0.2  # last share of the training rows, for the intervals

    @model_validator(mode="after")
    def _check(self) -> "ForecasterModel":
        if self.samples and not (self.before.rate or self.inside or self.after.rate):
            raise ValueError(f"samples: {self.samples} of a network that drops nothing are all the same")
        return self


class ClassifierData(Section):
    """`series`: labelled sequences of numbers in a `.ts` file.

    `labels` gives the order of the model's outputs, which the manifest carries; sorted if absent.
    """

    kind: Literal["series"] = "series"
    feature: FeatureName = "values"  # what callers name the numbers
    columns: tuple[str, ...] = ()
    head: FeatureName = "label"
    labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "ClassifierData":
        if self.feature == LENGTHS:
            raise ValueError(f"feature: {LENGTHS!r} is the name of another input")
        return self


class ClassifierModel(Section):
    """Widths, dropout and noise of `networks.classifier.Classifier`, and how its temperature is fitted.

    `calibration_folds`: how many networks are trained for the temperature, each answering the rows that it
    was not trained on; 0: it is fitted on the validation rows, which is enough where there are hundreds.
    """

    filters: Width = 64
    kernel: Width = 3
    blocks: Width = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    noise: Annotated[float, Field(ge=0)] = 0.3
    calibration_folds: Annotated[int, Field(ge=0, le=20)] = 5

    @model_validator(mode="after")
    def _check(self) -> "ClassifierModel":
        if self.calibration_folds == 1:
            raise ValueError("calibration_folds: 0, or 2 to 20, not 1")
        return self


class TaggerData(Section):
    """`log`, `journeys`: as for events. The tags are the events; the model sees their times alone."""

    kind: Literal["log", "journeys"]
    file: LogFile = LogFile()
    elapsed: FeatureName = "elapsed"  # what callers name the time since the previous event
    head: FeatureName = "activity"
    unit: Literal["seconds", "minutes", "hours", "days"] = "minutes"

    @model_validator(mode="after")
    def _check(self) -> "TaggerData":
        if self.elapsed == LENGTHS:
            raise ValueError(f"elapsed: {LENGTHS!r} is the name of another input")
        return self


class TaggerModel(Section):
    """Widths and dropout of `networks.tagger.Tagger`."""

    filters: Width = 64
    kernel: Width = 3
    blocks: Width = 2
    units: Width = 64
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Training(Section):
    """How long and how fast; the rate rises over `warmup` of the steps, then falls to 0 as a cosine."""

    seed: int = 1
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0  # momentum of the weights' moving average; 0: none


class Serving(Section):
    """What the exported version takes."""

    buckets: tuple[Width, ...] = (8, 16, 32, 64)
    text_characters: Width = 2000
    output_length: Annotated[int, Field(ge=1, le=LONGEST_OUTPUT)] = 80
    max_beams: Annotated[int, Field(ge=1, le=32)] = 8  # 1: no beam search

    @model_validator(mode="after")
    def _check(self) -> "Serving":
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError("buckets: ascending, at least one")
        return self


class Common(Section):
    """What every configuration has."""

    name: Name
    training: Training
    serving: Serving = Serving()


class TranslationConfig(Common):
    """The whole file of a translation model."""

    task: Literal["translation"]
    data: TranslationData
    model: TranslationModel = TranslationModel()


class EventsConfig(Common):
    """The whole file of an event-sequence model."""

    task: Literal["events"]
    data: EventsData
    model: EventsModel = EventsModel()


class ForecasterConfig(Common):
    """The whole file of a forecaster."""

    task: Literal["forecaster"]
    data: ForecasterData
    model: ForecasterModel = ForecasterModel()

    @model_validator(mode="after")
    def _check(self) -> "ForecasterConfig":
        if self.serving.buckets[-1] != self.data.history:
            raise ValueError(f"serving.buckets: the last one is the history, {self.data.history}")
        return self


class ClassifierConfig(Common):
    """The whole file of a classifier."""

    task: Literal["classifier"]
    data: ClassifierData = ClassifierData()
    model: ClassifierModel = ClassifierModel()


class TaggerConfig(Common):
    """The whole file of a tagger."""

    task: Literal["tagger"]
    data: TaggerData
    model: TaggerModel = TaggerModel()


Config = Annotated[
    TranslationConfig | EventsConfig | ForecasterConfig | ClassifierConfig | TaggerConfig,
    Field(discriminator="task"),
]
_CONFIG: TypeAdapter[Config] = TypeAdapter(Config)


def load_config(path: Path) -> Config:
    """Read a configuration.

    Raises:
        ConfigInvalid: no such file, not TOML, or a field is wrong.
    """
    return read_config(load_toml(path), str(path))


def load_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigInvalid: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise ConfigInvalid(f"{path}: {error}") from error


def unreadable(path: Path, error: OSError) -> ConfigInvalid:
    """Return the error of a file that cannot be opened: which, and why."""
    why = error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        why = f"there is no such file, seen from {Path.cwd()}"
    elif isinstance(error, IsADirectoryError):
        why = "it is a folder; a file is expected"
    return ConfigInvalid(f"{path}: {why}")


def read_config(table: dict[str, Any], source: str) -> Config:
    """Check a configuration's table; `source` names it in errors.

    Raises:
        ConfigInvalid: a field is wrong.
    """
    try:
        return _CONFIG.validate_python(table)
    except ValidationError as error:
        raise ConfigInvalid(f"{source}: {faults_of(error)}") from error


def faults_of(error: ValidationError) -> str:
    """Return every fault of a file, each with its field."""
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())


def in_short(error: BaseException, longest: int = 300) -> str:
    """Return what a foreign error says, on one line and cut to so many characters."""
    return " ".join(str(error).split())[:longest]
