"""Each input and output of a Keras model matched with a feature or head of its contract.

Where one does not fit, the message names the contract's field and the model's part, with both shapes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from seqserve.models.bring.contract import (
    AnyFeature,
    Contract,
    ContractCategories,
    ContractText,
    ContractTokens,
)
from seqserve.models.bring.keras_file import Port
from seqserve.models.bring.model_file import ModelFile
from seqserve.models.config import RESERVED, ConfigInvalid
from seqserve.models.manifest import AHEAD
from seqserve.service.contract.manifest import Head, Numbers, Numeric, Sigmoid, Softmax, has_steps
from seqserve.service.contract.texts import TextHead
from seqserve.service.contract.values import LARGEST

WHOLE: dict[str, int] = {"bfloat16": 2**8, "float16": 2**11, "float32": 2**24}
"""The number up to which each float type has every whole number."""


@dataclass(frozen=True, slots=True)
class Matching:
    """Which Keras input each feature goes to, which output each head comes from, and the mask's own input."""

    features: Mapping[str, Port]
    heads: Mapping[str, int]  # the output's place
    mask: Port | None

    @property
    def mask_name(self) -> str | None:
        """The signature's input that carries the mask."""
        return _identifier(self.mask.name) if self.mask is not None else None


def match_contract(contract: Contract, file: ModelFile) -> Matching:
    """Match every input and every head.

    Raises:
        ConfigInvalid: naming the field of the contract and the input or output of the model.
    """
    features = _match_features(contract, file)
    times = {port.shape[1] for name, port in features.items() if name in contract.stepped}
    heads = _match_heads(contract, file, times)
    _check_one_time(contract, file)
    matching = Matching(features, heads, _mask_port(contract, file))
    _check_all_fed(matching, file)
    return matching


def _identifier(name: str) -> str:
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    # TensorFlow renames an argument that begins with an underscore
    return plain if plain[:1].isalpha() and plain not in RESERVED else f"input_{plain}"


# --- inputs ---------------------------------------------------------------------------------------


def _match_features(contract: Contract, file: ModelFile) -> dict[str, Port]:
    ports = {port.name: port for port in file.inputs}
    matched: dict[str, Port] = {}
    for name, feature in contract.features.items():
        only = next(iter(ports)) if len(ports) == 1 else name
        wanted = feature.input or (name if name in ports else only)
        if wanted not in ports:
            field = f"features.{name}" + (".input" if feature.input else "")
            raise ConfigInvalid(
                f"{field}: the model has no input {wanted!r}; it has {list_ports(file.inputs)}"
            )
        other = next((n for n, port in matched.items() if port.name == wanted), None)
        if other is not None:
            raise ConfigInvalid(
                f"features.{name}: input {ports[wanted]} of the model is taken by features.{other}; "
                f"the model has {list_ports(file.inputs)}"
            )
        _check_input(f"features.{name}", feature, ports[wanted])
        matched[name] = ports[wanted]
    return matched


def list_ports(ports: Sequence[Port]) -> str:
    """Return inputs or outputs as a message shows them."""
    return ", ".join(map(str, ports))


def _check_input(field: str, feature: AnyFeature, port: Port) -> None:
    if (port.dtype == "string") != isinstance(feature, ContractText):
        advice = '; kind = "text" gives it strings' if port.dtype == "string" else ""
        raise ConfigInvalid(
            f"{field}: {feature.kind} cannot go into input {port} of the model: its dtype{advice}"
        )
    if isinstance(feature, ContractText):
        if port.shape[1:] not in ((), (1,)):
            raise ConfigInvalid(
                f"{field}: a text a row gives (batch), input {port} of the model does not fit"
            )
        return
    width = feature.width if isinstance(feature, Numbers) else 1
    axes, shape = (2 if has_steps(feature) else 1), port.shape
    widths = (width, None) if axes == 2 else (width,)  # an open axis behind the batch is time
    fits = (len(shape) == axes + 1 and shape[axes] in widths) or (len(shape) == axes and width == 1)
    if not fits:
        time = ", time" if axes == 2 else ""
        gives = f"(batch{time}, {width})" if isinstance(feature, Numbers) else f"(batch{time})"
        advice = "" if axes == 2 else _static_advice(feature, port)
        if axes == 2 and isinstance(feature, Numbers) and len(shape) == 3:
            advice = f": give width = {shape[2]}, or as many columns, mean and scale"
        elif axes == 2 and len(shape) < 3 and (len(shape) == 1 or shape[1] in (width, 1)):
            advice = _whole_advice(port)
        elif axes == 2 and isinstance(feature, ContractCategories) and len(shape) == 3:
            advice = ": make the ids one-hot in the model"
        raise ConfigInvalid(
            f"{field}: {feature.kind} give {gives}, input {port} of the model does not fit{advice}"
        )
    ids = isinstance(feature, ContractCategories | ContractTokens)
    floats = port.dtype in ("float16", "bfloat16", "float32", "float64")
    if not floats and not (ids and port.dtype.startswith(("int", "uint"))):
        raise ConfigInvalid(
            f"{field}: {feature.kind} cannot go into input {port} of the model: its dtype"
            '; whole numbers are ids, kind = "categories"'
        )
    if isinstance(feature, ContractCategories):
        _check_ids(field, feature, port)
    elif abs(feature.pad_value or 0) > LARGEST["float32"]:
        raise ConfigInvalid(f"{field}.pad_value: {feature.pad_value} is too large for float32")


