"""The images of a data folder that a catalogue lists, with its classes and its test images."""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from deeplens_tf.data.band_files import parts_of, with_bands
from deeplens_tf.data.catalog import Catalog, CatalogRequest
from deeplens_tf.data.catalog_rows import WHOLE_FILES, first_pixel_scale, read_catalog
from deeplens_tf.data.folders import SourceFile, SourceFolder, has_class_folders, scan_unlabelled
from deeplens_tf.data.passed_over import LABELS_FILE, count_kinds
from deeplens_tf.data.relations import GROUPS_FILE, object_tables
from deeplens_tf.errors import DataError
from deeplens_tf.labels import UNLABELLED
from deeplens_tf.preprocessing.selection import Selection


def catalog_path(root: Path, request: CatalogRequest) -> Path | None:
    """Return the table of a data folder's images: that of the request, or its `labels.csv`.

    A `labels.csv` is one only beside images, where there are no class folders.
    """
    if request.path is not None or has_class_folders(root):
        return request.path
    return next((path for path in root.iterdir() if path.name.lower() == LABELS_FILE), None)


def first_catalog_scale(root: Path, request: CatalogRequest, selection: Selection) -> float | None:
    """Return the pixel scale in arcsec of the first image in a folder's catalogue that has one.

    None without a catalogue, or if it states none.

    Raises:
        RequestError: no such catalogue, or a column is not in it.
        DataError: it cannot be used, see `read_catalog`.
    """
    path = catalog_path(root, request) if root.is_dir() else None
    return None if path is None else first_pixel_scale(request, path, root, selection)


def scan_catalog(
    root: Path, path: Path, request: CatalogRequest, selection: Selection = WHOLE_FILES
) -> dict[str, SourceFolder]:
    """List the images that a catalogue names: as "train", and those of its test split as "test".

    Files without a row are strays, and so are those without a label where others have one.

    Args:
        root: the data folder.
        path: of the catalogue.
        request: how its columns are called.
        selection: whether each band is in a file of its own; the catalogue names the images then,
            as `with_bands` does.

    Raises:
        RequestError: no such catalogue, a column is not in it, or `with_bands` refuses the pattern.
        DataError: it cannot be used, see `read_catalog`, it has no label at all in its column of
            labels, or `groups.csv` or `objects.csv` repeat a column of it.
    """
    folder, in_root = scan_unlabelled(root), path.resolve().parent == root.resolve()
    folder = with_bands(folder, selection)
    # A table in FITS has the suffix of an image.
    listed = [file.name for file in folder.files if not (in_root and file.name == path.name)]
    catalog = read_catalog(request, path, root, listed, selection)
    _require_one_table(root, catalog)
    passed_over = Counter(folder.passed_over)
    if in_root:
        passed_over -= count_kinds([path.name], at_root=True)
    labelled = "label" in catalog.roles
    used = sorted(name for name, label in catalog.labels.items() if label or not labelled)
    with_row = {catalog.file_of(name) for name in catalog.labels}
    unused = [name for name in listed if name not in with_row]
    unused += [name for name, label in catalog.labels.items() if labelled and not label]
    tests = [name for name in used if catalog.splits.get(name) == "test"]
    others = [name for name in used if catalog.splits.get(name) != "test"] if tests else used
    if not others:
        raise DataError(f"{path}: no image to train on{_why_none(catalog, used)}")
    parts = {"train": _part(root, catalog, selection, others, sorted(unused), passed_over)}
    return parts | ({"test": _part(root, catalog, selection, tests)} if tests else {})


def why_left_out(catalog: Catalog, name: str) -> tuple[str, str]:
    """Return the kind and the reason of a file that a catalogue does not use."""
    if name in catalog.labels:
        return "no label", f"no label in {catalog.path.name}"
    return "no row", f"no row in {catalog.path.name}"


def _part(
    root: Path,
    catalog: Catalog,
    selection: Selection,
    names: Collection[str],
    strays: Collection[str] = (),
    passed_over: Counter[str] | None = None,
) -> SourceFolder:
    classes = sorted({catalog.labels[name] for name in names} - {""})
    index = {label: i for i, label in enumerate(classes)} | {"": UNLABELLED}
    files = tuple(
        SourceFile(
            *(root / catalog.file_of(name), name, index[catalog.labels[name]]),
            row=catalog.rows.get(name),
            parts=parts_of(root, name, selection),
            row_scale_arcsec=catalog.pixel_scales.get(name),
        )
        for name in names
    )
    return SourceFolder(
        root,
        tuple(classes),
        files,
        tuple(strays),
        passed_over or {},
        catalog,
        part="test" in catalog.splits.values(),
    )


def _why_none(catalog: Catalog, used: Collection[str]) -> str:
    if used:
        return ", every image with a row is of the test split"
    column = catalog.roles["label"]
    return f", column {column} has no label; data.catalog_columns={{label: null}} does without"


def _require_one_table(root: Path, catalog: Catalog) -> None:
    tables = [root / GROUPS_FILE] if os.path.lexists(root / GROUPS_FILE) else []
    pairs = (("group", catalog.groups, tables), ("object", catalog.objects, object_tables(root)))
    for role, relation, beside in pairs:
        if relation is not None and beside:
            raise DataError(
                f"{catalog.path}: has a column {catalog.roles[role]}, and {beside[0]} says it too: "
                f"remove one, or set data.catalog_columns={{{role}: null}}"
            )
