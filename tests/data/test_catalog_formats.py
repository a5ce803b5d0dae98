"""The formats of a catalogue's table, against astropy and pandas."""

import numpy as np
import pandas as pd
import pyarrow
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from pyarrow import parquet

from deeplens_tf.data.catalog import CatalogRequest
from deeplens_tf.data.catalog_tables import open_table
from deeplens_tf.data.formats.fits_headers import BLOCK_BYTES
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.data.source_folders import scan_folders
from deeplens_tf.errors import DataError, RequestError
from tests.data.image_folders import SETTINGS, make_folder
from tests.data.test_catalog import make_images

ROWS = 5000  # more than are read at once


@pytest.fixture(scope="module")
def table():
    generator = np.random.default_rng(0)
    wide = generator.normal(size=ROWS) * 10.0 ** generator.integers(-300, 300, ROWS)
    wide[7] = np.nan
    flags = generator.random(ROWS) > 0.5
    return Table(
        {
            "file": [f"{i:05d}.npy" for i in range(ROWS)],
            "id": [f"J{i} é" if i % 9 == 0 else f"J{i:09d}" for i in range(ROWS)],
            "ra": MaskedColumn(generator.uniform(0, 360, ROWS), unit="deg"),
            "wide": wide,
            "single": generator.normal(size=ROWS).astype("f4"),
            "count": MaskedColumn(generator.integers(-99, 99, ROWS, "i2"), mask=flags, unit="Jy"),
            "large": generator.integers(0, 2**64, ROWS, "u8"),
            "byte": generator.integers(0, 256, ROWS, "u1"),
            "pair": generator.normal(size=(ROWS, 2)),
            "flag": flags,
        }
    )


def text_of(value):
    if value is np.ma.masked or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    if isinstance(value, bytes):
        return value.decode()
    return str(value)


def assert_same(found, table, but=("pair", "flag")):
    rows = [list(row) for row in found.rows]
    assert list(found.columns) == table.colnames
    assert len(rows) == len(table)
    for i, name in enumerate(table.colnames):
        if name not in but:
            assert [row[i] for row in rows] == [text_of(value) for value in table[name]], name
    return rows


def test_a_fits_table_is_read_as_astropy_does(table, tmp_path):
    path = tmp_path / "t.fits"
    whole = table.copy()
    whole["id"] = [name.encode() for name in table["id"]]
    whole["count"].fill_value = -99
    whole["count"].set_fill_value(-999)
    fits.HDUList(
        [
            fits.PrimaryHDU(np.zeros((30, 30), "f4")),
            fits.ImageHDU(np.zeros(5000)),
            fits.table_to_hdu(whole),
        ]
    ).writeto(path)
    found = open_table(path)
    assert found.units == {"ra": "deg", "count": "Jy"}
    rows = assert_same(found, table)
    assert {row[8] for row in rows} == {"[]"}
    assert [row[9] == "true" for row in rows] == table["flag"].tolist()


def test_a_fits_table_in_the_data_folder_is_no_image(tmp_path):
    make_folder(tmp_path / "d", {"a": 10, "b": 10})
    names = sorted(str(p.relative_to(tmp_path / "d")) for p in (tmp_path / "d").glob("*/*.npy"))
    table = Table({"file": names, "label": [name[0] for name in names]})
    table.write(tmp_path / "d" / "t.fits")
    catalog = tmp_path / "d" / "t.fits"
    options = SETTINGS | {"catalog": catalog, "strict": True}
    manifest = prepare_folder(tmp_path / "d", tmp_path / "out", **options)
    assert (manifest.rejected, manifest.left_out, manifest.passed_over) == (0, {}, {})


