"""The speed of each part of a pretraining on this machine, measured one after the other.

    python benchmarks/speed.py --threads 2

Simulates lenses of Model II with the users' command, including its start-up time, draws views of
images with tf.data, and takes contrastive steps with `vit_nano`, as a TensorFlow graph and compiled
by XLA. TensorFlow and tf.data use `--threads` threads each, so that the conditions are known.
Compare only figures of the same run.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from deeplens_tf.startup import import_tensorflow

SIDE = 32
BATCH = 128
CLASSES = ("no_sub", "cdm", "axion")


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="of TensorFlow and of tf.data")
    parser.add_argument("--images", type=int, default=1000, help="simulated images per class")
    parser.add_argument("--steps", type=int, default=30, help="steps to take the median of")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {arguments.threads} threads\n")
    print("| part | images/s | note |\n|---|---|---|")
    _simulations(arguments.images, arguments.threads)
    import_tensorflow()
    _set_threads(arguments.threads)
    _views(arguments.threads)
    _steps(arguments.steps)


def _row(part: str, rate: float, note: str = "") -> None:
    print(f"| {part} | {rate:.0f} | {note} |", flush=True)


def _simulations(images: int, jobs: int) -> None:
    for classes in (*((name,) for name in CLASSES), CLASSES):
        taken = _seconds(partial(_simulate, images, jobs, classes))
        _row(f"simulate {', '.join(classes)}", images * len(classes) / taken, f"{jobs} processes")


def _simulate(images: int, jobs: int, classes: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--preset", "model_ii", "--count", str(images), "--jobs", str(jobs)]
        options += ["--out", f"{folder}/lenses", "--classes", ",".join(classes)]
        command = [sys.executable, "-m", "deeplens_tf.simulate", *options]
        subprocess.run(command, check=True, capture_output=True)


def _set_threads(threads: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _views(threads: int) -> None:
    import tensorflow as tf

    from deeplens_tf.augment import Augment
    from deeplens_tf.config import load_config

    for config in ("contrastive", "original_contrastive_noise"):
        names = load_config(config).augment.views
        augment = Augment(names)
        images = tf.random.stateless_uniform((BATCH, SIDE, SIDE, 1), (0, 0))
        batches = tf.data.Dataset.range(40).map(
            lambda i, augment=augment, images=images: augment.two_views(
                images, i * BATCH + tf.range(BATCH, dtype=tf.int64), seed=0, epoch=0
            ),
            num_parallel_calls=threads,
        )
        taken = _seconds(partial(deque, batches, maxlen=0))
        _row(f"two views per image by {', '.join(names)}", 40 * BATCH / taken)


def _steps(steps: int) -> None:
    taken = {compiled: _median_step(compiled, steps) for compiled in (False, True)}
    for compiled, name in ((False, "graph"), (True, "XLA")):
        note = f"{taken[False] / taken[compiled]:.2f} times the graph's speed"
        _row(f"contrastive step, vit_nano, {name} (pairs)", BATCH / taken[compiled], note)


def _median_step(compiled: bool, steps: int) -> float:
    import keras
    import numpy as np

    from deeplens_tf.config import load_config
    from deeplens_tf.models import build_encoder
    from deeplens_tf.training.methods import build_method
    from deeplens_tf.training.optimizers import build_optimizer

    config = load_config("contrastive")
    encoder = build_encoder("vit_nano", (SIDE, SIDE, 1), patch_size=4)
    model = build_method(config.pretrain, encoder, len(CLASSES), total_steps=1000)
    optimizer = build_optimizer(config.optimizer, steps_per_epoch=100, epochs=10)
    probe_optimizer = keras.optimizers.Adam(config.pretrain.probe_learning_rate)
    model.compile(optimizer=optimizer, probe_optimizer=probe_optimizer, jit_compile=compiled)
    images = np.random.default_rng(0).random((BATCH, SIDE, SIDE, 1), "float32")
    labels = np.arange(BATCH) % len(CLASSES)
    batch = {"view_1": images, "view_2": images[::-1], "image": images, "label": labels}
    times = sorted(_seconds(lambda: model.train_on_batch(batch)) for _ in range(steps))
    return times[len(times) // 2]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
