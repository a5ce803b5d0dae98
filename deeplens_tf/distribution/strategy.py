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
from keras import KerasTensor

from deeplens_tf.data.batches import Share
from deeplens_tf.distribution.cluster import (
    VARIABLE,
    Cluster,
    cluster_of,
)
from deeplens_tf.errors import RequestError, ResourceError
from deeplens_tf.models.replicas import Replicas
from deeplens_tf.training.model_arrays import allocate

Prepared = TypeVar("Prepared")

PIECE_BYTES = 2**22
FIRST_PORT, PORTS = 12000, 20000  # below the range from which Linux gives out ports
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


class StrategyReplicas(Replicas):
    """The replicas of a TensorFlow strategy, as a loss sees them."""

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.count = strategy.num_replicas_in_sync

    def gather(self, rows: KerasTensor) -> KerasTensor:
        """Return the rows of all replicas; TensorFlow adds up what flows back to them."""
        context = tf.distribute.get_replica_context()
        if context is None:
            return rows
        # As float32, for TensorFlow gathers no bfloat16; every value of 16 bits is one of its own.
        gathered = tf.cast(context.all_gather(tf.cast(rows, tf.float32), axis=0), rows.dtype)
        # Gathering forgets the shape, of which only the number of rows is in doubt.
        return tf.ensure_shape(gathered, (None, *rows.shape[1:]))

    def first_row(self, rows: KerasTensor) -> KerasTensor | int:
        """Return at which of the gathered rows this replica's own begin."""
        context = tf.distribute.get_replica_context()
        return 0 if context is None else context.replica_id_in_sync_group * tf.shape(rows)[0]

    def mean(self, value: KerasTensor) -> KerasTensor:
        """Return the mean over the replicas of a value that each has its own of."""
        return _mean_over_replicas(value)


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


def _slurm_cluster() -> Cluster:
    """Read the variables of a SLURM job step.

    The resolver is asked for the addresses alone. Left to itself it sets CUDA_VISIBLE_DEVICES
    over what SLURM has set, needs GPUs, and takes the order of its sorted hosts for the order of
    the tasks, which node9 and node10 break.
    """
    try:
        port = FIRST_PORT + int(os.environ["SLURM_JOB_ID"]) % PORTS  # two jobs may share a node
        slurm = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=port,
            gpus_per_node=int(os.environ["SLURM_STEP_NUM_TASKS"]),
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        addresses = slurm.cluster_spec().as_dict()["worker"]
        own = f"{os.environ['SLURMD_NODENAME']}:{port + int(os.environ['SLURM_LOCALID'])}"
        return Cluster(tuple(addresses), addresses.index(own))
    except (KeyError, ValueError, RuntimeError) as error:
        raise RequestError(
            f"--strategy multiworker finds no cluster, neither in {VARIABLE} nor in SLURM's "
            f"variables ({type(error).__name__}: {error}): start it by srun, or set {VARIABLE}"
        ) from error


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


def _batch_norms(model: keras.Model) -> Iterator[keras.layers.BatchNormalization]:
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _batch_norms(layer)


def _mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    return value if context is None else context.all_reduce("MEAN", value)


def _synchronise(layer: keras.layers.BatchNormalization) -> None:
    """Let a BatchNorm take mean and variance over all replicas, and its file say nothing of it.

    Its own `synchronized=True` is an option that other backends of Keras refuse to load, and it
    takes the variance as a difference of two means, which may be all rounding.
    """

    def moments(inputs: tf.Tensor, mask: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        if mask is not None:
            raise NotImplementedError("statistics over several replicas with a mask")
        axes = [axis for axis in range(len(inputs.shape)) if axis != layer.axis % len(inputs.shape)]
        mean = _mean_over_replicas(tf.reduce_mean(inputs, axes, keepdims=True))
        variance = _mean_over_replicas(tf.reduce_mean(tf.square(inputs - mean), axes))
        return tf.reshape(mean, [-1]), variance

    layer._moments = moments


def _optimise_by_the_sum(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Let what an optimiser does with a gradient, beside adding it up, be of the whole batch's.

    Keras clips each replica's own gradient, and asks the first replica's alone whether it has
    overflowed in float16.
    """
    clipped = [each for each in _optimizers(optimizer) if each.global_clipnorm is not None]
    for each in clipped:
        each.global_clipnorm /= replicas
    if clipped or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        _share_the_sum(optimizer, replicas)


def _optimizers(optimizer: keras.optimizers.Optimizer) -> list[keras.optimizers.Optimizer]:
    """Return an optimiser's own, where it is a wrapper of others."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return _optimizers(optimizer.inner_optimizer)
    return getattr(optimizer, "optimizers", [optimizer])


def _share_the_sum(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Give each replica an equal part of the whole gradient, which Keras then adds up again."""
    apply = optimizer.apply

    def apply_shared(gradients: list[tf.Tensor | None], variables: Any = None) -> None:
        known = [gradient for gradient in gradients if gradient is not None]
        whole = iter(tf.distribute.get_replica_context().all_reduce("SUM", known))
        shared = [None if gradient is None else next(whole) / replicas for gradient in gradients]
        apply(shared, variables)

    optimizer.apply = apply_shared


def _with_leading_axis(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give each metric of a step an axis: over several workers Keras takes the mean along one.

    It does so even for scalars, which have none (keras-team/keras issue 20585).
    """

    def stepped(data: Any) -> Any:
        return keras.tree.map_structure(lambda metric: tf.reshape(metric, (1,)), step(data))

    return stepped
