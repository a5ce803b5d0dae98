"""Catalogues whose column `row` names the images of stacks."""

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from deeplens_tf.data.catalog import CatalogRequest
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.data.source_folders import scan_folders
from deeplens_tf.errors import DataError
from tests.data.image_folders import random_image

SHAPE = (16, 16)
COUNT = 12


def stack(seed):
    return np.stack([random_image(seed + i, SHAPE) for i in range(COUNT)])


def write_stack(path, images):
    if path.suffix == ".npy":
        np.save(path, images)
        return
    with h5py.File(path, "w") as file:
        file["images"] = images


def table(files, rows):
    labels = ["lens" if i % 2 else "other" for i in range(len(files))]
    ids = [f"J{i}" for i in range(len(files))]
    return pd.DataFrame({"file": files, "row": rows, "label": labels, "id": ids})


def prepared(folder, catalog, out):
    prepare_folder(folder, out, image_size=16, seed=0, catalog=catalog, progress=False)
    return open_folder(out)


def images_by_id(data):
    found = {}
    for split in ("train", "validation"):
        ids = data.catalog(split, ["id"])["id"]
        for example in data.examples(split):
            found[ids[int(example["index"])]] = np.asarray(example["image"])
    return found


@pytest.mark.parametrize("suffix", [".h5", ".npy"])
def test_rows_of_stacks_are_the_images_of_single_files(tmp_path, suffix):
    first, second = stack(0), stack(100)
    for folder in ("stacks", "single"):
        (tmp_path / folder).mkdir()
    write_stack(tmp_path / f"stacks/a{suffix}", first)
    write_stack(tmp_path / f"stacks/b{suffix}", second)
    rows = [*range(COUNT - 1, -1, -1), 3, 5]  # in any order, of the second only two
    files = [f"a{suffix}"] * COUNT + [f"b{suffix}"] * 2
    table(files, rows).to_csv(tmp_path / "stacks.csv", index=False)
    names = [f"{i}.npy" for i in range(len(rows))]
    for name, image in zip(names, [*first[::-1], second[3], second[5]], strict=True):
        np.save(tmp_path / "single" / name, image)
    table(names, [""] * len(names)).to_csv(tmp_path / "single.csv", index=False)
    data = prepared(tmp_path / "stacks", tmp_path / "stacks.csv", tmp_path / "out")
    expected = images_by_id(prepared(tmp_path / "single", tmp_path / "single.csv", tmp_path / "o"))
    found = images_by_id(data)
    assert found.keys() == expected.keys()
    for key, image in expected.items():
        np.testing.assert_array_equal(found[key], image)
    assert f"b{suffix}#3" in {f for s in ("train", "validation") for f in data.index(s)["file"]}


def test_rows_that_are_not_there_are_rejected(tmp_path):
    (tmp_path / "d").mkdir()
    write_stack(tmp_path / "d/a.h5", stack(0))
    np.save(tmp_path / "d/flat.npy", random_image(1, SHAPE))
    fits.PrimaryHDU(random_image(2, SHAPE)).writeto(tmp_path / "d/one.fits")
    files = ["a.h5"] * (COUNT + 1) + ["flat.npy", "one.fits"]
    table(files, [*range(COUNT), 99, 0, 0]).to_csv(tmp_path / "c.csv", index=False)
    data = prepared(tmp_path / "d", tmp_path / "c.csv", tmp_path / "out")
    reasons = pd.read_csv(data.folder / "rejected.csv").set_index("file")["reason"]
    assert reasons.to_dict() == {
        "a.h5#99": f"no row 99 in a stack of {COUNT} images, counted from 0",
        "flat.npy#0": "row 0 of an array that is no stack of images, but of shape (16, 16)",
        "one.fits#0": "row 0 of a file that holds one image, not a stack of them",
    }


@pytest.mark.parametrize("row", ["1.5", "-1", "x", "9" * 20, "²"])
def test_a_row_that_is_no_number_is_refused(tmp_path, row):
    (tmp_path / "d").mkdir()
    write_stack(tmp_path / "d/a.h5", stack(0))
    table(["a.h5"] * 2, [0, row]).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(DataError, match=r"c\.csv: row 2: row .* is no whole number from 0"):
        scan_folders(tmp_path / "d", CatalogRequest(tmp_path / "c.csv"))


def test_a_row_named_twice_is_refused(tmp_path):
    (tmp_path / "d").mkdir()
    write_stack(tmp_path / "d/a.h5", stack(0))
    table(["a.h5"] * 3, [0, 1, "01"]).to_csv(tmp_path / "c.csv", index=False)
    with pytest.raises(DataError, match=r"'a\.h5#1' has the labels"):
        scan_folders(tmp_path / "d", CatalogRequest(tmp_path / "c.csv"))
