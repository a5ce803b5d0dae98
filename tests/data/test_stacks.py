"""Images in files that hold many: each is prepared as its copy in a file of its own."""

import h5py
import numpy as np
import pandas as pd
import pytest

from deeplens_tf.config import load_config
from deeplens_tf.data.image_files import image_count, read_image
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.data.source_files import RECORDS_FILE
from deeplens_tf.errors import RequestError, UnusableFile
from deeplens_tf.preprocessing.selection import Selection
from tests.data.image_folders import SETTINGS, random_image

PACKINGS = [
    {},
    {"chunks": (1, 20, 24)},
    {"chunks": (4, 7, 9), "compression": "gzip", "shuffle": True, "fletcher32": True},
    {"chunks": (2, 20, 24), "compression": "lzf"},
]
STACKED = Selection(stacks=True)


def stack(shape=(6, 20, 24), dtype="f4"):
    return (200 * random_image(0, shape)).astype(dtype)


def write(path, array, name="images", **options):
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=array, **options)
    return path


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i4", ">f4", "f8", "f2"])
def test_each_row_of_an_hdf5_array_is_an_image(tmp_path, dtype, packing):
    path = write(tmp_path / "x.h5", stack(dtype=dtype), **packing)
    assert image_count(path, Selection()) == 6
    for row, expected in enumerate(stack(dtype=dtype)):
        image, mass = read_image(path, row=row)
        np.testing.assert_array_equal(image[..., 0], expected)
        assert mass is None


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i4", ">f4", "f8"])
@pytest.mark.parametrize("bands", [(), (3,)])
def test_each_row_of_a_npy_array_is_an_image_where_it_is_asked_for(tmp_path, dtype, bands):
    array = stack((6, 20, 24, *bands), dtype)
    np.save(tmp_path / "x.npy", array)
    assert image_count(tmp_path / "x.npy", Selection()) is None
    assert image_count(tmp_path / "x.npy", STACKED) == 6
    for row, expected in enumerate(array):
        image, _ = read_image(tmp_path / "x.npy", selection=STACKED, row=row)
        np.testing.assert_array_equal(image, expected.reshape(image.shape))


def test_bands_may_come_first_in_each_image(tmp_path):
    array = stack((6, 3, 20, 24))
    image, _ = read_image(write(tmp_path / "x.h5", array), row=2)
    np.testing.assert_array_equal(image, np.moveaxis(array[2], 0, -1))


def test_an_array_of_two_axes_is_one_image(tmp_path):
    path = write(tmp_path / "x.h5", stack((20, 24)))
    assert image_count(path, Selection()) is None
    np.testing.assert_array_equal(read_image(path)[0][..., 0], stack((20, 24)))


def test_the_array_is_the_only_stack_or_the_chosen_one(tmp_path):
    with h5py.File(write(tmp_path / "x.h5", stack(), "group/a"), "a") as file:
        file["labels"], file["table"] = np.arange(6), np.ones((6, 9))
    assert image_count(tmp_path / "x.h5", Selection()) == 6
    with h5py.File(tmp_path / "x.h5", "a") as file:
        file["b"] = stack()[:4]
    assert image_count(tmp_path / "x.h5", Selection()) is None
    with pytest.raises(UnusableFile, match=r"several arrays of images: b, group/a; set data\.hdf5"):
        read_image(tmp_path / "x.h5")
    assert image_count(tmp_path / "x.h5", Selection(hdf5_dataset="/group/a")) == 6
    assert image_count(tmp_path / "x.h5", Selection(hdf5_dataset="b")) == 4
    with pytest.raises(UnusableFile, match="no array c in it; its arrays: b, group/a, labels"):
        read_image(tmp_path / "x.h5", selection=Selection(hdf5_dataset="c"))


def test_a_stack_in_fortran_order_and_a_truncated_one_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.asfortranarray(stack()))
    with pytest.raises(UnusableFile, match="a stack in Fortran order"):
        read_image(tmp_path / "x.npy", selection=STACKED, row=0)
    np.save(tmp_path / "y.npy", stack())
    (tmp_path / "y.npy").write_bytes((tmp_path / "y.npy").read_bytes()[:-9])
    with pytest.raises(UnusableFile, match=r"the header declares 11\.5 kB, the file"):
        read_image(tmp_path / "y.npy", selection=STACKED, row=0)