def _static_advice(feature: AnyFeature, port: Port) -> str:
    """Return what helps where a feature with one value a sequence does not fit its input."""
    if len(port.shape) == 2 and port.shape[1] is not None:
        if isinstance(feature, Numbers):
            return f": give width = {port.shape[1]}, or as many columns, mean and scale"
        return ": make the id one-hot in the model"
    return ': leave per = "sequence" out where the input has a time axis'


def _whole_advice(port: Port) -> str:
    count = "one value" if port.shape[1:] in ((), (1,)) else f"{port.shape[1]} values"
    return f': per = "sequence" where it takes {count} of the whole sequence, not of each step'


def _check_ids(field: str, feature: ContractCategories, port: Port) -> None:
    """Refuse ids that the signature's int32 or the input's own dtype would round or wrap."""
    if feature.pad_value is not None and feature.pad_value % 1:
        raise ConfigInvalid(f"{field}.pad_value: {feature.pad_value} is not an id")
    least, most = whole_numbers(port)
    for key, number in (
        ("first_id", feature.first_id),
        ("labels", feature.first_id + len(feature.labels) - 1),
        ("unknown_id", feature.unknown_id or 0),
        ("pad_value", feature.pad_value or 0),
    ):
        if not least <= number <= most:
            raise ConfigInvalid(
                f"{field}.{key}: the id {int(number)} is outside {int(least)} to {int(most)}, the whole "
                f"numbers that input {port} of the model can take"
            )


def whole_numbers(port: Port) -> tuple[int, int]:
    """Return the least and the highest id that an input takes as it is sent, as int32."""
    least, most = -int(LARGEST["int32"]), int(LARGEST["int32"])
    if port.dtype in WHOLE:
        return -WHOLE[port.dtype], WHOLE[port.dtype]
    if port.dtype in ("int32", "int64", "float64"):
        return least, most
    limits = np.iinfo(port.dtype)
    return max(least, int(limits.min)), min(most, int(limits.max))


def _mask_port(contract: Contract, file: ModelFile) -> Port | None:
    if contract.mask_input is None:
        return None
    for port in file.inputs:
        if port.name == contract.mask_input:
            if len(port.shape) <= 2:
                return port
            raise ConfigInvalid(f"mask_input: a mask is (batch, time), lengths (batch); the model has {port}")
    raise ConfigInvalid(
        f"mask_input: the model has no input {contract.mask_input!r}; it has {list_ports(file.inputs)}"
    )


def _check_all_fed(matching: Matching, file: ModelFile) -> None:
    fed = {port.name for port in matching.features.values()}
    for port in file.inputs:
        if port == matching.mask and port.name in fed:
            raise ConfigInvalid(f"mask_input: input {port} of the model is taken by a feature")
        if port != matching.mask and port.name not in fed:
            static = 'with per = "sequence" if it has no steps, ' if len(port.shape) <= 2 else ""
            raise ConfigInvalid(
                f"features: input {port} of the model has none; add [features.{_identifier(port.name)}], "
                f"{static}or mask_input = {port.name!r} if it takes the mask or the lengths"
            )
    if matching.mask_name in matching.features:
        raise ConfigInvalid(
            f"features.{matching.mask_name}: this is the name of the mask's input; choose another"
        )


def _check_one_time(contract: Contract, file: ModelFile) -> None:
    """Refuse a translator as it was taught: its inputs may differ in length, and its output follows one."""
    ports = [port for port in file.inputs if len(port.shape) > 1 and port.shape[1] is None]
    if len(ports) < 2 or not any(isinstance(head, Softmax) for head in contract.heads.values()):
        return
    lengths = {port.name: 2 + place for place, port in enumerate(ports)}
    try:
        outputs = keras.tree.flatten(
            file.network([_zeros(port, lengths) for port in file.inputs], training=False)
        )
    except Exception:  # its inputs have one time axis: they cannot be joined at different lengths
        return
    for port in ports:
        if any(len(x.shape) == 3 and x.shape[1] == lengths[port.name] for x in outputs):
            others = list_ports([other for other in ports if other is not port])
            raise ConfigInvalid(
                f"features: the model's output has the time axis of input {port}, and {others} may have "
                f"another: is {port.name!r} the translation, given while it was trained? Then "
                'task = "translation", with [source] and [target] (docs/bring.md)'
            )


def _zeros(port: Port, lengths: Mapping[str, int]) -> tf.Tensor:
    """Return one row of zeros; an open axis that is no time is 1 long."""
    shape = [
        lengths.get(port.name) if axis == 1 and size is None else size for axis, size in enumerate(port.shape)
    ]
    return tf.zeros([size or 1 for size in shape], port.dtype)


