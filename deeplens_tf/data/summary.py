"""A prepared folder in words: its splits, and what the preparation left out."""

from collections.abc import Mapping
from pathlib import Path

from deeplens_tf.data.manifest import CatalogFacts, Manifest
from deeplens_tf.data.passed_over import passed_over_text
from deeplens_tf.data.rejects import REJECTED_FILE, left_out_counts
from deeplens_tf.terminal import counted, printable


def summarise(manifest: Manifest, out: Path) -> str:
    """Return the content of a prepared folder as text: a line for each split and each note."""
    height, width, bands = manifest.image_shape
    lines = [f"{printable(out)}: images of {height} x {width} pixels, {counted(bands, 'band')}"]
    for split in manifest.splits.values():
        counts = ", ".join(f"{printable(name)} {count}" for name, count in split.per_class.items())
        masses = f"; {split.masses} with a mass" if split.masses else ""
        lines.append(f"  {split.name}: {split.count} ({counts or 'unlabelled'}{masses})")
    if manifest.rejected or manifest.left_out:
        lines.append(f"  {_left_out(manifest)}: see {REJECTED_FILE}")
    return "\n".join([*lines, *(f"  {printable(note)}" for note in notes(manifest))])


def notes(manifest: Manifest) -> list[str]:
    """Return what a user should know of the preparation apart from the files in rejected.csv."""
    total = manifest.image_shape[2] + len(manifest.bands_left_out)
    lines = [
        f"band {band + 1} of {total} is constant in every image: left out"
        for band in manifest.bands_left_out
    ]
    lines += nan_lines(manifest.nan_filled)
    lines += _catalog_lines(manifest)
    for counts, what in ((manifest.groups, "group"), (manifest.objects, "object")):
        if counts:
            lines.append(_relation_text(_table_of(manifest, what), counts, what))
    if "validation" not in manifest.splits and manifest.settings.get("validation_fraction"):
        apart = " and of different objects" if manifest.objects else ""
        lines.append(
            f"no validation images: they need two images of a class, in different groups{apart}"
        )
    if manifest.passed_over:
        lines.append(passed_over_text(manifest.passed_over))
    return lines


def nan_lines(filled: Mapping[str, int]) -> list[str]:
    """Return a line on the NaN pixels that were filled, if there are any."""
    images, pixels = (filled.get(key, 0) for key in ("images", "pixels"))
    return [f"{counted(pixels, 'NaN pixel')} of {counted(images, 'image')} filled"] * bool(images)


def missing_rows(catalog: CatalogFacts) -> list[str]:
    """Return a line on the rows of a catalogue whose files are not there, if there are any."""
    if not catalog.missing:
        return []
    more = ", ..." if catalog.missing > len(catalog.first_missing) else ""
    rows, first = counted(catalog.missing, "row"), ", ".join(catalog.first_missing)
    return [f"{catalog.name}: {rows} without the file that is named: {first}{more}"]


def _table_of(manifest: Manifest, what: str) -> str:
    """Return the name of the table that says what belongs together."""
    catalog = manifest.catalog
    return catalog.name if catalog and what in catalog.roles else f"{what}s.csv"


def _catalog_lines(manifest: Manifest) -> list[str]:
    """Return what a user should know of the table that lists the images."""
    catalog = manifest.catalog
    if catalog is None:
        return []
    lines = missing_rows(catalog)
    if catalog.passed_over:
        names = ", ".join(catalog.passed_over)
        lines.append(f"{catalog.name}: not kept, because they are not of numbers: {names}")
    return lines


def _relation_text(table: str, counts: Mapping[str, int], what: str) -> str:
    total, images, unknown = (counts.get(key, 0) for key in (f"{what}s", "images", "unknown"))
    text = f"{table}: {counted(total, what)} of {counted(images, 'image')}, each in one split"
    return f"{text}; rows that name no image: {unknown}" if unknown else text


def _left_out(manifest: Manifest) -> str:
    rejected = f"{manifest.rejected} unusable" if manifest.rejected else ""
    others = left_out_counts(manifest.left_out, manifest.duplicates)
    return "left out: " + ", ".join(text for text in (rejected, others) if text)
