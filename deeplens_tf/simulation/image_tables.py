"""Tables of simulated images: axion masses, the lens that each image shows, and the catalogue.

Their rows follow from the request alone, so a table is correct for images of any run. Shards leave
several tables in one folder, but no image is listed in two of them.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from deeplens_tf.files.atomic_writing import write_whole
from deeplens_tf.simulation.request import SimulationRequest
from deeplens_tf.simulation.survey_scenes import Scene, total_magnitude


def write_masses(request: SimulationRequest) -> Path:
    """Write the masses of the request's axion images, in eV, next to the images.

    Returns:
        The path of the table, `masses.csv` or `masses-<i>-of-<n>.csv`; see `_write_table`.
    """
    masses = ((index, request.lens("axion", index).axion_mass_ev) for index in request.indices)
    rows = (
        (request.image_path("axion", index, view).name, repr(mass_ev))
        for index, mass_ev in masses
        for view in request.views
    )
    return _write_table(request.folder / "axion", "masses", ("file", "mass_ev"), rows, request)


def write_objects(request: SimulationRequest) -> Path:
    """Write which lens each of the request's images shows, next to the class folders.

    Returns:
        The path of the table, `objects.csv` or `objects-<i>-of-<n>.csv`; see `_write_table`.
    """
    rows = (
        (_relative_path(request, name, index, view), request.object_name(name, index))
        for name in request.classes
        for index in request.indices
        for view in request.views
    )
    return _write_table(request.folder, "objects", ("file", "object"), rows, request)


def write_catalog(request: SimulationRequest) -> Path:
    """Write what the survey's images show, next to the class folders.

    The columns are `file`, `id`, `label`, `ra` and `dec` in degrees, `theta_e_arcsec`, and in each
    band the magnitude of the central galaxy and that of all images of the source together, such as
    `mag_g` and `lensed_mag_g`. What a non-lens lacks is empty.

    Returns:
        The path of the table, `catalog.csv` or `catalog-<i>-of-<n>.csv`; see `_write_table`.
    """
    magnitudes = [f"{kind}_{band}" for kind in ("mag", "lensed_mag") for band in request.bands]
    columns = ("file", "id", "label", "ra", "dec", "theta_e_arcsec", *magnitudes)
    rows = (
        (
            *(_relative_path(request, name, index), request.object_name(name, index), name),
            *_quantities(request.scene(name, index), request.bands),
        )
        for name in request.classes
        for index in request.indices
    )
    return _write_table(request.folder, "catalog", columns, rows, request)


def _quantities(scene: Scene, bands: tuple[str, ...]) -> Iterator[str]:
    yield from (repr(scene.ra_deg), repr(scene.dec_deg))
    yield "" if scene.deflector is None else repr(scene.deflector.theta_e_arcsec)
    yield from (repr(total_magnitude(scene.galaxy, band)) for band in bands)
    yield from ("" if scene.source is None else repr(scene.source.magnitudes[b]) for b in bands)


def _relative_path(request: SimulationRequest, name: str, index: int, view: int = 0) -> str:
    return f"{name}/{request.image_path(name, index, view).name}"


def _write_table(
    folder: Path,
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    request: SimulationRequest,
) -> Path:
    """Write a table of images, whose first column is the file.

    A run that isn't sharded writes `<name>.csv` and removes the tables of shards, which contain
    nothing else. A shard writes `<name>-<i>-of-<n>.csv` with its own images, except those listed
    in a table of an earlier run that wasn't sharded or had another number of shards. Shards that
    run at the same time never change each other's tables.
    """
    i, n = request.shard
    path = folder / (f"{name}.csv" if n == 1 else f"{name}-{i}-of-{n}.csv")
    earlier_tables = _tables_of_other_runs(path, name, n)
    listed = {file for table in earlier_tables if n > 1 for file in _listed_files(table)}
    lines = (",".join(row) + "\n" for row in rows if row[0] not in listed)
    content = (",".join(columns) + "\n" + "".join(lines)).encode()
    write_whole(path, lambda file: file.write(content))
    if n == 1:
        for table in earlier_tables:
            table.unlink(missing_ok=True)
    return path


def _tables_of_other_runs(own: Path, name: str, n: int) -> list[Path]:
    tables = own.parent / f"{name}.csv", *own.parent.glob(f"{name}-*-of-*.csv")
    return [
        table
        for table in tables
        if table != own and table.exists() and not table.stem.endswith(f"-of-{n}")
    ]


def _listed_files(table: Path) -> list[str]:
    with table.open(newline="") as file:
        return [row["file"] for row in csv.DictReader(file)]