# --- outputs --------------------------------------------------------------------------------------


def _match_heads(contract: Contract, file: ModelFile, times: set[int | None]) -> dict[str, int]:
    names = [port.name for port in file.outputs]
    matched: dict[str, int] = {}
    for name, given in contract.heads.items():
        wanted = given.output if given.output is not None else name
        if given.output is None and name not in names and len(names) == 1:
            wanted = 0
        places = [at for at, output in enumerate(names) if wanted in (at, output)]
        if len(places) != 1:
            field = f"heads.{name}" + (".output" if given.output is not None else "")
            has = "several outputs" if places else "no output"
            listed = ", ".join(f"{at}: {port}" for at, port in enumerate(file.outputs))
            raise ConfigInvalid(f"{field}: the model has {has} {wanted!r}; it has {listed}")
        matched[name] = places[0]
    for name, head in contract.manifest_heads().items():
        _check_output(f"heads.{name}", head, file.outputs[matched[name]], times)
    return matched


def _check_output(field: str, head: Head, port: Port, times: set[int | None]) -> None:
    if isinstance(head, TextHead):
        if port.dtype != "string" or port.shape[1:] not in ((), (1,)):
            raise ConfigInvalid(
                f"{field}: a string a row is expected, output {port} of the model does not fit"
            )
        return
    if port.dtype == "string":
        raise ConfigInvalid(f'{field}: output {port} of the model is text; kind = "text" answers with it')
    if port.dtype.startswith(("int", "uint", "bool", "string")) and not isinstance(head, Numeric):
        raise ConfigInvalid(
            f"{field}: scores are expected, output {port} of the model is not scores but the model's choice"
        )
    width = len(head.scale) if isinstance(head, Numeric) else len(head.labels)
    if isinstance(head, Softmax) and width == 1:
        raise ConfigInvalid(
            f'{field}.labels: a softmax of the one label {head.labels[0]!r} is always 1; kind = "sigmoid" '
            f"gives the score of output {port} of the model"
        )
    levels = (len(head.quantiles),) if isinstance(head, Numeric) and head.quantiles else ()
    ahead = AHEAD[head.per]
    wanted: tuple[str | int, ...] = ("batch", *ahead, width, *levels)
    shorter = [(*ahead, *levels)] if width == 1 else []
    shapes = [(*ahead, width, *levels), *shorter]
    if not any(_same(shape, port.shape[1:], times) for shape in shapes):
        shown = f"({', '.join(map(str, wanted))})"
        advice = _advice(head, port, width)
        raise ConfigInvalid(f"{field}: {shown} is expected, output {port} of the model does not fit{advice}")


def _same(wanted: Sequence[str | int], shape: Sequence[int | None], times: set[int | None]) -> bool:
    if len(wanted) != len(shape):
        return False
    for axis, size in zip(wanted, shape, strict=True):
        if axis == "time" and size is not None and size not in times:
            return False
        if isinstance(axis, int) and size not in (axis, None):
            return False
    return True


def _advice(head: Head, port: Port, width: int) -> str:
    rank = len(port.shape)
    if isinstance(head, Numeric):
        return _numeric_advice(head, port.shape[1:], width)
    if isinstance(head, Softmax) and width == 2 and port.shape[-1] == 1:
        return ': one score for two classes is kind = "sigmoid" with one label'
    if head.per == "sequence" and rank == 3:
        return ': per = "step" where it answers each step'
    if head.per == "step" and rank == 2:
        return ': per = "sequence" where it answers once'
    if isinstance(head, (Softmax, Sigmoid)) and port.shape[-1] != width:
        return f": labels has {width} entries, the output {port.shape[-1]}; one for each, in training's order"
    return ""


def _numeric_advice(head: Numeric, shape: tuple[int | None, ...], width: int) -> str:
    """Return what a head of numbers is most likely meant to be, by the output's shape without the batch."""
    values = shape[:-1] if head.quantiles else shape
    if head.quantiles and shape and shape[-1] not in (None, len(head.quantiles)):
        return f": quantiles has {len(head.quantiles)} entries, the output's last axis {shape[-1]}"
    if head.per == "sequence" and len(values) == 1:
        return (
            f': per = "horizon" where it gives {values[0]} steps ahead; columns = [{values[0]} names] where '
            "it gives so many quantities"
        )
    if head.per == "sequence" and len(values) == 2:
        ahead = f'per = "horizon" where it gives {values[0]} steps ahead, ' if values[0] else ""
        names = "" if values[1] == width else f"; columns = [{values[1]} names]"
        return f': {ahead}per = "step" where it answers each step{names}'
    if head.per != "sequence" and len(values) == 2 and values[1] != width:
        return f": the output has {values[1]} values a step: columns = [{values[1]} names]"
    if head.per == "step" and len(values) == 1:
        return ': per = "sequence" where it answers once, "horizon" where it gives steps ahead'
    return ""
