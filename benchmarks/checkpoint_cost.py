"""The cost of saving: the time of a checkpoint compared with that of a training step.

    python benchmarks/checkpoint_cost.py --encoder vit_tiny --minutes 1

Trains the contrastive model on random images, whose content does not affect the time, and saves
as a run does: every variable is flushed to the disk, sealed and moved into place. The table shows
the fraction of the time that saving takes at the given interval.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deeplens_tf.startup import import_tensorflow

if TYPE_CHECKING:
    import keras

IMAGE_SHAPE = (64, 64, 1)
CLASSES = 3


def main() -> None:
    """Measure with the options of the command line and print one table."""
    arguments = build_parser().parse_args()
    import_tensorflow()
    step, save, megabytes = _measured(arguments)
    step_s = _median_s(step, arguments.steps)
    save_s = _median_s(save, arguments.saves)
    fraction = save_s / (60 * arguments.minutes + save_s)
    print("| encoder | batch | step | checkpoint | save | fraction of the time |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {arguments.encoder} | {arguments.batch_size} | {1000 * step_s:.0f} ms "
        f"| {megabytes():.1f} MB | {1000 * save_s:.0f} ms ({save_s / step_s:.2f} steps) "
        f"| {100 * fraction:.2f} % at one per {arguments.minutes:g} min |"
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="vit_tiny")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=1.0, help="interval between checkpoints")
    parser.add_argument("--steps", type=int, default=10, help="steps to take the median of")
    parser.add_argument("--saves", type=int, default=10, help="saves to take the median of")
    parser.add_argument("--folder", type=Path, help="folder on the disk to measure; default: here")
    return parser


def _measured(
    arguments: argparse.Namespace,
) -> tuple[Callable[[], object], Callable[[], object], Callable[[], float]]:
    """Return a training step, a save, and the size of the newest checkpoint in MB."""
    import numpy as np

    from deeplens_tf.runs.checkpoints import CheckpointStore
    from deeplens_tf.training.model_arrays import arrays_of

    model = _build_model(arguments.encoder)
    generator = np.random.default_rng(0)
    images = generator.random((arguments.batch_size, *IMAGE_SHAPE), "float32")
    labels = generator.integers(0, CLASSES, arguments.batch_size)
    batch = {"view_1": images, "view_2": images, "image": images, "label": labels}
    folder = tempfile.TemporaryDirectory(dir=arguments.folder or Path.cwd())
    store = CheckpointStore(Path(folder.name) / "checkpoints", keep=2)

    def save(folder: tempfile.TemporaryDirectory = folder) -> None:
        # The default argument keeps the folder alive as long as this function.
        arrays = arrays_of(model, "model", "optimizer", "metrics")
        store.save(int(model.optimizer.iterations), arrays, {"epoch": 0})

    def megabytes() -> float:
        newest = max(store.folder.iterdir())
        return sum(path.stat().st_size for path in newest.iterdir()) / 1e6

    return lambda: model.train_on_batch(batch), save, megabytes


def _build_model(encoder_name: str) -> "keras.Model":
    from deeplens_tf.config import load_config
    from deeplens_tf.models import build_encoder
    from deeplens_tf.training.methods import build_method
    from deeplens_tf.training.optimizers import build_optimizer

    config = load_config("contrastive")
    encoder = build_encoder(encoder_name, IMAGE_SHAPE)
    model = build_method(config.pretrain, encoder, CLASSES, total_steps=1000)
    optimizer = build_optimizer(config.optimizer, steps_per_epoch=100, epochs=10)
    probe_optimizer = keras.optimizers.Adam(config.pretrain.probe_learning_rate)
    jit_compile = config.train.jit_compile
    model.compile(optimizer=optimizer, probe_optimizer=probe_optimizer, jit_compile=jit_compile)
    return model


def _median_s(work: Callable[[], object], times: int) -> float:
    work()  # the first call compiles
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2]


if __name__ == "__main__":
    main()
