import math

import pytest

from deeplens_tf.data.mass_tables import read_masses, resolve_mass
from deeplens_tf.errors import DataError, UnusableFile


def test_a_folder_without_a_table_has_none(tmp_path):
    (tmp_path / "masses-of-all.csv").write_text("not a table of this name")
    assert read_masses(tmp_path) is None


@pytest.fixture(autouse=True)
def images(tmp_path):
    """Create the files that the tables list; rows of other files are ignored."""
    for name in ("a.npy", "b.npy"):
        (tmp_path / name).touch()


def test_the_tables_of_a_sharded_simulation_are_joined(tmp_path):
    (tmp_path / "masses-0-of-2.csv").write_text("file,mass_ev\na.npy,1e-23\n")
    other = "\ufeffmass_ev, file, seed\r\n2e-23, b.npy,7\r\n2e-24,no.npy,8\r\n"
    (tmp_path / "masses-1-of-2.csv").write_text(other)
    assert read_masses(tmp_path) == {"a.npy": "1e-23", "b.npy": "2e-23"}


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
        read_masses(tmp_path)


def test_a_file_in_two_tables_is_unusable(tmp_path):
    for name in ("masses.csv", "masses-0-of-1.csv"):
        (tmp_path / name).write_text("file,mass_ev\na.npy,1e-23\n")
    with pytest.raises(DataError, match="is also listed in another table"):
        read_masses(tmp_path)


def test_a_huge_table_is_not_read(tmp_path):
    with (tmp_path / "masses.csv").open("wb") as stream:
        stream.truncate(70 << 20)
    with pytest.raises(DataError, match="larger than 64 MB"):
        read_masses(tmp_path)


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
        (None, {"a.npy": "0"}, "mass 0 is not positive"),
        (None, {"a.npy": "-1e-23"}, "mass -1e-23 is not positive"),
        (-1e-23, None, "mass -1e-23 is not positive"),
        (math.nan, None, "mass nan is not finite"),
        (1e-23, {"a.npy": "2e-23"}, "mass 1e-23 eV in the file, 2e-23 eV in masses.csv"),
    ],
)
def test_an_unusable_mass_is_refused(file_mass_ev, table, expected):
    with pytest.raises(UnusableFile) as caught:
        resolve_mass("a.npy", file_mass_ev, table)
    assert str(caught.value) == expected
