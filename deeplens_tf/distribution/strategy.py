"""Training on several devices or machines by `tf.distribute`.

Every replica has all weights and an equal part of each batch; losses and statistics over a batch
are those of the whole batch. A run on any number of replicas therefore makes the same steps as one
device, up to rounding.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from deeplens_tf.data.image_data import Share
from deeplens_tf.distribution.cluster import VARIABLE, read_cluster, slurm_cluster
from deeplens_tf.distribution.keras_replicas import (
    connect_replicas,
    with_leading_axis,
)
from deeplens_tf.errors import RequestError, ResourceError

Prepared = TypeVar("Prepared")

BROADCAST_BYTES = 2**22
LOST = (
    *(tf.errors.UnavailableError, tf.errors.DeadlineExceededError),
    *(tf.errors.AbortedError, tf.errors.CancelledError),
)


@dataclass(frozen=True)
class Distribution:
    """The devices that a model uses.

    Attributes:
        strategy: of TensorFlow; None for a single device.
        worker: number of this process among those that train together.
        workers: number of processes that train together.
    """

    strategy: tf.distribute.Strategy | None = None
    worker: int = 0
    workers: int = 1

    @property
    def replicas(self) -> int:
        """Number of copies of the model that share a batch, on all machines."""
        return 1 if self.strategy is None else self.strategy.num_replicas_in_sync

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that writes files."""
        return self.worker == 0

    @property
    def can_compile(self) -> bool:
        """Whether XLA can compile a step; it cannot if replicas communicate."""
        return self.strategy is None

    @property
    def has_gpu(self) -> bool:
        """Whether models run on a GPU."""
        return bool(tf.config.list_physical_devices("GPU"))

    @property
    def agree_every(self) -> int:
        """Steps between two agreements of all workers, since communication takes time."""
        return 1 if self.workers == 1 else 10

    @property
    def share(self) -> Share:
        """Part of every batch that this process provides."""
        return Share(self.worker, self.workers)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which the model and its optimiser must be created."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return which flags are set on any worker; all workers must call this together."""
        if self.workers == 1:
            return flags
        return tuple(bool(count) for count in self._sum(np.array(flags, "float32")))

    def wait_for_all(self) -> None:
        """Wait until every worker calls this."""
        self.any(True)

    def chief_first(self, prepare: Callable[[], Prepared]) -> Prepared:
        """Call a function on the chief and then, when the chief has finished, on the others."""
        if self.is_chief:
            prepared = prepare()
        self.wait_for_all()
        return prepared if self.is_chief else prepare()

    def from_chief(self, content: bytes) -> bytes:
        """Return on every worker the content that the chief passes."""
        if self.workers == 1:
            return content
        content = content if self.is_chief else b""
        length = int.from_bytes(self._summed_bytes(len(content).to_bytes(8)))
        content = content.ljust(length, b"\0")
        pieces = (content[i : i + BROADCAST_BYTES] for i in range(0, length, BROADCAST_BYTES))
        return b"".join(map(self._summed_bytes, pieces))

    def _summed_bytes(self, content: bytes) -> bytes:
        # As float32, the only type that all devices can sum; it represents a byte exactly.
        values = np.frombuffer(content, "uint8").astype("float32") * self.is_chief
        return self._sum(values).astype("uint8").tobytes()

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Sum the values of the workers, each counted once for any number of its replicas."""
        if self.strategy is None:
            return values
        local = self.replicas // self.workers

        def once(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            first = context.replica_id_in_sync_group % local == 0
            return tf.constant(values if first else np.zeros_like(values))

        parts = self.strategy.experimental_distribute_values_from_function(once)
        return self.strategy.reduce("SUM", parts, axis=None).numpy()

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Report the loss of another worker.

        Raises:
            ResourceError: another worker has ended or cannot be reached.
        """
        try:
            yield
        except LOST as error:
            if self.workers == 1:
                raise
            raise ResourceError(
                f"worker {self.worker} of {self.workers} ends because another worker has ended or "
                "cannot be reached; see that worker's last message; the same command with "
                "--run-dir, or --resume, continues from the last checkpoint"
            ) from error

    def require_divisible(self, batch_size: int) -> None:
        """Refuse a batch that cannot be divided equally among the replicas.

        Raises:
            RequestError: `batch_size` is not a multiple of their number.
        """
        if batch_size % self.replicas:
            below = max(self.divisible(batch_size), self.replicas)
            raise RequestError(
                f"train.batch_size {batch_size} cannot be divided equally among {self.replicas} "
                f"replicas: set it to a multiple of {self.replicas}, such as {below}"
            )

    def divisible(self, batch_size: int) -> int:
        """Return the largest batch up to `batch_size` that divides equally among the replicas."""
        return batch_size - batch_size % self.replicas

    def spread(self, batches: tf.data.Dataset | None) -> Any:
        """Give each replica of this process its part of the batches, repeated without end.

        With an endless stream TensorFlow need not check all replicas for its end at each step;
        `steps` returns the length of a pass.

        Args:
            batches: this process's share of each batch, or None.

        Returns:
            A dataset for `fit` and `evaluate`. The parts of a smaller last batch may be empty.
        """
        if batches is None or self.strategy is None:
            return batches
        parts = _split(batches, self.replicas // self.workers).repeat()
        return self.strategy.distribute_datasets_from_function(lambda context: parts)

    def steps(self, batches: tf.data.Dataset | None) -> int | None:
        """Return the number of batches in one pass; None if the stream ends there by itself."""
        return None if batches is None or self.strategy is None else len(batches)

    def prepare(self, model: keras.Model, batch_spec: Any) -> None:
        """Make a compiled model compute on all replicas what it would compute on one device.

        Args:
            model: created in `scope` with its optimiser.
            batch_spec: `element_spec` of the training batches.
        """
        if self.strategy is None:
            allocate(model, batch_spec)
            return
        if self.replicas > 1:
            connect_replicas(model)
        self._build(model, batch_spec)
        if self.workers > 1:
            model.train_step = with_leading_axis(model.train_step)
            model.test_step = with_leading_axis(model.test_step)

    def _build(self, model: keras.Model, batch_spec: Any) -> None:
        """Create the variables of optimiser and metrics.

        `fit` uses a batch for that, which fails for a batch that is a dict on several machines.
        """
        with self.scope():
            model._symbolic_build(data_batch=batch_spec)
        model._maybe_symbolic_build = lambda **batch: None


ALONE = Distribution()


def open_distribution(name: str) -> Distribution:
    """Return the devices to use. Must be called before anything else uses a device.

    Args:
        name: "none", one device; "mirrored", all GPUs of this machine; "multiworker", those of
            all machines of a cluster; "auto", mirrored where there is more than one GPU.

    Raises:
        RequestError: an unknown name, or no cluster found.
    """
    openers: dict[str, Callable[[], Distribution]] = {
        "none": lambda: ALONE,
        "auto": _auto,
        "mirrored": _mirrored,
        "multiworker": _multiworker,
    }
    if name not in openers:
        raise RequestError(f"--strategy {name}: one of {', '.join(openers)}")
    return openers[name]()


def _auto() -> Distribution:
    return _mirrored() if len(tf.config.list_physical_devices("GPU")) > 1 else ALONE


def _mirrored() -> Distribution:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return Distribution(tf.distribute.MirroredStrategy([device.name for device in devices]))


def _multiworker() -> Distribution:
    cluster = read_cluster() if VARIABLE in os.environ else slurm_cluster()
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
    """Split each batch into `parts` in the order of its rows, equal ones for a full batch."""
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
    """Create the variables of optimiser and metrics, which Keras creates in the first step.

    Args:
        model: built and compiled.
        batch_spec: `element_spec` of the training batches.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    if isinstance(
        batch_spec, tuple
    ):  # (images, targets); models with other batches have no compiled metrics
        images, targets = (tf.zeros((1, *spec.shape[1:]), spec.dtype) for spec in batch_spec)
        model.compute_metrics(images, targets, model(images, training=False))
        model.reset_metrics()