def test_scaled_numbers_of_a_fits_table_are_those_of_astropy(tmp_path):
    columns = [
        fits.Column("file", "8A", array=[f"{i}.npy" for i in range(100)]),
        fits.Column("x", "I", array=np.arange(-50, 50)),
        fits.Column("n", "J", null=-7, array=np.arange(-50, 50)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "t.fits")
    fits.setval(tmp_path / "t.fits", "TSCAL2", value=0.25, ext=1)
    fits.setval(tmp_path / "t.fits", "TZERO2", value=3.0, ext=1)
    rows = list(open_table(tmp_path / "t.fits").rows)
    expected = fits.getdata(tmp_path / "t.fits")
    assert [float(row[1]) for row in rows] == expected["x"].tolist()
    assert [row[2] for row in rows] == ["" if i == -7 else str(i) for i in range(-50, 50)]


@pytest.mark.parametrize("delimiter", [",", " "])
def test_an_ecsv_table_has_the_texts_of_the_file_and_its_units(table, tmp_path, delimiter):
    path = tmp_path / "t.ecsv"
    table.write(path, format="ascii.ecsv", delimiter=delimiter)
    found = open_table(path)
    assert found.units == {"ra": "deg", "count": "Jy"}
    again = Table.read(path, format="ascii.ecsv")
    assert_same(found, again, but=("pair", "flag", "wide", "single", "ra"))
    texts = [row[3] for row in open_table(path).rows]
    np.testing.assert_array_equal([float(text or "nan") for text in texts], again["wide"])


def test_a_parquet_table_is_read_as_pandas_does(table, tmp_path):
    path = tmp_path / "t.parquet"
    frame = table[[name for name in table.colnames if name not in ("pair", "count")]].to_pandas()
    frame["count"] = pd.array(table["count"].filled(0), "Int16")
    frame.loc[::3, "count"] = pd.NA
    frame.to_parquet(path)
    rows = list(open_table(path).rows)
    for i, name in enumerate(frame.columns):
        values = frame[name].to_numpy() if name == "single" else frame[name]
        texts = ["" if pd.isna(value) else text_of(value) for value in values]
        assert [row[i] for row in rows] == texts, name


@pytest.mark.parametrize("content", [b"x", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_damaged_parquet_table_is_refused(tmp_path, content):
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"t\.parquet: not a Parquet table: "):
        open_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("kind", [Table, QTable])
def test_the_units_of_a_parquet_table_are_those_that_astropy_writes(table, tmp_path, kind):
    plain = table[[name for name in table.colnames if name not in ("pair", "count")]]
    plain["speed"] = MaskedColumn(np.arange(float(ROWS)), unit="km s-1")
    kind(plain).write(tmp_path / "t.parquet")
    found = open_table(tmp_path / "t.parquet")
    assert found.units == {"ra": "deg", "speed": "km / s"}
    assert [row[found.columns.index("speed")] for row in found.rows][:2] == ["0.0", "1.0"]


def test_a_column_of_a_parquet_table_may_state_its_own_unit(tmp_path):
    fields = [
        pyarrow.field("file", "string"),
        pyarrow.field("x", "float32", metadata={"unit": "Jy"}),
    ]
    schema = pyarrow.schema(
        fields, metadata={"table_meta_yaml": "datatype:\n- {name: x, unit: mag}\n"}
    )
    parquet.write_table(pyarrow.table([["a"], [1.5]], schema=schema), tmp_path / "t.parquet")
    assert open_table(tmp_path / "t.parquet").units == {"x": "Jy"}


@pytest.mark.parametrize(
    ("described", "line"),
    [
        (b"datatype:\n- {name: x, unit: &a [m]}\n- {name: y, unit: *a}\n", "not describe columns"),
        (b"datatype:\n- [a, unit]\n", "not describe columns"),
        (b"datatype:\n- {unit: !!python/object/new:list []}\n", "not describe columns"),
        (b"\xff", "not a Parquet table: .* decode"),
        (b"datatype:\n" + b"- {name: x, unit: m}\n" * 60_000, "longer than 1048576 characters"),
    ],
)
def test_a_description_of_a_parquet_table_that_cannot_be_read_is_refused(tmp_path, described, line):
    schema = pyarrow.schema([("file", "string")], metadata={b"table_meta_yaml": described})
    parquet.write_table(pyarrow.table([["a"]], schema=schema), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=rf"t\.parquet: .*{line}"):
        open_table(tmp_path / "t.parquet")


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "t.parquet").write_bytes(b"x")
    with pytest.raises(RequestError, match=r"needs pyarrow: pip install 'deeplens_tf\[parquet\]'"):
        open_table(tmp_path / "t.parquet")


# What a FITS file may declare


def small_fits(path):
    names = [f"{i}.npy" for i in range(9)]
    table = Table({"file": names, "z": np.arange(9.0)})
    fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(table)]).writeto(path)
    return path.read_bytes()


