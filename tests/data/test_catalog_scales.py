"""Pixel scales from a column of a catalogue. The oracle are the same images with FITS headers."""

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.io import fits
from astropy.table import Table

from deeplens_tf.config import load_config
from deeplens_tf.data.catalog import CatalogRequest
from deeplens_tf.data.folder_settings import with_folder_settings
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.data.source_folders import scan_folders
from deeplens_tf.errors import DataError
from tests.data.image_folders import random_image

COUNT = 24
STEPS_DEG = (2.0**-14, 2.0**-14 * 1.5)  # of which 3600 times is exact: 0.2197 and 0.3296 arcsec
TABLE = "catalog.csv"


def write_fits(path, image, step_deg):
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -step_deg, "CDELT2": step_deg}
    fits.PrimaryHDU(image, fits.Header(list(cards.items()))).writeto(path)


def rows(steps_deg, suffix=".npy"):
    labels = ["lens" if i % 2 else "other" for i in range(len(steps_deg))]
    files = [f"{i:02d}{suffix}" for i in range(len(steps_deg))]
    scales = [3600 * step for step in steps_deg]
    return pd.DataFrame({"file": files, "label": labels, "pixel_scale_arcsec": scales})


def write_both(folder, steps_deg):
    """Write the same images as FITS files with headers, and as arrays with a column of scales."""
    for name in ("fits", "npy"):
        (folder / name).mkdir()
    for i, step in enumerate(steps_deg):
        image = random_image(i, (40, 40)).astype("f4")
        write_fits(folder / f"fits/{i:02d}.fits", image, step)
        np.save(folder / f"npy/{i:02d}.npy", image)
    own = rows(steps_deg, ".fits").drop(columns="pixel_scale_arcsec")
    own.to_csv(folder / "fits" / TABLE, index=False)
    rows(steps_deg).to_csv(folder / "npy" / TABLE, index=False)


def write_arrays(folder, count=COUNT):
    folder.mkdir()
    for i in range(count):
        np.save(folder / f"{i:02d}.npy", random_image(i, (40, 40)).astype("f4"))


def prepared(folder, catalog=None, **options):
    catalog = catalog or folder / TABLE
    options = {"image_size": 16, "seed": 0, "progress": False, "catalog": catalog} | options
    out = folder.with_name(f"{folder.name}_out")
    prepare_folder(folder, out, **options)
    return open_folder(out)


def content(data):
    """Return the pixels of every image with its split, by its name without the suffix."""
    found = {}
    for split in ("train", "validation"):
        names = [name.partition(".")[0] for name in data.index(split)["file"]]
        for example in data.examples(split, with_margin=True):
            key = names[int(example["index"])]
            found[key] = split, np.asarray(example["image_with_margin"]).tobytes()
    return found


def reasons(data):
    table = pd.read_csv(data.folder / "rejected.csv")
    return {name.partition(".")[0]: why for name, why in table.itertuples(index=False)}


@pytest.mark.parametrize("fit", ["crop", "resize"])
@pytest.mark.parametrize("resample", [None, 0.5])
def test_a_column_gives_the_pixels_and_the_rejections_of_headers(tmp_path, fit, resample):
    other = 8 if resample else 1  # of another scale
    write_both(tmp_path, [STEPS_DEG[0]] * (COUNT - other) + [STEPS_DEG[1]] * other)
    options = {"fit": fit, "resample_to_arcsec": resample}
    of_headers, of_column = (prepared(tmp_path / name, **options) for name in ("fits", "npy"))
    assert content(of_column) == content(of_headers)
    assert len(content(of_column)) == (COUNT if resample else COUNT - 1)
    assert reasons(of_column) == reasons(of_headers)
    assert of_column.preprocessing == of_headers.preprocessing
    wanted = resample or 3600 * STEPS_DEG[0] * (1 if fit == "crop" else 40 / 16)
    assert of_column.preprocessing.pixel_scale_arcsec == wanted


def test_each_image_is_resampled_from_the_scale_of_its_row(tmp_path):
    """A row has no influence on another: the images of one scale are those of that scale alone."""
    write_arrays(tmp_path / "d")
    scales = np.tile([0.2, 0.3], COUNT // 2)
    rows(scales / 3600).to_csv(tmp_path / "d" / TABLE, index=False)
    mixed = content(prepared(tmp_path / "d", resample_to_arcsec=0.5, fit="crop"))
    (tmp_path / "d_out").rename(tmp_path / "mixed")
    for i, scale in enumerate((0.2, 0.3)):
        plain = rows(scales / 3600).drop(columns="pixel_scale_arcsec")
        plain.to_csv(tmp_path / "plain.csv", index=False)
        data = prepared(
            *(tmp_path / "d", tmp_path / "plain.csv"),
            **{"resample_to_arcsec": 0.5, "fit": "crop", "pixel_scale_arcsec": scale},
        )
        (tmp_path / "d_out").rename(tmp_path / f"out-{scale}")
        alone = content(open_folder(tmp_path / f"out-{scale}"))
        same = [name for name in mixed if mixed[name] == alone[name]]
        assert same == [name for name in mixed if int(name) % 2 == i]
        assert data.preprocessing.resampled


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".parquet"])
@pytest.mark.parametrize("unit", ["deg", "arcmin", "mas", "arcsec", "arcsec / pix", "rad"])
def test_the_unit_of_the_column_is_converted(tmp_path, suffix, unit):
    write_arrays(tmp_path / "d")
    table = Table.from_pandas(rows([0.2 / 3600] * COUNT))
    own = units.Unit(unit)
    angle = own * (units.pix if "pix" in unit else units.dimensionless_unscaled)
    values = (np.full(COUNT, 0.2) * units.arcsec).to_value(angle)
    table["pixel_scale_arcsec"] = values
    table["pixel_scale_arcsec"].unit = own
    table.write(tmp_path / f"c{suffix}")
    data = prepared(tmp_path / "d", tmp_path / f"c{suffix}", fit="crop")
    assert data.preprocessing.pixel_scale_arcsec == pytest.approx(0.2, rel=1e-12)


