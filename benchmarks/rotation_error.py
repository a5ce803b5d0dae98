"""The error of rotated views, against lenses that are rendered rotated, and what a view costs.

    python benchmarks/rotation_error.py

Renders lenses of Model II, 64 x 64 pixels, and the same lenses turned: source, halo, shear and
substructure. The turned lens, cropped to 32 pixels, is what a rotation of the image should show.
Views are made from the image with its margin, as training does, and from the crop alone.
Then it measures how fast two views are made by flips and rotations. TensorFlow and tf.data use
`--threads` threads each. Compare only speeds of the same run.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.augment import INTERPOLATIONS
from deeplens_tf.preprocessing.scaling import crop_margin, resize_and_scale, scale_with_margin
from deeplens_tf.simulation.priors import CLASSES, Lens, PointMass, draw_lens
from deeplens_tf.simulation.render import render_model
from deeplens_tf.startup import import_tensorflow

SIDE = 32
MARGIN = crop_margin(SIDE, "crop")
BATCH = 128
BATCHES = 40


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lenses", type=int, default=10, help="of each class")
    parser.add_argument("--angles", type=int, default=8, help="between 0 and 180 degrees")
    parser.add_argument("--threads", type=int, default=2, help="of TensorFlow and of tf.data")
    arguments = parser.parse_args()
    import_tensorflow()
    _set_threads(arguments.threads)
    lenses = lenses_of(arguments.lenses)
    angles_rad = np.pi * (np.arange(arguments.angles) + 0.5) / arguments.angles
    print("| view | median | 99th percentile | largest | pixels above 1 % |\n|---|---|---|---|---|")
    for interpolation in INTERPOLATIONS:
        for margin in (MARGIN, 0):
            _print_errors(errors(lenses, angles_rad, interpolation, margin), interpolation, margin)
    print(f"\n{_processor()}, {arguments.threads} threads\n")
    print("| two views by flip and rotation | images/s |\n|---|---|")
    for interpolation in INTERPOLATIONS:
        for margin in (MARGIN, 0):
            speed = _views_per_second(SIDE + 2 * margin, interpolation, arguments.threads)
            print(f"| {_name(interpolation, margin)} | {speed:.0f} |", flush=True)


def lenses_of(count: int) -> list[Lens]:
    """Return `count` lenses of each class, always the same ones."""
    return [
        draw_lens("model_ii", name, np.random.default_rng([i, k]))
        for k, name in enumerate(CLASSES)
        for i in range(count)
    ]


def errors(
    lenses: Sequence[Lens], angles_rad: NDArray, interpolation: str, margin: int
) -> NDArray[np.float64]:
    """Return |view - rendered| / maximum of each pixel.

    Args:
        lenses: of Model II.
        angles_rad: of the rotations, shape (angles,).
        interpolation: of `rotate`.
        margin: `MARGIN` for views of the image with its margin, 0 for views of the crop.

    Returns:
        Shape (lenses, angles, SIDE, SIDE).
    """
    return np.stack([_errors(lens, angles_rad, interpolation, margin) for lens in lenses])


def render_turned(lens: Lens, angle_rad: float) -> NDArray[np.float64]:
    """Return the noise-free image of a lens that is turned about the centre of the image.

    Args:
        lens: of Model II, whose PSF is round.
        angle_rad: counter-clockwise on a picture whose rows run downwards, as in `rotate`.

    Returns:
        Shape (64, 64), in counts per second.
    """
    return render_model(_turned(lens, angle_rad))


def _errors(
    lens: Lens, angles_rad: NDArray, interpolation: str, margin: int
) -> NDArray[np.float64]:
    image = render_turned(lens, 0.0)[..., np.newaxis]
    views = _views(image, angles_rad, interpolation, margin)
    crop = _centre(image)
    turned = np.stack([_centre(render_turned(lens, angle)) for angle in angles_rad])
    turned = (turned - crop.min()) / np.ptp(crop)  # the scale of the image, not its own
    return np.abs(views - turned) / turned.max(axis=(1, 2), keepdims=True)


def _views(
    image: NDArray, angles_rad: NDArray, interpolation: str, margin: int
) -> NDArray[np.float32]:
    import tensorflow as tf

    from deeplens_tf.augment import Rotation, without_margin

    scale = scale_with_margin if margin else resize_and_scale
    images = np.repeat(scale(image, SIDE, "crop")[np.newaxis], len(angles_rad), axis=0)
    angles = tf.constant(angles_rad, tf.float32)
    rotated = Rotation(180.0, interpolation).apply(tf.constant(images), angles)
    return without_margin(rotated, margin).numpy()[..., 0]


def _centre(image: NDArray) -> NDArray:
    first = (len(image) - SIDE) // 2
    return image[first : first + SIDE, first : first + SIDE]


def _turned(lens: Lens, angle_rad: float) -> Lens:
    x, y = _turn(lens.source_x_arcsec, lens.source_y_arcsec, angle_rad)
    e1, e2 = _turn(lens.halo_e1, lens.halo_e2, 2 * angle_rad)
    source_e1, source_e2 = _turn(lens.source_e1, lens.source_e2, 2 * angle_rad)
    gamma1, gamma2 = _turn(lens.shear_gamma1, lens.shear_gamma2, 2 * angle_rad)
    points = tuple(
        PointMass(point.mass_solar, *_turn(point.x_arcsec, point.y_arcsec, angle_rad))
        for point in lens.substructure
    )
    return replace(
        lens,
        source_x_arcsec=x,
        source_y_arcsec=y,
        substructure=points,
        halo_e1=e1,
        halo_e2=e2,
        shear_gamma1=gamma1,
        shear_gamma2=gamma2,
        source_e1=source_e1,
        source_e2=source_e2,
    )


def _turn(x: float, y: float, angle_rad: float) -> tuple[float, float]:
    """Turn a vector counter-clockwise on a picture with rows, and so the y axis, downwards."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return float(cosine * x + sine * y), float(cosine * y - sine * x)


def _print_errors(found: NDArray, interpolation: str, margin: int) -> None:
    median, high, largest = np.percentile(100 * found, (50, 99, 100))
    cells = (f"{median:.2f} %", f"{high:.1f} %", f"{largest:.0f} %", f"{_above(found):.2f} %")
    print(f"| {_name(interpolation, margin)} | {' | '.join(cells)} |", flush=True)


def _above(found: NDArray) -> float:
    return 100 * float((found > 0.01).mean())


def _name(interpolation: str, margin: int) -> str:
    side = SIDE + 2 * margin
    return f"{interpolation}, {'with' if margin else 'without'} a margin ({side} x {side} pixels)"


def _set_threads(threads: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _views_per_second(side: int, interpolation: str, threads: int) -> float:
    import tensorflow as tf

    from deeplens_tf.augment import Augment, Rotation

    augment = Augment(["flip", Rotation(180.0, interpolation)])
    images = tf.random.stateless_uniform((BATCH, side, side, 1), (0, 0))
    indices = tf.range(BATCH, dtype=tf.int64)
    batches = tf.data.Dataset.range(BATCHES).map(
        lambda i: augment.two_views(images, i * BATCH + indices, 0, 0, (side - SIDE) // 2),
        num_parallel_calls=threads,
    )
    times = []
    for _ in range(4):  # the first one also starts the threads
        started = time.perf_counter()
        for _ in batches:
            pass
        times.append(time.perf_counter() - started)
    return BATCHES * BATCH / min(times)


def _processor() -> str:
    """Return the name of the processor, where Linux states it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


if __name__ == "__main__":
    main()