def declaring(key, number, other):
    """Change a whole number in a header."""
    before, after = (b"%-8b= %20d" % (key, value) for value in (number, other))
    return lambda data: data.replace(before, after)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda data: b"\x1f\x8b" + data, "not a FITS file|truncated"),
        (lambda data: data[:100], "truncated"),
        (lambda data: data[:BLOCK_BYTES], "no binary table in it"),
        (lambda data: data[:-BLOCK_BYTES], "shorter than its 9 rows"),
        (declaring(b"NAXIS2", 9, 2**50), "shorter than its"),
        (declaring(b"NAXIS2", 9, -9), "an axis of length -9"),
        (lambda data: data.replace(b"TFORM2  = 'D       '", b"TFORM2  = 'DD      '"), "no table|"),
        (lambda data: data.replace(b"TFORM2  = 'D", b"TFORM2  = '?"), "no format of a column"),
        (lambda data: data.replace(b"TFORM2  = 'D", b"TFORM2  = 'E"), "not the size of a row"),
        (declaring(b"TFIELDS", 2, 10**7), "10000000 columns, at most 999"),
        (lambda data: data[:BLOCK_BYTES].replace(b"END", b"NED") + b" " * 500 * BLOCK_BYTES,
         "a header of more than 1152000 bytes"),
    ],
)  # fmt: skip
def test_a_fits_file_that_cannot_be_read_ends_in_one_line(tmp_path, change, line):
    data = small_fits(tmp_path / "t.fits")
    changed = change(data)
    (tmp_path / "t.fits").write_bytes(changed)
    if line.endswith("|"):  # a format of more letters is that of the first
        assert len(list(open_table(tmp_path / "t.fits").rows)) == 9
        return
    with pytest.raises(DataError, match=rf"t\.fits: .*{line}"):
        list(open_table(tmp_path / "t.fits").rows)


def test_every_changed_byte_of_a_header_is_read_or_refused(tmp_path):
    data = small_fits(tmp_path / "t.fits")
    start = 2 * BLOCK_BYTES
    header = range(BLOCK_BYTES, start)
    for at in [at for at in header if data[at : at + 1] != b" "]:
        for byte in (b"9", b"-", b"\xff"):
            (tmp_path / "t.fits").write_bytes(data[:at] + byte + data[at + 1 :])
            try:
                rows = list(open_table(tmp_path / "t.fits").rows)
            except DataError:
                continue
            assert len(rows) <= 99


def test_a_fits_catalogue_lists_the_images_of_a_folder(tmp_path):
    names = make_images(tmp_path / "d", 9)
    table = Table({"file": names, "label": ["a", "b", "c"] * 3, "z": np.arange(9) / 7})
    table["z"].unit = "mag"
    table.write(tmp_path / "t.fits")
    folder = scan_folders(tmp_path / "d", CatalogRequest(tmp_path / "t.fits"))["train"]
    assert folder.classes == ("a", "b", "c")
    assert folder.catalog.units == {"z": "mag"}
    found = [float(*folder.catalog.texts(name, ["z"])) for name in names]
    assert found == (np.arange(9) / 7).tolist()
