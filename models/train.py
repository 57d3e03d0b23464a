"""The training loop: resumable, reproducible by its seed, with its progress shown.

A checkpoint is kept after every epoch; a run that was stopped goes on after its last one and ends with the
same weights as a run that was not. Where the configuration asks for averaged weights (`ema`; Polyak and
Juditsky, 1992, https://doi.org/10.1137/0330046), those are validated and exported, and training goes on with
the others.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seqserve.models.config import Config, ConfigInvalid, Training
from seqserve.models.data.batches import epoch_batches

Batch = tuple[Any, Any, Any]  # inputs, targets, sample weights


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of an epoch: how long each is, and how some of them, by index, become a batch."""

    lengths: Sequence[float]
    batch: Callable[[np.ndarray], Batch]


@dataclass(frozen=True, slots=True)
class Task:
    """What the loop needs to know of a model: its rows, how they become batches, its network."""

    network: keras.Model
    draw: Callable[[np.random.Generator], Rows]  # for an epoch
    validation: list[Batch]
    signature: Any  # the tf.TensorSpec structure of a batch


def make_reproducible(seed: int) -> None:
    """Seed every source of chance and ask TensorFlow for deterministic kernels."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def schedule(config: Training, rows: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return the learning rate: a linear rise, then a cosine to zero over all steps."""
    steps = config.epochs * -(-rows // config.batch_size)
    warmup = max(1, int(config.warmup * steps))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), warmup_target=config.learning_rate, warmup_steps=warmup
    )


def fit(
    task: Task, config: Config, work: Path, console: Console, resume: bool, data_sha256: str = ""
) -> dict[str, Any]:
    """Train to the last epoch and return what the card records: epochs, seconds, validation metrics.

    Args:
        work: folder of the checkpoints, made anew unless `resume`.
        data_sha256: of the data, so that a run is not resumed on another's.

    Raises:
        ConfigInvalid: the checkpoints to resume from are of another configuration or other data.
    """
    identity = f"{config.model_dump_json()}\n{data_sha256}\n"
    # before the optimizer's variables are made, which are part of the checkpoints
    task.network.optimizer.use_ema = config.training.ema > 0
    task.network.optimizer.ema_momentum = config.training.ema
    manager, epochs_done, seconds = _checkpoints(task, identity, work, resume)
    if int(epochs_done):
        console.print(f"resumed after epoch {int(epochs_done)} from {work}")
    metrics: dict[str, float] = {}
    with _progress(console) as progress:
        for epoch in range(int(epochs_done), config.training.epochs):
            started = time.perf_counter()
            metrics = _run_epoch(task, config.training, epoch, progress)
            epochs_done.assign_add(1)
            seconds.assign_add(time.perf_counter() - started)
            manager.save()
            shown = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            console.print(f"epoch {epoch + 1}/{config.training.epochs}  {float(seconds):.0f} s  {shown}")
    task.network.optimizer.finalize_variable_values(task.network.trainable_variables)
    metrics = metrics or _validate(task)  # resumed after the last epoch
    return {"epochs": config.training.epochs, "seconds": round(float(seconds), 1), **metrics}


def _checkpoints(
    task: Task, identity: str, work: Path, resume: bool
) -> tuple[tf.train.CheckpointManager, tf.Variable, tf.Variable]:
    """Return the manager, and the epochs and seconds spent, restored from `work` where resuming."""
    record = work / "run.json"
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    if record.exists() and record.read_text("utf-8") != identity:
        raise ConfigInvalid(f"{work} is another run's, by configuration or data: train without --resume")
    record.write_text(identity, "utf-8")
    optimizer = task.network.optimizer
    optimizer.build(task.network.trainable_variables)
    epochs_done, seconds = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0, dtype=tf.float64)
    # a list by position holds every variable, the seeds of dropout too, which tracking by name misses
    variables = [variable.value for variable in (*task.network.variables, *optimizer.variables)]
    checkpoint = tf.train.Checkpoint(variables=variables, epochs=epochs_done, seconds=seconds)
    manager = tf.train.CheckpointManager(checkpoint, str(work), max_to_keep=2)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_consumed()
    return manager, epochs_done, seconds


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, TextColumn("loss {task.fields[loss]:.3f}"), console=console, transient=True)


def _run_epoch(task: Task, config: Training, epoch: int, progress: Progress) -> dict[str, float]:
    drawn = task.draw(np.random.default_rng((config.seed, epoch, 0)))
    batches = -(-len(drawn.lengths) // config.batch_size)
    bar = progress.add_task(f"epoch {epoch + 1}/{config.epochs}", total=batches, loss=float("nan"))

    def rows() -> Iterator[Batch]:
        return map(drawn.batch, epoch_batches(drawn.lengths, config.batch_size, config.seed, epoch))

    data = _dataset(rows, task.signature, batches)
    show = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda _, logs: progress.update(bar, advance=1, loss=logs["loss"])
    )
    trained: list[np.ndarray] = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: trained.extend(value.numpy() for value in task.network.trainable_variables)
    )
    history = task.network.fit(
        data, epochs=epoch + 1, initial_epoch=epoch, verbose=0, shuffle=False, callbacks=[show, keep]
    )
    progress.remove_task(bar)
    metrics = {"loss": float(history.history["loss"][-1]), **_validate(task)}
    # the end of `fit` has put the averages, if any, in the place of the weights to train on
    for variable, value in zip(task.network.trainable_variables, trained, strict=True):
        variable.assign(value)
    return metrics


def _validate(task: Task) -> dict[str, float]:
    held_out = _dataset(lambda: iter(task.validation), task.signature, len(task.validation))
    metrics = task.network.evaluate(held_out, verbose=0, return_dict=True)
    # a head's own loss is not on the scale of the whole, where that is a mean over all steps of an epoch
    kept = (name for name in metrics if name == "loss" or not name.endswith("_loss"))
    return {f"val_{name}": float(metrics[name]) for name in kept}


def _dataset(rows: Callable[[], Iterator[Batch]], signature: Any, batches: int) -> tf.data.Dataset:
    data = tf.data.Dataset.from_generator(rows, output_signature=signature).prefetch(4)
    options = tf.data.Options()
    options.autotune.enabled = False  # nothing is there to tune, and its thread may sleep 60 s at the end
    return data.apply(tf.data.experimental.assert_cardinality(batches)).with_options(options)
