"""Embeddings: the features that a frozen encoder has for the images of a folder."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from deeplens_tf.data.output_folder import check_outside
from deeplens_tf.data.rejects import REJECTED_FILE, RejectedFiles
from deeplens_tf.data.summary import nan_lines
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.files.atomic_writing import draft_file, writing
from deeplens_tf.files.hub_files import hub_name
from deeplens_tf.files.products import published_name
from deeplens_tf.files.shipped import sha256_of
from deeplens_tf.inference.embedding_files import (
    NPZ,
    is_embeddings,
    require_format,
    require_storable,
    write_embeddings,
)
from deeplens_tf.inference.embedding_rows import EmbeddingRows
from deeplens_tf.inference.frozen_encoder import FrozenEncoder, open_encoder
from deeplens_tf.inference.given_images import Data, GivenImages, given_images
from deeplens_tf.inference.model_input import open_images
from deeplens_tf.inference.new_images import NewImages
from deeplens_tf.terminal import print_lines


@dataclass(frozen=True)
class Embedded:
    """What `embed` wrote.

    Attributes:
        file: of the embeddings.
        count: number of images.
        dim: number of features.
        rejected: number of files that cannot be used, listed in `<name>-rejected.csv` beside it.
    """

    file: Path
    count: int
    dim: int
    rejected: int


def embed(
    run: str | Path,
    data: Data = None,
    out: str | Path | None = None,
    *,
    layer: str | None = None,
    control: bool = False,
    pixel_scale_arcsec: float | None = None,
    resample: bool = False,
    mixed_sizes: bool = False,
    catalog: str | Path | None = None,
    catalog_columns: Mapping[str, str | None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Embedded:
    """Write the features of every usable image of a folder, or of given files.

    The images are read and preprocessed as those of the encoder's training were. Memory holds a
    batch of them, and the names of all; features wait in a file without a name.

    Args:
        run: a pretraining or fine-tuning run, the `.keras` file of an encoder or of a model with
            one, the name of a shipped encoder, or `hf://OWNER/NAME`, see `load_encoder`.
        data: see `predict`: a folder, or files and folders; None for the images of `catalog`.
        out: file to write, `.npz` or `.parquet`; None for a `.npz` under `embeddings/` in the run,
            next to the file, or in the working directory for one known by its name. Earlier
            embeddings are replaced.
        layer: whose pooled output is written, such as "block_2"; None for the encoder's features.
        control: whether to take the same network with the initial weights of its run.
        pixel_scale_arcsec: see `predict`, as for the other arguments.
        resample: see there.
        mixed_sizes: see there.
        catalog: see there; its columns `id`, `ra` and `dec` are written too.
        catalog_columns: see there.
        settings: see there.

    Returns:
        The file and the counts. The file has the arrays, or in Parquet the columns, `features`,
        float32, shape (images, dim), `file` and those of the catalogue, shape (images,), and
        `about`, a text in JSON, in Parquet in the metadata.

    Raises:
        RequestError: no such run, file, folder or layer; images of other bands or of another pixel
            scale; `out` is something else; features that are not finite.
        DataError: no image can be used, or they differ in size.
    """
    given = given_images(data, catalog, catalog_columns)
    encoder = open_encoder(run, layer, control)
    how = (pixel_scale_arcsec, resample, mixed_sizes, settings)
    images = open_images(encoder.file, encoder.preprocessing, given, *how)
    target = Path(out) if out else _default_target(encoder.file, given, layer, control)
    _require_writable(target, given)
    rejected = RejectedFiles(0)
    target.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "encoder": hub_name(encoder.file) or str(encoder.file),
        "sha256": sha256_of(encoder.file),
        "layer": layer,
        "control": control,
        "data": str(given.root.resolve()),
        "selection": asdict(images.selection),
    }
    with writing(target), tempfile.TemporaryFile(dir=target.parent) as stream:
        rows = EmbeddingRows(stream)
        _collect(encoder, images, rejected, rows, target)
        if not len(rows):
            why = rejected if rejected.total else "no image file is in it"
            raise DataError(f"{given}: no usable image in it; {why}")
        with draft_file(target) as draft:
            write_embeddings(draft, target, rows, about)
    _report(target, rejected)
    print_lines(*nan_lines(images.nan_filled))
    return Embedded(target, len(rows), rows.dim, len(rejected))


def _collect(
    encoder: FrozenEncoder,
    images: NewImages,
    rejected: RejectedFiles,
    rows: EmbeddingRows,
    target: Path,
) -> None:
    rejected.total = images.count
    for batch in images.with_progress():
        rejected.reasons |= batch.reasons
        if not batch.files:
            continue
        places = batch.usable_places
        rows.add(encoder.features(batch.images), batch.files, places)
        texts = [*batch.files, *chain(*places.values())]
        require_storable(target, rejected.total - len(rejected), rows.dim, texts)


def _report(target: Path, rejected: RejectedFiles) -> None:
    """List the rejected files beside the embeddings; a list of earlier ones does not stay."""
    listed = target.with_name(f"{target.stem}-{REJECTED_FILE}")
    if len(rejected):
        rejected.save(listed)
        rejected.report(listed)
    else:
        listed.unlink(missing_ok=True)


def _default_target(file: Path, given: GivenImages, layer: str | None, control: bool) -> Path:
    base = Path() if published_name(file) else file.parent
    words = [given.output_name, *([layer] if layer else []), *(["control"] if control else [])]
    return base / "embeddings" / f"{'-'.join(words)}{NPZ}"


def _require_writable(target: Path, given: GivenImages) -> None:
    """Refuse another format, a place among the images, and to replace anything but embeddings."""
    require_format(target)
    check_outside(target, *given.image_folders)
    if target.exists() and not (target.is_file() and is_embeddings(target)):
        raise RequestError(f"{target}: is something else than embeddings: give --out another file")
