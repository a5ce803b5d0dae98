"""The tables of axion masses beside the images of the class `axion`.

The masses come from the priors, so the tables are right whichever run made the images. A folder
may have several tables, from shards, but no image stands in two of them.
"""

import csv
from pathlib import Path

from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.simulation.request import SimulationRequest

HEADER = "file,mass_ev\n"


def write_masses(request: SimulationRequest) -> Path:
    """Write the masses of the request's axion images, in eV, beside the images.

    A whole run writes `masses.csv` and removes the tables of shards, which say nothing that it
    doesn't. A shard writes `masses-<i>-of-<n>.csv` with its own images, but for those that an
    earlier run, whole or in another number of parts, has put into a table already. Shards that
    run at the same time never touch each other's tables.
    """
    path = masses_path(request)
    elsewhere = _tables_of_other_runs(request)
    if request.shard == (1, 1):
        _write_table(path, request, known=set())
        for table in elsewhere:
            table.unlink(missing_ok=True)
    else:
        _write_table(path, request, known={name for table in elsewhere for name in _names(table)})
    return path


def masses_path(request: SimulationRequest) -> Path:
    """Return where the masses of this request's shard go."""
    i, n = request.shard
    name = "masses.csv" if n == 1 else f"masses-{i}-of-{n}.csv"
    return request.folder / "axion" / name


def _tables_of_other_runs(request: SimulationRequest) -> list[Path]:
    own = masses_path(request)
    _, n = request.shard
    tables = own.parent.glob("masses*.csv")
    return [
        table
        for table in tables
        if table != own and (n == 1 or not table.stem.endswith(f"-of-{n}"))
    ]


def _write_table(path: Path, request: SimulationRequest, known: set[str]) -> None:
    names = ((index, request.image_path("axion", index).name) for index in request.indices)
    rows = [
        f"{name},{request.lens('axion', index).axion_mass_ev!r}\n"
        for index, name in names
        if name not in known
    ]
    content = (HEADER + "".join(rows)).encode()
    write_whole(path, lambda file: file.write(content))


def _names(table: Path) -> list[str]:
    with table.open(newline="") as file:
        return [row["file"] for row in csv.DictReader(file)]
