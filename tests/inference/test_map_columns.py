"""What the points of a map are colored by: classes, masses, columns of tables."""

import json

import numpy as np
import pandas as pd
import pytest

from deeplens_tf import prepare
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.figures.map_colors import NO_VALUE_COLOR, OTHERS_COLOR, Classes, Scale
from deeplens_tf.inference.embedding_files import read_embeddings
from deeplens_tf.inference.map_colorings import coloring_of
from deeplens_tf.inference.map_columns import columns_of
from tests.inference.maps import embedded_blobs

FILES = ["axion/000.npy", "cdm/001.npy", "c.npy", "stack.npy#2"]


@pytest.fixture
def table(tmp_path):
    """A function that writes a table and returns what is known of FILES."""

    def write(rows, columns, *asked, name="t.csv"):
        frame = pd.DataFrame(rows, columns=columns)
        path = tmp_path / name
        frame.to_csv(path, index=False) if name.endswith("csv") else frame.to_parquet(path)
        return columns_of({}, FILES, [path], asked)

    return write


def test_a_folder_is_the_class_and_masses_are_those_beside_the_images(tmp_path):
    found = read_embeddings(embedded_blobs(tmp_path, 3))
    known = columns_of(found.about, found.columns["file"].tolist(), [], [])
    assert known["class"] == ["axion"] * 3 + ["cdm"] * 3 + ["no_sub"] * 3
    assert [float(text) for text in known["mass_ev"][:3]] == [1e-24, 1e-23, 1e-22]
    assert known["mass_ev"][3:] == [""] * 6
    gone = columns_of({"data": str(tmp_path / "gone")}, ["test/cdm/x.npy", "y.npy"], [], [])
    assert gone == {"class": ["cdm", ""]}


def test_a_prepared_folder_knows_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    embedded_blobs(tmp_path, 10)
    prepare.main(["sample", "--out", "prepared", "--image-size", "16"])
    known = columns_of({"data": "prepared"}, ["cdm/003.npy", "axion/001.npy", "else.npy"], [], [])
    assert known["class"] == ["cdm", "axion", ""]
    assert (known["mass_ev"][0], float(known["mass_ev"][1])) == ("", 1e-23)


def test_rows_of_a_table_find_their_images_and_images_of_a_stack(table):
    rows = [("c.npy", "", "a", 0.5), ("stack.npy", "2", "b", 1.5), ("other.npy", "", "c", 2)]
    known = table(rows, ["file", "row", "predicted", "p_a"])
    assert known == {
        "class": ["axion", "cdm", "", ""],
        "predicted": ["", "", "a", "b"],
        "p_a": ["", "", "0.5", "1.5"],
    }
    assert [*table(rows, ["file", "row", "predicted", "p_a"], "p_a", "class")] == ["p_a", "class"]
    pytest.importorskip("pyarrow")
    rows = [("c.npy", 1.0), ("axion/000.npy", None)]
    assert table(rows, ["file", "z"], "z", name="t.parquet")["z"] == ["", "", "1.0", ""]


@pytest.mark.parametrize(
    ("rows", "columns", "asked", "error", "line"),
    [
        ([("c.npy", 1)], ["name", "z"], (), DataError, "no column file"),
        ([("x.npy", 1)], ["file", "z"], (), DataError, "no row names an image of the embeddings"),
        ([("c.npy", 1), ("c.npy", 2)], ["file", "z"], (), DataError, r"two rows of c\.npy"),
        ([("c.npy", 1)], ["file", "id"], (), RequestError, "none of its columns"),
        ([("c.npy", 1)], ["file", "z"], ("z", "y"), RequestError, "--color-by y: known are class"),
        (
            [("c.npy", *range(30))],
            ["file", *(f"p_{i}" for i in range(30))],
            (),
            RequestError,
            "31 columns, at most 20 are drawn",
        ),
    ],
)
def test_wrong_tables_end_in_one_line(table, rows, columns, asked, error, line):
    with pytest.raises(error, match=line):
        table(rows, columns, *asked)


def test_a_name_outside_of_the_folder_is_refused(tmp_path):
    found = read_embeddings(embedded_blobs(tmp_path, 2))
    with pytest.raises(DataError, match="is outside of it"):
        columns_of(found.about, ["../../etc/x.npy"], [], [])


def test_numbers_are_a_scale_and_few_whole_numbers_are_classes():
    found = coloring_of("z", ["0.5", "", "2", "nan", "1"])
    assert isinstance(found, Scale) and not found.logarithmic
    np.testing.assert_array_equal(found.values, [0.5, np.nan, 2, np.nan, 1])
    np.testing.assert_array_equal(found.known, [True, False, True, False, True])
    np.testing.assert_allclose(found.places[[0, 2, 4]], [0, 1, 1 / 3])
    assert found.of_points()[1] == found.of_points()[3] == NO_VALUE_COLOR
    codes = coloring_of("label", ["10", "2", "", "2"])
    assert (codes.names, codes.codes.tolist()) == (("2", "10"), [1, 0, -1, 0])
    assert codes.of_points()[2] == NO_VALUE_COLOR != codes.of_points()[0]
    assert isinstance(coloring_of("count", [str(k) for k in range(13)]), Scale)
    assert isinstance(coloring_of("z", ["inf", "1.5"]), Scale)
    assert isinstance(coloring_of("z", ["nan", "n/a"]), Classes)


def test_positive_numbers_over_decades_are_on_a_logarithmic_scale():
    texts = ["1e-24", "1e-23", "1e-22"]
    found = coloring_of("mass_ev", texts)
    assert found.logarithmic
    np.testing.assert_allclose(found.places, [0, 0.5, 1], atol=1e-12)
    assert not coloring_of("p_axion", texts).logarithmic
    assert not coloring_of("z", ["-1.5", *texts]).logarithmic
    np.testing.assert_array_equal(coloring_of("z", ["2.5", "2.5"]).places, [0, 0])


def test_beyond_twelve_classes_the_rarest_share_a_color():
    texts = [name for k in range(14) for name in [f"class {k}"] * (k + 1)]
    found = coloring_of("class", texts)
    assert found.names[-1] == "3 others" and len(found.names) == 12
    assert set(found.names[:-1]) == {f"class {k}" for k in range(3, 14)}
    assert found.of_points()[:6] == [OTHERS_COLOR] * 6
    assert len(set(found.colors)) == 12
    assert json.dumps(found.codes.tolist()).count("11") == 6
