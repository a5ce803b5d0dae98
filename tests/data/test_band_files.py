"""Images whose bands are in files of their own are prepared as the same images in one file."""

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.data.source_files import RECORDS_FILE
from deeplens_tf.errors import DataError, RequestError
from tests.data.image_folders import SETTINGS, random_image

BANDS = ("g", "r", "i")
OPTIONS = {**SETTINGS, "band_names": BANDS, "band_files": "{id}_{band}.fits"}


def write(folder, images=12, classes="ab", shape=(20, 20)):
    """Write each image as three FITS files below `bands` and as one array below `whole`."""
    for i in range(images):
        image = random_image(i, (*shape, 3)).astype("f4")
        name = f"{classes[i % len(classes)]}/lens_{i}" if classes else f"lens_{i}"
        for kind in ("bands", "whole"):
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / "whole" / f"{name}.npy", image)
        for k, band in enumerate(BANDS):
            fits.writeto(folder / "bands" / f"{name}_{band}.fits", image[..., k])
    return folder / "bands"


def index(out, manifest):
    return pd.concat([pd.read_csv(out / f"{split}-index.csv") for split in manifest.splits])


@pytest.mark.parametrize("classes", ["ab", ""])
def test_the_files_of_the_bands_are_one_image(tmp_path, classes):
    bands, out = write(tmp_path, classes=classes), tmp_path / "out"
    manifest = prepare_folder(bands, out, **OPTIONS)
    assert (manifest.image_shape, manifest.band_names) == ((16, 16, 3), BANDS)
    whole = prepare_folder(tmp_path / "whole", tmp_path / "out2", **SETTINGS, band_names=BANDS)
    found, expected = index(out, manifest), index(tmp_path / "out2", whole)
    expected["file"] = expected["file"].str.replace(".npy", ".fits")
    pd.testing.assert_frame_equal(found, expected)
    records = pd.read_csv(out / RECORDS_FILE)["name"]
    assert len(records) == 36
    assert f"train/{'a/' if classes else ''}lens_0_r.fits" in set(records)


def test_a_changed_file_of_a_band_is_prepared_again(tmp_path):
    bands = write(tmp_path)
    first = prepare_folder(bands, tmp_path / "out", **OPTIONS)
    other = random_image(99, (20, 20)).astype("f4")
    fits.writeto(bands / "a" / "lens_0_i.fits", other, overwrite=True)
    assert prepare_folder(bands, tmp_path / "out2", **OPTIONS).fingerprint != first.fingerprint


def test_what_is_not_whole_is_rejected_with_its_reason(tmp_path):
    bands = write(tmp_path, 80)
    (bands / "a" / "lens_0_i.fits").unlink()
    fits.writeto(bands / "a" / "lens_2_r.fits", random_image(0, (20, 24)), overwrite=True)
    fits.writeto(bands / "b" / "lens_1_g.fits", random_image(0, (2, 20, 20)), overwrite=True)
    fits.writeto(bands / "b" / "mean.fits", random_image(0, (20, 20)))
    manifest = prepare_folder(bands, tmp_path / "out", **OPTIONS)
    assert manifest.rejected == 4
    table = pd.read_csv(tmp_path / "out" / "rejected.csv").set_index("file")["reason"]
    assert table.to_dict() == {
        "a/lens_0.fits": "no file of the band i",
        "a/lens_2.fits": "band r: 20 x 24 pixels, the first band has 20 x 20",
        "b/lens_1.fits": "band g: 2 bands in its file",
        "b/mean.fits": "its name is not as data.band_files={id}_{band}.fits",
    }


@pytest.mark.parametrize(
    ("pattern", "names", "line"),
    [
        ("{id}.fits", BANDS, r"must be the name of a file with \{id\} and \{band\} once"),
        ("{band}/{id}.fits", BANDS, r"must be the name of a file with \{id\} and \{band\} once"),
        ("{id}_{band}.pdf", BANDS, "must end as image files do"),
        ("{id}_{band}.fits", None, "needs the names of the bands: set data.band_names"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused(tmp_path, pattern, names, line):
    bands = write(tmp_path, 2)
    with pytest.raises(RequestError, match=rf"data\.band_files {line}"):
        prepare_folder(bands, tmp_path / "out", **SETTINGS, band_names=names, band_files=pattern)


@pytest.mark.parametrize("deep", ["", "x/y/z/"])
def test_a_table_names_the_images_of_the_bands(tmp_path, deep):
    for kind in ("bands", "whole"):
        (tmp_path / kind / deep).mkdir(parents=True)
    write(tmp_path / "both", 12, classes="")
    for kind in ("bands", "whole"):
        for path in (tmp_path / "both" / kind).iterdir():
            path.rename(tmp_path / kind / deep / path.name)
        names = [f"{deep}lens_{i}.{'fits' if kind == 'bands' else 'npy'}" for i in range(10)]
        table = pd.DataFrame({"file": names, "label": ["a", "b"] * 5, "z": range(10)})
        if kind == "bands":
            table.loc[len(table)] = [f"{deep}lens_0_g.fits", "a", 0]  # which is no image
        table.to_csv(tmp_path / f"{kind}.csv", index=False)
    bands, out = tmp_path / "bands", tmp_path / "out"
    manifest = prepare_folder(bands, out, **OPTIONS, catalog=tmp_path / "bands.csv")
    assert manifest.catalog.first_missing == (f"{deep}lens_0_g.fits",)
    options = {"band_names": BANDS, "catalog": tmp_path / "whole.csv"}
    whole = prepare_folder(tmp_path / "whole", tmp_path / "out2", **SETTINGS, **options)
    found, expected = index(out, manifest), index(tmp_path / "out2", whole)
    expected["file"] = expected["file"].str.replace(".npy", ".fits")
    pd.testing.assert_frame_equal(found, expected)
    assert manifest.left_out == ({} if deep else {"no row": 2})
    other = random_image(99, (20, 20)).astype("f4")
    fits.writeto(bands / deep / "lens_3_i.fits", other, overwrite=True)
    again = prepare_folder(bands, tmp_path / "out3", **OPTIONS, catalog=tmp_path / "bands.csv")
    assert again.fingerprint != manifest.fingerprint


def test_an_image_of_a_table_that_lacks_a_band_is_rejected_and_a_row_is_refused(tmp_path):
    bands = write(tmp_path, 12, classes="")
    (bands / "lens_3_i.fits").unlink()
    rows = "".join(f"lens_{i}.fits,{'ab'[i % 2]}\n" for i in range(12))
    (bands / "labels.csv").write_text(f"file,label\n{rows}")
    manifest = prepare_folder(bands, tmp_path / "out", **OPTIONS)
    assert manifest.rejected == 1
    assert "lens_3.fits,no file of the band i" in (tmp_path / "out/rejected.csv").read_text()
    (bands / "labels.csv").write_text("file,row\nlens_0.fits,0\n")
    with pytest.raises(DataError, match=r"labels\.csv: row 1: row 0 of a stack, and data\.band_f"):
        prepare_folder(bands, tmp_path / "out2", **OPTIONS)


def test_stacks_and_files_of_bands_exclude_each_other(tmp_path):
    with pytest.raises(RequestError, match=r"data\.stacks: not where data\.band_files is set"):
        prepare_folder(write(tmp_path), tmp_path / "out", **OPTIONS, stacks=True)
