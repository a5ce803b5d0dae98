"""Tables of axion masses, next to the images of the class `axion`.

The masses are drawn again from the priors, so a table is correct for images of any run. Shards
leave several tables in one folder, but no image is listed in two of them.
"""

import csv
from pathlib import Path

from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.simulation.request import SimulationRequest

HEADER = "file,mass_ev\n"


def write_masses(request: SimulationRequest) -> Path:
    """Write the masses of the request's axion images, in eV, next to the images.

    A run that isn't sharded writes `masses.csv` and removes the tables of shards, which contain
    nothing else. A shard writes `masses-<i>-of-<n>.csv` with its own images, except those listed
    in a table of an earlier run that wasn't sharded or had another number of shards. Shards that
    run at the same time never change each other's tables.

    Returns:
        The path of the table.
    """
    path = masses_path(request)
    earlier_tables = _tables_of_other_runs(request)
    if request.shard == (1, 1):
        _write_table(path, request, listed=set())
        for table in earlier_tables:
            table.unlink(missing_ok=True)
    else:
        listed = {name for table in earlier_tables for name in _listed_files(table)}
        _write_table(path, request, listed)
    return path


def masses_path(request: SimulationRequest) -> Path:
    """Return the path of the table for this request's shard."""
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


def _write_table(path: Path, request: SimulationRequest, listed: set[str]) -> None:
    names = ((index, request.image_path("axion", index).name) for index in request.indices)
    rows = [
        f"{name},{request.lens('axion', index).axion_mass_ev!r}\n"
        for index, name in names
        if name not in listed
    ]
    content = (HEADER + "".join(rows)).encode()
    write_whole(path, lambda file: file.write(content))


def _listed_files(table: Path) -> list[str]:
    with table.open(newline="") as file:
        return [row["file"] for row in csv.DictReader(file)]
