"""How long a search among the embeddings of a million images takes.

    python benchmarks/search_speed.py

Writes random features, 1,000,000 x 192 in float32, as `embed` does, opens the file, and searches
for ten of its rows. Prints the time to open it, which reads every byte, and that of each search.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import IO

import numpy as np

from deeplens_tf.inference.embedding_files import read_embeddings, write_npz
from deeplens_tf.inference.embedding_rows import BLOCK_ROWS, EmbeddingRows
from deeplens_tf.inference.nearest import most_similar


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=192)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "embeddings.npz"
        with tempfile.TemporaryFile() as stream:
            write_npz(path, _random_rows(stream, arguments.images, arguments.features), {})
        started = time.perf_counter()
        found = read_embeddings(path)
        print(f"opened in {time.perf_counter() - started:.2f} s, {path.stat().st_size} bytes")
        seconds = [_search(found.features, row) for row in range(10)]
    listed = ", ".join(f"{each:.3f}" for each in seconds)
    print(f"searches: median {np.median(seconds):.3f} s ({listed})")


def _random_rows(stream: IO[bytes], images: int, dim: int) -> EmbeddingRows:
    rows, rng = EmbeddingRows(stream), np.random.default_rng(0)
    for start in range(0, images, BLOCK_ROWS):
        count = min(BLOCK_ROWS, images - start)
        names = [f"{start + i:07d}.npy" for i in range(count)]
        rows.add(rng.standard_normal((count, dim), np.float32), names, {})
    return rows


def _search(features: np.ndarray, row: int) -> float:
    started = time.perf_counter()
    most_similar(features, np.asarray(features[row]), 12, left_out=row)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
