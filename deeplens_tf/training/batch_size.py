"""The number of images in a batch: chosen where it is left open, refused where it cannot work."""

from dataclasses import replace

from deeplens_tf.config import Config
from deeplens_tf.data.batches import require_batch
from deeplens_tf.distribution.strategy import Distribution
from deeplens_tf.errors import RequestError
from deeplens_tf.registry import methods
from deeplens_tf.terminal import print_lines

# Images per batch where there are as many.
PRETRAINING, FINETUNING = 128, 64


def require_possible(config: Config, distribution: Distribution, smallest: int = 1) -> None:
    """Refuse a batch that the user set, as far as that is known before the data are prepared.

    Args:
        config: of the run.
        distribution: devices to use.
        smallest: images that a batch must contain.

    Raises:
        RequestError: the batch is too small, or cannot be divided among the replicas.
    """
    size = config.train.batch_size
    if size is None:
        return
    if size < smallest:
        raise RequestError(
            f"train.batch_size {size}: {config.pretrain.method} compares the images of a batch: "
            f"set it to {smallest} or more"
        )
    distribution.require_divisible(size)


def smallest_batch(config: Config) -> int:
    """Return how many images a batch of the configured pretraining must contain."""
    return getattr(methods.entry(config.pretrain.method).kind, "smallest_batch", 1)


def with_batch_size(
    config: Config,
    default: int,
    count: int,
    what: str,
    distribution: Distribution,
    smallest: int = 1,
) -> Config:
    """Return the configuration with a `train.batch_size` that is not null.

    Args:
        config: of the run.
        default: images per batch where there are as many.
        count: number of images to train on.
        what: they are, for messages.
        distribution: devices to use.
        smallest: images that a batch must contain.

    Raises:
        RequestError: there are fewer images than a batch needs.
    """
    if count < smallest:
        raise RequestError(
            f"{config.pretrain.method} compares {smallest} or more images, and there are {count} "
            f"{what}: add images, or set pretrain.method=inpainting"
        )
    size = config.train.batch_size
    if size is None:
        size = _fitting(default, count, distribution)
        if size != default and distribution.is_chief:
            print_lines(f"train.batch_size: {size} of the {count} {what}, instead of {default}")
    require_batch(size, count, what)
    return replace(config, train=replace(config.train, batch_size=size))


def _fitting(default: int, count: int, distribution: Distribution) -> int:
    """Return the default or, for fewer images, the largest power of two up to half of them.

    It is at least two, if there are two, and a multiple of the replicas.
    """
    size = default if count >= default else 2 ** max((count // 2).bit_length() - 1, 1)
    return distribution.divisible(min(size, max(count, 1))) or distribution.replicas
