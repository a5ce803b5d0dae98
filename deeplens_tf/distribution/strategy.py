"""Training on several devices or machines: the one place that knows `tf.distribute`.

Every replica of the model holds all weights and sees an equal part of each batch; losses and
statistics over a batch are those of the whole. A run on any number of replicas therefore makes
the steps that one device would make, up to rounding.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from deeplens_tf.data.batches import Share
from deeplens_tf.distribution.cluster import VARIABLE, _slurm_cluster, cluster_of
from deeplens_tf.distribution.keras_replicas import (
    StrategyReplicas,
    _batch_norms,
    _optimise_by_the_sum,
    _synchronise,
    _with_leading_axis,
)
from deeplens_tf.errors import RequestError, ResourceError

Prepared = TypeVar("Prepared")

PIECE_BYTES = 2**22
LOST = (
    *(tf.errors.UnavailableError, tf.errors.DeadlineExceededError),
    *(tf.errors.AbortedError, tf.errors.CancelledError),
)


@dataclass(frozen=True)
class Distribution:
    """Where a model computes.

    Attributes:
        strategy: TensorFlow's; None for a single device.
        worker: which of the processes that train together this one is.
        workers: how many there are.
    """

    strategy: tf.distribute.Strategy | None = None
    worker: int = 0
    workers: int = 1

    @property
    def replicas(self) -> int:
        """How many copies of the model share a batch, on all machines together."""
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes."""
        return self.worker == 0

    @property
    def can_compile(self) -> bool:
        """Whether XLA may compile a step, which it cannot where replicas talk to each other."""
        return self.strategy is None

    @property
    def ask_every(self) -> int:
        """Steps between two questions to all workers, for asking takes its time."""
        return 1 if self.workers == 1 else 10

    @property
    def share(self) -> Share:
        """Which part of every batch this process makes ready."""
        return Share(self.worker, self.workers)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the model and its optimiser must be made."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return which of the flags some worker has set; all of them must ask together."""
        if self.workers == 1:
            return flags
        return tuple(bool(count) for count in self._sum(np.array(flags, "float32")))

    def wait_for_all(self) -> None:
        """Return when every worker has come here."""
        self.any(True)

    def chief_first(self, prepare: Callable[[], Prepared]) -> Prepared:
        """Call a function on the chief, and then, when what it leaves is there, on the others."""
        if self.is_chief:
            prepared = prepare()
        self.wait_for_all()
        return prepared if self.is_chief else prepare()

    def from_chief(self, content: bytes) -> bytes:
        """Return what the chief calls this with, on every worker."""
        if self.workers == 1:
            return content
        content = content if self.is_chief else b""
        length = int.from_bytes(self._sum_of_bytes(len(content).to_bytes(8)))
        content = content.ljust(length, b"\0")
        pieces = (content[i : i + PIECE_BYTES] for i in range(0, length, PIECE_BYTES))
        return b"".join(map(self._sum_of_bytes, pieces))

    def _sum_of_bytes(self, content: bytes) -> bytes:
        # As float32, the one type that every kind of device adds up; a byte is exact in it.
        values = np.frombuffer(content, "uint8").astype("float32") * self.is_chief
        return self._sum(values).astype("uint8").tobytes()

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Add up what the workers have, each counted once however many replicas it holds."""
        local = self.replicas // self.workers

        def once(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            first = context.replica_id_in_sync_group % local == 0
            return tf.constant(values if first else np.zeros_like(values))

        parts = self.strategy.experimental_distribute_values_from_function(once)
        return self.strategy.reduce("SUM", parts, axis=None).numpy()

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Say which machine is gone when TensorFlow could not go on without it.

        Raises:
            ResourceError: another worker has ended, or cannot be reached.
        """
        try:
            yield
        except LOST as error:
            if self.workers == 1:
                raise
            raise ResourceError(
                f"worker {self.worker} of {self.workers} ends, for another has ended or cannot be "
                "reached: what that one says last tells why; the same command with --run-dir, or "
                "--resume, goes on from the last checkpoint"
            ) from error

    def require_divisible(self, batch_size: int) -> None:
        """Refuse a batch that the replicas cannot share equally.

        Raises:
            RequestError: `batch_size` is no multiple of their number.
        """
        if batch_size % self.replicas:
            below = max(self.divisible(batch_size), self.replicas)
            raise RequestError(
                f"train.batch_size {batch_size} cannot be shared equally by {self.replicas} "
                f"replicas: set it to a multiple of {self.replicas}, such as {below}"
            )

    def divisible(self, batch_size: int) -> int:
        """Return the largest batch, no larger than this one, that all replicas share equally."""
        return batch_size - batch_size % self.replicas

    def spread(self, batches: tf.data.Dataset | None) -> Any:
        """Hand each of this process's replicas its part of the batches, over and over.

        Without an end TensorFlow need not ask all replicas at each step whether there is one;
        `steps` says where it is.

        Args:
            batches: this process's share of each batch, or None.

        Returns:
            What `fit` and `evaluate` take. The parts of a smaller last batch may be empty.
        """
        if batches is None or self.strategy is None:
            return batches
        parts = _split(batches, self.replicas // self.workers).repeat()
        return self.strategy.distribute_datasets_from_function(lambda context: parts)

    def steps(self, batches: tf.data.Dataset | None) -> int | None:
        """Return how many batches make one pass; None where the stream itself ends there."""
        return None if batches is None or self.strategy is None else len(batches)

    def prepare(self, model: keras.Model, batch_spec: Any) -> None:
        """Let a compiled model compute on all replicas what it would on one device.

        Args:
            model: made, with its optimiser, in `scope`.
            batch_spec: `element_spec` of the batches it will be trained on.
        """
        if self.strategy is None:
            allocate(model, batch_spec)
            return
        if hasattr(model, "replicas"):
            model.replicas = StrategyReplicas(self.strategy)
        for layer in _batch_norms(model):
            _synchronise(layer)
        _optimise_by_the_sum(model.optimizer, self.replicas)
        self._build(model, batch_spec)
        if self.workers > 1:
            model.train_step = _with_leading_axis(model.train_step)
            model.test_step = _with_leading_axis(model.test_step)

    def _build(self, model: keras.Model, batch_spec: Any) -> None:
        """Make the variables of optimiser and metrics now.

        `fit` would take a batch to do so, and it cannot where the batch is a dict and the
        machines are several.
        """
        with self.scope():
            model._symbolic_build(data_batch=batch_spec)
        model._maybe_symbolic_build = lambda **batch: None


ALONE = Distribution()


def open_distribution(name: str) -> Distribution:
    """Return where to compute. Must come before anything else that asks for a device.

    Args:
        name: "none", one device; "mirrored", all GPUs of this machine; "multiworker", those of
            all machines of a cluster; "auto", mirrored where there is more than one GPU.

    Raises:
        RequestError: an unknown name, or no cluster to be found.
    """
    openers = {"none": lambda: ALONE, "auto": _auto, "mirrored": _mirrored}
    openers["multiworker"] = _multiworker
    if name not in openers:
        raise RequestError(f"--strategy {name}: one of {', '.join(openers)}")
    return openers[name]()


def _auto() -> Distribution:
    return _mirrored() if len(tf.config.list_physical_devices("GPU")) > 1 else ALONE


def _mirrored() -> Distribution:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return Distribution(tf.distribute.MirroredStrategy([device.name for device in devices]))


def _multiworker() -> Distribution:
    cluster = cluster_of() if VARIABLE in os.environ else _slurm_cluster()
    gpus = len(tf.config.list_physical_devices("GPU"))
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": gpus} if gpus else {},
        rpc_layer="grpc",
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    return Distribution(strategy, cluster.index, len(cluster.addresses))


def _split(batches: tf.data.Dataset, parts: int) -> tf.data.Dataset:
    """Cut each batch into `parts` in the rows' order, equal ones where it is whole."""
    if parts == 1:
        return batches

    def part(rows: tf.Tensor, i: tf.Tensor) -> tf.Tensor:
        count = tf.shape(rows, tf.int64)[0]
        cut = rows[i * count // parts : (i + 1) * count // parts]
        static = rows.shape[0] and rows.shape[0] // parts
        return tf.ensure_shape(cut, (static, *rows.shape[1:]))

    def cut(*batch: Any) -> tf.data.Dataset:
        batch = batch[0] if len(batch) == 1 else batch
        places = tf.data.Dataset.range(parts)
        return places.map(lambda i: keras.tree.map_structure(lambda rows: part(rows, i), batch))

    return batches.flat_map(cut)


def allocate(model: keras.Model, batch_spec: Any) -> None:
    """Make the variables that Keras makes in the first step only: the optimiser's, the metrics'.

    Args:
        model: built and compiled.
        batch_spec: `element_spec` of the batches it will be trained on.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    if isinstance(batch_spec, tuple):  # (images, targets); other batches have no compiled metrics
        images, targets = (tf.zeros((1, *spec.shape[1:]), spec.dtype) for spec in batch_spec)
        model.compute_metrics(images, targets, model(images, training=False))
        model.reset_metrics()
