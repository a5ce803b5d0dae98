"""How long a search among the embeddings of a million images takes, exactly and by an index.

    python benchmarks/search_speed.py

Writes features as `embed` does, 1,000,000 x 192 in float32, that depend on 16 random numbers each,
with noise; `--noise 1000` drowns these. Opens both formats, and searches for ten of the rows.
Prints the processor, the time to open a file, which reads every byte, that of each search, and the
part of the exact neighbours that the index found. FAISS's own exact search is timed beside it, on a
normalised copy of the features in memory.
"""

import argparse
import platform
import re
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import faiss
import numpy as np

from deeplens_tf.cores import available_cores
from deeplens_tf.inference.cells import Cells
from deeplens_tf.inference.embedding_files import Embeddings, read_embeddings, write_embeddings
from deeplens_tf.inference.embedding_rows import BLOCK_ROWS, EmbeddingRows
from deeplens_tf.inference.index_files import index_of
from deeplens_tf.inference.nearest import most_similar, unit_rows

LATENT, SEARCHES, TOP = 16, 10, 12


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=192)
    parser.add_argument("--noise", type=float, default=0.02)
    arguments = parser.parse_args()
    print(f"{_processor()}, {available_cores()} cores")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as stream:
        rows = _rows(stream, arguments.images, arguments.features, arguments.noise)
        for suffix in (".parquet", ".npz"):
            path = Path(folder) / f"e{suffix}"
            _timed(f"written to {suffix}", partial(write_embeddings, path, path, rows, {}))
            found = _timed(f"opened {suffix}", partial(read_embeddings, path))
        exact = _searches("exact search", lambda row: _exact(found, row))
        _timed("index built", lambda: index_of(found))
        cells = _timed("index opened", lambda: index_of(found))
        near = _searches("search by the index", lambda row: _by_index(found, row, cells))
    common = np.mean([len({*a} & {*b}) / TOP for a, b in zip(exact, near, strict=True)])
    print(f"{cells.looked_at} of {len(cells.centres)} cells; recall {cells.recall:.3f} of the 100")
    print(f"nearest as measured by the index, {common:.3f} of the {TOP} nearest here")
    flat = faiss.IndexFlatIP(arguments.features)
    units = unit_rows(found.features)
    _timed("FAISS, exact, filled", lambda: flat.add(units))
    _searches("FAISS, exact", lambda row: flat.search(units[row : row + 1], TOP + 1)[1][0])


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*:\s*(.+)", known.read_text()) if known.exists() else None
    return name[1] if name else platform.processor()


def _rows(stream: IO[bytes], images: int, dim: int, noise: float) -> EmbeddingRows:
    rows, rng = EmbeddingRows(stream), np.random.default_rng(0)
    first = rng.standard_normal((LATENT, 4 * LATENT), np.float32) / 4
    second = rng.standard_normal((4 * LATENT, dim), np.float32) / 8
    for start in range(0, images, BLOCK_ROWS):
        count = min(BLOCK_ROWS, images - start)
        latent = np.tanh(rng.standard_normal((count, LATENT), np.float32) @ first)
        features = latent @ second + noise * rng.standard_normal((count, dim), np.float32)
        rows.add(features, [f"{start + i:07d}.npy" for i in range(count)], {})
    return rows


def _exact(found: Embeddings, row: int) -> np.ndarray:
    return most_similar(found.features, np.asarray(found.features[row]), TOP, row)[0]


def _by_index(found: Embeddings, row: int, cells: Cells) -> np.ndarray:
    query = np.asarray(found.features[row])
    return most_similar(found.features, query, TOP, row, cells.rows_near(query, TOP + 1))[0]


def _timed(what: str, call: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    found = call()
    print(f"{what}: {time.perf_counter() - started:.2f} s", flush=True)
    return found


def _searches(what: str, search: Callable[[int], Any]) -> list:
    seconds, found = [], []
    for row in range(SEARCHES):
        started = time.perf_counter()
        found.append(search(row))
        seconds.append(time.perf_counter() - started)
    listed = ", ".join(f"{each:.3f}" for each in seconds)
    print(f"{what}: median {np.median(seconds):.3f} s ({listed})", flush=True)
    return found


if __name__ == "__main__":
    main()
