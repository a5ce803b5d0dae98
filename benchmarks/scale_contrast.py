"""What a bright star leaves of a lens, by the scale of pixel values, and what a scale costs.

    python benchmarks/scale_contrast.py

Renders lenses of Model II with the instrument's noise, 64 x 64 pixels, and the same with a star of
2 x 2 pixels beside the lens. The contrast is the median of the pixels that are brighter than 30 %
of the maximum of the noise-free lens, minus the median of those fainter than 3 %, in prepared
images.

    python benchmarks/scale_contrast.py --write data/starred --lenses 700

writes such images to train on instead, in class folders: stars at random places outside of the
lens, 10 to 1000 times as bright. `--seed` makes other ones.
"""

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.preprocessing.scaling import resize_and_scale
from deeplens_tf.preprocessing.value_scale import INTERVALS, STRETCHES, ValueScale
from deeplens_tf.simulation.priors import CLASSES, Lens, draw_lens
from deeplens_tf.simulation.render import render_image, render_model

ON_LENS, ON_SKY = 0.3, 0.03  # of the maximum
STAR = np.s_[4:6, 57:59]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lenses", type=int, default=10, help="of each class")
    parser.add_argument("--star", type=float, default=100.0, help="in units of the lens's maximum")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write images with stars to DIR")
    parser.add_argument("--seed", type=int, default=0, help="of the images that are written")
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write, arguments.lenses, arguments.seed)
    else:
        _print_table(arguments.lenses, arguments.star)


def _print_table(count: int, star: float) -> None:
    lenses = [
        draw_lens("model_ii", name, np.random.default_rng([i, k]))
        for k, name in enumerate(CLASSES)
        for i in range(count)
    ]
    print("| scale | contrast | with a star | noise of the sky with it | ms per image |")
    print("|---|---|---|---|---|")
    for interval, stretch in product(INTERVALS, STRETCHES):
        scale = ValueScale(interval, stretch=stretch)
        found = np.array([contrasts(lens, scale, star) for lens in lenses])
        plain, starred, noise, seconds = np.median(found, axis=0)
        print(f"| {scale} | {plain:.3f} | {starred:.4f} | {noise:.4f} | {1e3 * seconds:.2f} |")


def write(folder: Path, count: int, seed: int) -> None:
    """Write `count` noisy lenses of each class, each with a star."""
    for k, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng([seed, k, i, 0x73746172])
            image = render_image(draw_lens("model_ii", name, rng), noise=True)
            row, column = rng.integers(0, 62), rng.choice([*range(10), *range(52, 62)])
            image[row : row + 2, column : column + 2] = 10 ** rng.uniform(1, 3) * image.max()
            np.save(folder / name / f"{i:05d}.npy", image)


def contrasts(lens: Lens, scale: ValueScale, star: float) -> tuple[float, float, float, float]:
    """Return the contrast without and with a star, the sky's standard deviation, and seconds.

    Args:
        lens: of Model II.
        scale: of the values.
        star: brightness of its pixels, in units of the lens's maximum.
    """
    model, image = render_model(lens), render_image(lens, noise=True)[..., np.newaxis]
    starred = image.copy()
    starred[STAR] = star * model.max()
    plain, _ = _contrast(resize_and_scale(image, len(image), "resize", scale), model)
    started = time.perf_counter()
    scaled = resize_and_scale(starred, len(image), "resize", scale)
    seconds = time.perf_counter() - started
    return plain, *_contrast(scaled, model), seconds


def _contrast(scaled: NDArray, model: NDArray) -> tuple[float, float]:
    sky = model < ON_SKY * model.max()
    sky[STAR] = False
    lens = np.median(scaled[model > ON_LENS * model.max()])
    return float(lens - np.median(scaled[sky])), float(scaled[sky].std())


if __name__ == "__main__":
    main()
