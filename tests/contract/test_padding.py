"""Rows padded into one batch, and cut back to their real steps."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from seqserve.service.contract.manifest import (
    Limits,
    Manifest,
    MaskInput,
    Numbers,
    Numeric,
    Option,
    Signature,
    Tensor,
)
from seqserve.service.contract.padding import Row, bucket_of, pad_batch, real_steps

PADS = {"ids": -3, "table": 0.25}


def manifest(
    padding: Literal["left", "right"], mask_axes: tuple[str, ...] | None, mask_dtype: str
) -> Manifest:
    """Make a manifest of ids (time), a table (time, 2), a seed a row, an option a batch and maybe a mask."""
    inputs: dict[str, Any] = {
        "ids": {"dtype": "int32", "axes": ("batch", "time"), "pad_value": PADS["ids"]},
        "table": {"dtype": "float32", "axes": ("batch", "time", "unit"), "pad_value": PADS["table"]},
        "seed": {"dtype": "int64", "axes": ("batch",)},
        "beams": {"dtype": "int32", "axes": ()},
    }
    if mask_axes is not None:
        inputs["mask"] = {"dtype": mask_dtype, "axes": mask_axes}
    tensors = {name: Tensor(**tensor) for name, tensor in inputs.items()}
    return Manifest(
        task="sequence",
        name="m",
        version=1,
        signatures={
            "serving_default": Signature(
                inputs=tensors, outputs={"y": Tensor(dtype="float32", axes=("batch",))}
            )
        },
        mask="derived" if mask_axes is None else MaskInput(input="mask"),
        padding=padding,
        options={
            "seed": Option(option="seed", default=0, minimum=0, maximum=9),
            "beams": Option(option="beam_size", default=1, minimum=1, maximum=9),
        },
        features={
            "ids": Numbers(mean=(0.0,), scale=(1.0,)),
            "table": Numbers(width=2, mean=(0.0, 0.0), scale=(1.0, 1.0)),
        },
        heads={"y": Numeric()},
        limits=Limits(sequence_steps=12),
        buckets=(12,),
    )


def _row(length: int, seed: int) -> Row:
    random = np.random.default_rng(seed)
    ids = random.integers(-5, 5, length, dtype=np.int32)  # real cells may well hold the pad value
    table = random.normal(size=(length, 2)).astype(np.float32)
    return Row({"ids": ids, "table": table, "seed": np.array(seed, np.int32)}, length)


ROWS = st.lists(st.builds(_row, st.integers(1, 12), st.integers(0, 99)), min_size=1, max_size=6)
MASKS = st.sampled_from(
    [(None, ""), (("batch", "time"), "bool"), (("batch", "time"), "float32"), (("batch",), "int64")]
)


@given(rows=ROWS, spare=st.integers(0, 4), padding=st.sampled_from(["left", "right"]), mask=MASKS)
@settings(deadline=None)
def test_padding_is_undone(
    rows: list[Row], spare: int, padding: Literal["left", "right"], mask: tuple[tuple[str, ...] | None, str]
) -> None:
    """Cutting a padded row to its real steps gives it back; every other cell is exactly the pad value."""
    there = manifest(padding, *mask)
    signature = there.signatures["serving_default"]
    length = max(row.length for row in rows) + spare
    before = [{name: value.copy() for name, value in row.inputs.items()} for row in rows]
    batch = pad_batch(rows, length, signature, there)

    assert set(batch) == set(signature.inputs) - {"beams"}
    assert all(batch[name].dtype == signature.inputs[name].dtype for name in batch)
    assert batch["seed"].tolist() == [int(row.inputs["seed"]) for row in rows]
    for place, row in enumerate(rows):
        real = real_steps(np.arange(length), row.length, padding)
        assert real.tolist() == [*range(length)][-row.length if padding == "left" else 0 :][: row.length]
        for name, pad in PADS.items():
            padded = batch[name][place]
            assert len(padded) == length
            assert np.array_equal(real_steps(padded, row.length, padding), row.inputs[name])
            assert (np.delete(padded, real, axis=0) == pad).all()
        _check_mask(batch, place, row, real, length)
    for row, copies in zip(rows, before, strict=True):
        assert all(np.array_equal(row.inputs[name], copies[name]) for name in copies)


def _check_mask(batch: dict[str, Any], place: int, row: Row, real: Any, length: int) -> None:
    mask = batch.get("mask")
    if mask is None:
        return
    if mask.ndim == 1:
        assert mask[place] == row.length
    else:
        assert mask[place].tolist() == [step in real for step in range(length)]


def test_a_batch_shares_nothing_with_its_rows() -> None:
    """Writing into a batch, as a backend may, leaves the rows as they were, full ones too."""
    there = manifest("right", None, "")
    row = _row(3, 1)
    batch = pad_batch([row], 3, there.signatures["serving_default"], there)
    for value in batch.values():
        value[...] = 0
    assert np.array_equal(row.inputs["table"], _row(3, 1).inputs["table"])
    assert row.inputs["seed"] == 1


@given(buckets=st.sets(st.integers(1, 50), min_size=1).map(sorted), length=st.integers(1, 60))
@settings(deadline=None)
def test_bucket_of(buckets: list[int], length: int) -> None:
    """A row's bucket is the shortest that holds it; a row that none holds is a ValueError that says so."""
    holding = [bucket for bucket in buckets if bucket >= length]
    if holding:
        assert bucket_of(length, buckets) == min(holding)
    else:
        with pytest.raises(ValueError, match=f"{length} steps"):
            bucket_of(length, buckets)


@pytest.mark.parametrize("padding", ["left", "right"])
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_output_without_the_steps(shape: tuple[int, ...], padding: str) -> None:
    """An output with fewer steps than the row is the model's fault, not a shorter answer."""
    with pytest.raises(ValueError, match="3 steps"):
        real_steps(np.zeros(shape), 3, padding)