@pytest.mark.parametrize("unit", ["mag", "Jy", "furlongs", "mag(arcsec)", "10**99999999 deg"])
def test_a_unit_of_no_angle_is_refused_by_its_name(tmp_path, unit):
    write_arrays(tmp_path / "d", 4)
    table = rows([1e-4] * 4).to_csv(index=False)
    header = "".join(
        f"# - {{name: {name}, datatype: string{more}}}\n"
        for name, more in (("file", ""), ("label", ""), ("pixel_scale_arcsec", f", unit: {unit}"))
    )
    path = tmp_path / "c.ecsv"
    path.write_text(f"# %ECSV 1.0\n# ---\n# delimiter: ','\n# datatype:\n{header}{table}")
    with pytest.raises(DataError, match=r"c\.ecsv: the unit of pixel_scale_arcsec is") as caught:
        scan_folders(tmp_path / "d", CatalogRequest(path))
    assert unit in str(caught.value)
    assert scan_folders(tmp_path / "d", CatalogRequest(path, {"pixel_scale": None}))


def test_a_missing_scale_is_unknown_and_one_that_cannot_be_is_rejected(tmp_path):
    write_arrays(tmp_path / "d", 80)
    table = rows([0.2 / 3600] * 80).astype({"pixel_scale_arcsec": object})
    given = ["", "nan", "N/A", "-nan", "0", "-0.2", "inf"]
    table.loc[: len(given) - 1, "pixel_scale_arcsec"] = given
    table.to_csv(tmp_path / "d" / TABLE, index=False)
    data = prepared(tmp_path / "d", fit="crop")
    states = "its row in the catalogue states pixels of {} arcsec".format
    assert reasons(data) == {"04": states("0"), "05": states("-0.2"), "06": states("inf")}
    assert {"00", "01", "02", "03"} <= content(data).keys()
    assert data.preprocessing.pixel_scale_arcsec == pytest.approx(0.2)


def test_a_scale_that_is_no_number_is_refused(tmp_path):
    write_arrays(tmp_path / "d", 4)
    table = rows([0.2 / 3600] * 4).astype({"pixel_scale_arcsec": object})
    table.loc[2, "pixel_scale_arcsec"] = "0.2 arcsec"
    table.to_csv(tmp_path / "d" / TABLE, index=False)
    line = r"catalog\.csv: row 3: pixel_scale_arcsec '0\.2 arcsec' is no number"
    with pytest.raises(DataError, match=line):
        scan_folders(tmp_path / "d", CatalogRequest(tmp_path / "d" / TABLE))


def test_a_header_and_a_row_that_differ_are_refused(tmp_path):
    write_both(tmp_path, [2.0**-14] * COUNT)
    table = rows([2.0**-14] * COUNT, ".fits")
    table.loc[3, "pixel_scale_arcsec"] *= 1.1
    table.loc[4, "pixel_scale_arcsec"] *= 1.01  # within 2 %
    table.to_csv(tmp_path / "fits" / TABLE, index=False)
    options = {"fit": "crop", "resample_to_arcsec": 0.5}
    data = prepared(tmp_path / "fits", **options)
    assert reasons(data) == {
        "03": "its header states pixels of 0.2197 arcsec, and its row in the catalogue 0.2417: "
        "correct one of them"
    }
    of_column = content(prepared(tmp_path / "npy", **options))
    assert content(data)["04"] == of_column["04"]  # the header's scale counts


def test_a_column_of_another_name_and_one_that_is_not_read(tmp_path):
    write_arrays(tmp_path / "d")
    table = rows([0.2 / 3600] * COUNT)
    table.rename(columns={"pixel_scale_arcsec": "s"}).to_csv(tmp_path / "c.csv", index=False)
    options = {"fit": "crop", "catalog_columns": {"pixel_scale": "s"}}
    data = prepared(tmp_path / "d", tmp_path / "c.csv", **options)
    assert data.preprocessing.pixel_scale_arcsec == pytest.approx(0.2)
    assert "s" not in data.catalog_units
    (tmp_path / "d_out").rename(tmp_path / "first")
    table.to_csv(tmp_path / "d" / TABLE, index=False)
    data = prepared(tmp_path / "d", fit="crop", catalog_columns={"pixel_scale": None})
    assert data.preprocessing.pixel_scale_arcsec is None
    assert "pixel_scale_arcsec" in data.catalog_units


def test_the_scale_of_the_images_is_that_of_the_first_row_whose_file_is_there(tmp_path):
    write_arrays(tmp_path / "d")
    table = rows([0.2 / 3600] * COUNT)
    table.loc[0, "pixel_scale_arcsec"] = -1.0
    lost = pd.DataFrame({"file": ["lost.npy"], "label": ["lens"], "pixel_scale_arcsec": [0.7]})
    pd.concat([lost, table]).to_csv(tmp_path / "d" / "labels.csv", index=False)
    config = load_config("defaults", data=str(tmp_path / "d"))
    assert with_folder_settings(config).data.pixel_scale_arcsec == pytest.approx(0.2)
    (tmp_path / "d/images.yaml").write_text("pixel_scale_arcsec: 0.202\n")
    assert with_folder_settings(config).data.pixel_scale_arcsec == 0.202
