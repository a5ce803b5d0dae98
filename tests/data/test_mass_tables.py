import math

import pytest

from deeplens_tf.data.mass_tables import read_masses, resolve_mass
from deeplens_tf.errors import DataError, UnusableFile

NAMES = ["a.npy", "b.npy"]
OUT_OF_RANGE = "is not from 1e-40 to 1000 eV"
LOGARITHM = "if it is a logarithm, store the mass itself in eV, 10**value"
IN_CLASSES = ["axion/1.npy", "axion/2.npy", "cdm/1.npy"]


def test_a_folder_without_a_table_has_none(tmp_path):
    (tmp_path / "masses-of-all.csv").write_text("not a table of this name")
    assert read_masses(tmp_path, NAMES) == {}


def test_the_tables_of_a_sharded_simulation_are_joined(tmp_path):
    (tmp_path / "masses-0-of-2.csv").write_text("file,mass_ev\na.npy,1e-23\n")
    other = "\ufeffmass_ev, file, seed\r\n2e-23, b.npy,7\r\n2e-24,no.npy,8\r\n"
    (tmp_path / "masses-1-of-2.csv").write_text(other)
    assert read_masses(tmp_path, NAMES) == {"": {"a.npy": "1e-23", "b.npy": "2e-23"}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no column file and mass_ev"),
        (b"name,mass\na.npy,1\n", "no column file and mass_ev"),
        (b"file,mass\na.npy,1\n", "no column mass_ev"),
        (b"file,mass_ev\na.npy,1\na.npy,2\n", "'a.npy' is listed twice"),
        (b"file,mass_ev\n\xff\xfe,1\n", "not a CSV table"),
        (b"file,mass_ev\n" + b"x" * 200_000 + b",1\n", "not a CSV table"),
        (b"file,mass_ev" + b",ab" * 200_000, "not a CSV table: a line of 65536 characters or more"),
        (b'file,mass_ev\n"a.npy\nb.npy",1\n', "not a CSV table"),
    ],
)
def test_a_damaged_table_is_unusable(tmp_path, content, expected):
    (tmp_path / "masses.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"masses.csv: {expected}"):
        read_masses(tmp_path, NAMES)


def test_a_file_in_two_tables_is_unusable(tmp_path):
    for name in ("masses.csv", "masses-0-of-1.csv"):
        (tmp_path / name).write_text("file,mass_ev\na.npy,1e-23\n")
    with pytest.raises(DataError, match="is also listed in another table"):
        read_masses(tmp_path, NAMES)


def test_a_huge_table_is_not_read(tmp_path):
    with (tmp_path / "masses.csv").open("wb") as stream:
        stream.truncate(70 << 20)
    with pytest.raises(DataError, match="larger than 64 MB"):
        read_masses(tmp_path, NAMES)


def write_table(folder, *rows):
    folder.mkdir(exist_ok=True)
    (folder / "masses.csv").write_text("\n".join(["file,mass_ev", *rows]) + "\n")


def test_the_table_of_the_data_folder_names_files_in_its_classes(tmp_path):
    write_table(tmp_path, "axion/1.npy,1e-23", "axion/2.npy,2e-23", "no/3.npy,3e-23")
    expected = {"axion": {"axion/1.npy": "1e-23", "axion/2.npy": "2e-23"}}
    assert read_masses(tmp_path, IN_CLASSES) == expected  # nothing is said about cdm


def test_tables_of_classes_and_of_the_data_folder_are_joined_where_they_agree(tmp_path):
    write_table(tmp_path / "axion", "1.npy,1e-23")
    write_table(tmp_path, "axion/1.npy,0.1e-22", "axion/2.npy,2e-23", "cdm/1.npy,3e-23")
    assert read_masses(tmp_path, IN_CLASSES) == {
        "axion": {"axion/1.npy": "1e-23", "axion/2.npy": "2e-23"},
        "cdm": {"cdm/1.npy": "3e-23"},
    }


@pytest.mark.parametrize("other", ["1.1e-23", "unknown"])
def test_two_masses_of_one_image_are_unusable(tmp_path, other):
    write_table(tmp_path / "axion", "1.npy,1e-23")
    write_table(tmp_path, f"axion/1.npy,{other}")
    line = f"'axion/1.npy' has mass '1e-23' in the table of its class and '{other}' in that of"
    with pytest.raises(DataError, match=line):
        read_masses(tmp_path, IN_CLASSES)


def test_two_tables_with_the_same_unusable_text_agree(tmp_path):
    write_table(tmp_path / "axion", "1.npy,nan")
    write_table(tmp_path, "axion/1.npy , nan")
    assert read_masses(tmp_path, IN_CLASSES)["axion"] == {"axion/1.npy": "nan"}


@pytest.mark.parametrize("file", ["1.npy", "axion\\1.npy", "data/axion/1.npy"])
def test_a_table_of_the_data_folder_that_names_no_image_is_unusable(tmp_path, file):
    write_table(tmp_path, f"{file},1e-23")
    with pytest.raises(DataError, match=r"no row names an image; .*, such as axion/1\.npy"):
        read_masses(tmp_path, IN_CLASSES)


@pytest.mark.parametrize("mass_ev", [1e-40, 1e-22, 12.5, 1e3])
def test_masses_within_the_bounds_are_taken(mass_ev):
    assert resolve_mass("a.npy", mass_ev, None) == mass_ev
    assert resolve_mass("a.npy", None, {"a.npy": str(mass_ev)}) == mass_ev


def test_the_mass_is_read_from_the_file_or_the_table():
    assert math.isnan(resolve_mass("a.npy", None, None))
    assert resolve_mass("a.npy", 1e-23, None) == 1e-23
    assert resolve_mass("a.npy", None, {"a.npy": " 3e-24 "}) == 3e-24
    assert resolve_mass("a.npy", 1e-23, {"a.npy": "1.0000000001e-23"}) == 1.0000000001e-23


@pytest.mark.parametrize(
    ("file_mass_ev", "table", "expected"),
    [
        (None, {}, "no mass in masses.csv"),
        (1e-23, {}, "no mass in masses.csv"),
        (None, {"a.npy": " "}, "no mass in masses.csv"),
        (None, {"a.npy": "heavy"}, "mass 'heavy' in masses.csv is not a number"),
        (None, {"a.npy": "nan"}, "mass nan is not finite"),
        (None, {"a.npy": "inf"}, "mass inf is not finite"),
        (None, {"a.npy": "0"}, f"mass 0 eV {OUT_OF_RANGE}"),
        (None, {"a.npy": "9e-41"}, f"mass 9e-41 eV {OUT_OF_RANGE}"),
        (1.1e3, None, f"mass 1100 eV {OUT_OF_RANGE}"),
        (None, {"a.npy": "-22.5"}, f"mass -22.5 is negative: {LOGARITHM}"),
        (-1e-23, None, f"mass -1e-23 is negative: {LOGARITHM}"),
        (math.nan, None, "mass nan is not finite"),
        (1e-23, {"a.npy": "2e-23"}, "mass 1e-23 eV in the file, 2e-23 eV in masses.csv"),
    ],
)
def test_an_unusable_mass_is_refused(file_mass_ev, table, expected):
    with pytest.raises(UnusableFile) as caught:
        resolve_mass("a.npy", file_mass_ev, table)
    assert str(caught.value) == expected