def content(tmp_path, name, **settings):
    out = tmp_path / f"{name}-out"
    manifest = prepare_folder(tmp_path / name, out, **{**SETTINGS, **settings})
    tables = [pd.read_csv(out / f"{split}-index.csv") for split in manifest.splits]
    return manifest, pd.concat(tables).set_index("file")


@pytest.mark.parametrize("kind", ["h5", "npy"])
def test_a_folder_of_stacks_is_prepared_as_one_of_single_images(tmp_path, kind):
    stacks = {"a": stack((8, 20, 20)), "b": 3 * stack((9, 20, 20))[::-1]}
    for name, array in stacks.items():
        for folder in ("stacks", "single"):
            (tmp_path / folder / name).mkdir(parents=True)
        for row, image in enumerate(array):
            np.save(tmp_path / "single" / name / f"x{row}.npy", image)
        path = tmp_path / "stacks" / name / f"x.{kind}"
        write(path, array) if kind == "h5" else np.save(path, array)
    (tmp_path / "stacks" / "masses.csv").write_text(
        "file,mass_ev\n" + "".join(f"a/x.{kind}#{row},1e-2{row % 5}\n" for row in range(8))
    )
    manifest, found = content(tmp_path, "stacks", stacks=kind == "npy" or None)
    _, single = content(tmp_path, "single")
    single.index = [name.replace("/x", f"/x.{kind}#").removesuffix(".npy") for name in single.index]
    pd.testing.assert_series_equal(
        found["content"].sort_index(), single["content"].sort_index(), check_names=False
    )
    assert found["label"].sort_index().tolist() == [0] * 8 + [1] * 9
    assert manifest.settings.get("stacks") == (True if kind == "npy" else None)
    records = pd.read_csv(tmp_path / "stacks-out" / RECORDS_FILE)["name"].tolist()
    assert records == [f"train/a/x.{kind}", f"train/b/x.{kind}", "train/./masses.csv"] or set(
        records
    ) == {f"train/a/x.{kind}", f"train/b/x.{kind}", "train/./masses.csv"}


def test_the_manner_of_reading_is_checked(tmp_path):
    with pytest.raises(RequestError, match=r"data\.stacks must be true or false"):
        load_config("defaults", ["data.stacks=3"])
    with pytest.raises(RequestError, match=r"data\.hdf5_dataset must be text"):
        load_config("defaults", ["data.hdf5_dataset=3"])


def test_a_stack_is_rejected_where_a_table_of_images_has_no_column_row(tmp_path):
    (tmp_path / "d").mkdir()
    for i in range(6):
        np.save(tmp_path / "d" / f"{i}.npy", random_image(i))
    write(tmp_path / "d" / "x.h5", stack())
    rows = "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate([*"012345"]))
    (tmp_path / "d" / "labels.csv").write_text(
        "file,label\n" + rows.replace(",", ".npy,") + "x.h5,a\n"
    )
    manifest, _ = content(tmp_path, "d")
    assert manifest.rejected == 1
    reasons = (tmp_path / "d-out" / "rejected.csv").read_text()
    assert 'x.h5,"a stack of 6 images, which is read only from a file named .h5' in reasons


@pytest.mark.parametrize(
    ("array", "line"),
    [
        (np.zeros((10**6, 0, 8), "u1"), "an array without values"),
        (np.zeros((2**18 + 1, 1, 1), "u1"), "a stack of 262145 images, at most 262144 are read"),
        (np.zeros((3, 4, 5), "c8"), "complex numbers instead of real numbers"),
        (np.zeros((3, 16, 16)), "a stack of 3 images, which is read only from"),
    ],
)
def test_what_is_no_stack_of_images_is_refused_with_its_reason(tmp_path, array, line):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UnusableFile, match=line):
        read_image(tmp_path / "x.npy", selection=STACKED)
    if len(array) != 3:
        assert image_count(tmp_path / "x.npy", STACKED) is None
