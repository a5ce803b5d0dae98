"""The speed of simulating and of making views on this machine, measured one after the other.

    python benchmarks/speed.py --threads 2

Simulates lenses of Model II with the users' command, including its start-up time, and draws views
of images with tf.data, also from prepared shards. TensorFlow and tf.data use `--threads` threads
each, so that the conditions are known. Compare only figures of the same run;
`benchmarks.training_steps` measures steps.
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
from pathlib import Path

from deeplens_tf.startup import import_tensorflow

SIDE = 32
FULL_SIDE = 64
BATCH = 128
PREPARED, EPOCHS = 4500, 10  # images, and passes over them
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
    _views_of_shards()


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


def _views_of_shards() -> None:
    """Measure from prepared shards to batches of views, read from the shards and from memory."""
    from deeplens_tf.augment import Augment
    from deeplens_tf.data.batches import pretraining_batches
    from deeplens_tf.data.prepared_data import open_folder
    from deeplens_tf.data.view_making import view_margin

    with tempfile.TemporaryDirectory() as folder:
        images = _write_images(Path(folder) / "images")
        data = open_folder(images, image_size=FULL_SIDE, cache=f"{folder}/cache")
        for names in (["flip", "rot90"], ["flip", "rotation"]):
            augment = Augment(names)
            margin = view_margin(data, augment) > 0
            for held in (False, True):
                source = data.in_memory(held, with_margin=margin, report=False)
                batches = iter(pretraining_batches(source, "train", augment, BATCH, EPOCHS))
                next(batches)  # after which everything is set up
                taken = _seconds(partial(deque, batches, maxlen=0))
                views = 2 * BATCH * (EPOCHS * (data.count("train") // BATCH) - 1)
                note = f"{FULL_SIDE} x {FULL_SIDE}, {'in memory' if held else 'from shards'}"
                _row(f"views from prepared images by {', '.join(names)}", views / taken, note)


def _write_images(folder: Path) -> Path:
    import numpy as np

    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(PREPARED):
        np.save(folder / f"{i}.npy", generator.random((FULL_SIDE, FULL_SIDE), "float32"))
    return folder


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
