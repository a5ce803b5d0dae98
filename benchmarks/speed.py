"""The speed of simulating and of making views on this machine, measured one after the other.

    python benchmarks/speed.py --threads 2

Simulates lenses of Model II with the users' command, including its start-up time, and draws views
of images with tf.data. TensorFlow and tf.data use `--threads` threads each, so that the conditions
are known. Compare only figures of the same run; `benchmarks.training_steps` measures steps.
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
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {arguments.threads} threads\n")
    print("| part | images/s | note |\n|---|---|---|")
    _simulations(arguments.images, arguments.threads)
    import_tensorflow()
    _set_threads(arguments.threads)
    _views(arguments.threads)


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


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
