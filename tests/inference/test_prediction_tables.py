"""One table of predictions: its formats, its shards, and what an interruption leaves of it."""

import json
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from astropy.utils.exceptions import AstropyUserWarning

from deeplens_tf import predict as stage
from deeplens_tf import prepare
from deeplens_tf.config import load_config
from deeplens_tf.data.image_sizes import ImageSizes
from deeplens_tf.errors import DataError, RequestError, ResourceError
from deeplens_tf.evaluation.model_report import evaluate_run
from deeplens_tf.inference import model_input, new_images, table_files
from deeplens_tf.inference.predicting import predict
from deeplens_tf.runs.lock import hold
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.saving.keras_files import load_fine_tuned
from tests.conftest import CLASSES, write_blobs
from tests.evaluation.runs import finetuned

pytestmark = pytest.mark.usefixtures("no_pictures")
SUFFIXES = (".csv", ".parquet", ".fits", ".ecsv")
PROBABILITIES = [f"p_{name}" for name in CLASSES]
PLACES = ["id", "ra", "dec"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run, and in `survey` 24 images with a catalogue, three of which cannot be used."""
    place = tmp_path_factory.mktemp("place")
    config = load_config("finetune", ["data.image_size=16"], str(place / "lenses"))
    write_blobs(place / "lenses", 6, seed=0)
    finetuned(place / "run", config)
    write_blobs(place / "survey", 7, seed=1)
    (place / "survey/cdm/a.npy").write_bytes(b"junk")
    np.save(place / "survey/axion/é, 'flat'.npy", np.ones((16, 16)))
    np.save(place / "survey/z.npy", np.ones((16, 16, 3)))
    files = sorted(path.relative_to(place / "survey") for path in place.glob("survey/**/*.npy"))
    table = pd.DataFrame({"file": files})
    table["id"] = [f"00{i}" for i in range(24)]
    table["ra"] = [f"{10 + i / 7:.9f}0" for i in range(24)]
    table["dec"] = ["nan" if i == 3 else f"{-i / 9:+.9f}" for i in range(24)]
    table.to_csv(place / "catalog.csv", index=False)
    return place


@pytest.fixture(scope="module")
def model(place):
    return load_fine_tuned(place / "run")


@pytest.fixture
def here(place, model, tmp_path, monkeypatch):
    """The folder of the run and the images, from a folder of the test's own.

    The model is loaded once, and its outputs are replaced by a short formula, which is quicker.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(new_images, "BATCH_SIZE", 5)
    monkeypatch.setattr(model_input, "load_fine_tuned", lambda run: model)
    monkeypatch.setattr(model_input, "ExactOutputs", lambda model: shares)
    return place


def shares(images):
    """Return three numbers for each image that depend on it alone and add up to 1."""
    parts = [image.sum(axis=(1, 2)).reshape(4, 4).sum(axis=0)[:3] for image in images]
    return np.array([part / part.sum() for part in parts], np.float32)


def predicted(here, out, **options):
    return predict(here / "run", here / "survey", out, catalog=here / "catalog.csv", **options)


def read_fits(path):
    with pytest.warns(AstropyUserWarning, match="'unlike_training' contains NULL"):
        return Table.read(path)


def text_of(value):
    return "" if value is np.ma.masked or pd.isna(value) else str(value)


def texts(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.mark.parametrize("rows", [4, 100])
def test_each_format_has_the_rows_of_the_csv(here, rows, monkeypatch):
    monkeypatch.setattr(table_files, "ROWS_OF_BLOCK", rows)
    csv = texts(predicted(here, "p.csv").table)
    columns = ["file", "predicted", *PROBABILITIES, "unlike_training", *PLACES, "reason"]
    assert [*csv] == columns
    assert csv["file"].tolist() == texts(here / "catalog.csv")["file"].tolist()
    assert csv[PLACES].equals(texts(here / "catalog.csv")[PLACES])
    usable = (csv["reason"] == "").to_numpy()
    assert usable.sum() == 21
    for suffix, read in (
        (".parquet", pd.read_parquet),
        (".fits", read_fits),
        (".ecsv", lambda path: Table.read(path, format="ascii.ecsv")),
    ):
        found = read(predicted(here, f"p{suffix}").table)
        names = list(found.columns) if suffix == ".parquet" else found.colnames
        assert names == columns
        for name in ("file", "id", "predicted", "reason"):
            assert [*map(text_of, found[name])] == csv[name].tolist(), (suffix, name)
        for name in PROBABILITIES:
            values = np.ma.filled(np.ma.asarray(found[name]), np.nan)
            assert (values.dtype.kind, values.dtype.itemsize) == ("f", 4)
            expected = csv[name].where(usable, "nan").astype(np.float64).astype(np.float32)
            np.testing.assert_array_equal(values, expected)
        for name in ("ra", "dec"):
            values = np.ma.filled(np.ma.asarray(found[name]), np.nan)
            assert (values.dtype.kind, values.dtype.itemsize) == ("f", 8)
            np.testing.assert_array_equal(values, csv[name].astype(np.float64))
        flags = np.asarray(found["unlike_training"])[usable]
        assert [str(bool(flag)) for flag in flags] == csv["unlike_training"][usable].tolist()


def test_an_unknown_flag_is_a_missing_one_in_typed_tables(here):
    parquet = pd.read_parquet(predicted(here, "p.parquet").table)
    assert parquet["unlike_training"].isna().tolist() == parquet["reason"].notna().tolist()
    ecsv = Table.read(predicted(here, "p.ecsv").table, format="ascii.ecsv")
    assert ecsv["unlike_training"].mask.sum() == 3
    # The standard's null of a logical, as the reader of catalogues takes it.
    fits = table_files.open_table(predicted(here, "p.fits").table)
    flags = [row[fits.columns.index("unlike_training")] for row in fits.rows]
    assert flags.count("") == 3
    assert len(flags) == 24


@pytest.fixture
def odd(here, tmp_path):
    """A folder of images whose names CSV, ECSV and FITS may take for something else."""
    names = ["#a,'b'.npy", "-- .npy", "NA.npy", "a#3.npy", "a\nb.npy", 'q"uote.npy', "äß.npy"]
    (tmp_path / "odd").mkdir()
    for name in names:
        np.save(tmp_path / "odd" / name, np.load(here / "survey/cdm/cdm_sim_000.npy"))
    return tmp_path / "odd", sorted(names)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_format_keeps_odd_file_names(here, odd, suffix):
    folder, names = odd
    path = predict(here / "run", folder, f"p{suffix}").table
    read = {".csv": texts, ".parquet": pd.read_parquet}.get(suffix, Table.read)
    found = read(path)["file"]
    assert [n.decode() if isinstance(n, bytes) else str(n) for n in found] == names


@pytest.mark.parametrize(
    ("name", "suffixes"), [("a\rb", SUFFIXES), (" a", (".ecsv",)), ("a\u2028b", (".ecsv",))]
)
def test_a_file_name_that_a_format_does_not_keep_is_refused(here, odd, name, suffixes):
    folder, _ = odd
    np.save(folder / f"{name}.npy", np.load(here / "survey/cdm/cdm_sim_000.npy"))
    for suffix in suffixes:
        with pytest.raises(RequestError, match=r"carriage return|does not keep the name"):
            predict(here / "run", folder, f"p{suffix}")


def test_coordinates_that_are_no_numbers_stay_texts(here, tmp_path):
    table = texts(here / "catalog.csv")
    table.loc[5, "ra"] = "10:20:30"
    table.to_csv("other.csv", index=False)
    for shard in ((1, 2), (2, 2)):  # also in the shard without that row
        options = {"catalog": "other.csv", "shard": shard}
        found = pd.read_parquet(
            predict(here / "run", here / "survey", "p.parquet", **options).table
        )
        assert isinstance(found["ra"].iloc[0], str)
        assert found["dec"].dtype == np.float64


@pytest.mark.parametrize("name", ["p.txt", "p", "p.csv.gz"])
def test_another_format_is_refused(here, name):
    line = rf"--out {name}: must be a file \.csv, \.parquet, \.fits, \.ecsv"
    with pytest.raises(RequestError, match=line):
        stage.main(["--run", str(here / "run"), "--data", str(here / "survey"), "--out", name])


def test_parquet_without_its_library_names_the_extra(here, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(table_files, "import_module", missing)
    with pytest.raises(RequestError, match=r"pip install 'deeplens_tf\[parquet\]'"):
        predicted(here, "p.parquet")


@pytest.mark.parametrize(("names", "what"), [(["p_é"], "ASCII"), (["p_a", "p_A"], "other letter")])
def test_names_that_fits_cannot_hold_are_refused(tmp_path, names, what):
    columns = table_files.Columns(["file", *names], names)
    with pytest.raises(RequestError, match=what):
        table_files.require_writable(tmp_path / "p.fits", columns, [])
    table_files.require_writable(tmp_path / "p.ecsv", columns, [])


def test_a_name_that_is_not_utf8_is_for_csv_alone(here, tmp_path):
    (tmp_path / "odd").mkdir()
    with Path("odd/\udcff.npy").open("wb") as file:
        np.save(file, np.random.default_rng(0).random((16, 16)))
    for suffix in SUFFIXES[1:]:
        with pytest.raises(RequestError, match=r"is no name in UTF-8: choose \.csv"):
            predict(here / "run", "odd", f"p{suffix}")
    assert predict(here / "run", "odd", "p.csv").table.read_bytes().splitlines()[1][0] == 255
    assert {path.name for path in tmp_path.iterdir()} == {"odd", "p.csv"}


@pytest.mark.parametrize("count", [5, 24])
def test_shards_are_all_images_in_their_order(here, count):
    whole = texts(predicted(here, "p.csv").table)
    shards = [predicted_or_none(here, (i, count)) for i in range(1, count + 1)]
    found = pd.concat([texts(f"p-{i}-of-{count}.csv") for i in range(1, count + 1)])
    assert found.reset_index(drop=True).equals(whole)
    sizes = [len(texts(f"p-{i}-of-{count}.csv")) for i in range(1, count + 1)]
    assert max(sizes) - min(sizes) <= 1
    assert sum(shard.count for shard in shards if shard) == 21


def predicted_or_none(here, shard):
    try:
        return predicted(here, "p.csv", shard=shard)
    except DataError:  # one without a usable image, which is written all the same
        return None


def test_wrong_shards_are_refused(here):
    for shard, line in (
        *(((0, 3), "1 <= i <= n"), ((4, 3), "1 <= i <= n"), ((1, 25), "more shards than the 24")),
    ):
        with pytest.raises(RequestError, match=line):
            predicted(here, "p.csv", shard=shard)
    with pytest.raises(RequestError, match="--shard takes i/n, as in 1/8"):
        stage.main(["--run", str(here / "run"), "--data", str(here / "survey"), "--shard", "1"])


def test_prepared_images_have_shards_and_places_too(here, tmp_path):
    write_blobs(tmp_path / "few", 4, seed=1)
    write_blobs(tmp_path / "few_test", 2, seed=5)
    words = ["few", "--out", "prepared", "--image-size", "16"]
    prepare.main(words)
    whole = texts(predict(here / "run", "prepared", "p.csv").table)
    assert len(whole) == 18
    for i in (1, 2, 3):
        predict(here / "run", "prepared", "p.csv", shard=(i, 3))
    found = pd.concat([texts(f"p-{i}-of-3.csv") for i in (1, 2, 3)], ignore_index=True)
    assert found.equals(whole)


def interrupt(monkeypatch, batches):
    """Let the next prediction be interrupted while it reads one more than so many batches."""
    real = new_images.NewImages._raw

    def raw(images, block):
        yield from islice(real(images, block), batches)
        raise KeyboardInterrupt

    monkeypatch.setattr(new_images.NewImages, "_raw", raw)


@pytest.mark.parametrize(
    ("suffix", "batches"), [(".csv", 0), *((suffix, 3) for suffix in SUFFIXES), (".csv", 5)]
)
def test_the_same_call_goes_on_where_an_interrupted_one_was(
    here, tmp_path, suffix, batches, monkeypatch, capsys
):
    expected = predicted(here, f"whole{suffix}").table.read_bytes()
    with monkeypatch.context() as context:
        interrupt(context, batches)
        with pytest.raises(KeyboardInterrupt):
            predicted(here, f"p{suffix}")
    assert not (tmp_path / f"p{suffix}").exists()
    # A kill may leave rows that the record does not count.
    with (tmp_path / f"p{suffix}.unfinished/rows.csv").open("ab") as stream:
        stream.write(b"half a row")
    capsys.readouterr()
    found = predicted(here, f"p{suffix}")
    done = min(5 * batches, 24)
    line = f"p{suffix}.unfinished: {done} of 24 images are done: going on"
    assert (line in capsys.readouterr().out) == (batches > 0)
    assert found.table.read_bytes() == expected
    assert (found.count, found.rejected) == (21, 3)
    assert {path.name for path in tmp_path.iterdir()} == {f"whole{suffix}", f"p{suffix}"}


def test_another_request_starts_anew(here, tmp_path, monkeypatch, capsys):
    def interrupted():
        with monkeypatch.context() as context:
            interrupt(context, 2)
            with pytest.raises(KeyboardInterrupt):
                predict(here / "run", "mine", "p.csv")

    write_blobs(tmp_path / "mine", 4, seed=3)
    expected = predict(here / "run", "mine", "p.csv").table.read_bytes()
    for change, what in ((add_image, "images"), (mix_sizes, "options"), (damage, None)):
        interrupted()
        capsys.readouterr()
        options = change(tmp_path)
        found = predict(here / "run", "mine", "p.csv", **options).table.read_bytes()
        out = capsys.readouterr().out
        line = "damaged: starting" if what is None else f"of another request ({what}): starting"
        assert line in out
        (tmp_path / "mine/new.npy").unlink(missing_ok=True)
        assert found.count(b"\n") == expected.count(b"\n") + (change is add_image)
        assert (found == expected) == (change is not add_image)


def add_image(folder):
    np.save(folder / "mine/new.npy", np.random.default_rng(0).random((16, 16)))
    return {}


def mix_sizes(folder):
    return {"mixed_sizes": True}


def damage(folder):
    record = folder / "p.csv.unfinished/progress.json"
    values = json.loads(record.read_text())
    values["progress"]["bytes"] = 10**6
    record.write_text(json.dumps(values))
    return {}


def test_sizes_are_compared_across_an_interruption(here, tmp_path, monkeypatch):
    (tmp_path / "sizes").mkdir()
    generator = np.random.default_rng(0)
    for i in range(12):
        np.save(f"sizes/{i:02d}.npy", generator.random((16, 16) if i < 8 else (32, 32)))
    monkeypatch.setattr("deeplens_tf.inference.new_images.NewImages.sizes", sizes_alone())
    with monkeypatch.context() as context:
        interrupt(context, 1)
        with pytest.raises(KeyboardInterrupt):
            predict(here / "run", "sizes", "p.csv")
    for i in range(8):
        (tmp_path / f"sizes/{i:02d}.npy").touch(exist_ok=True)
    with pytest.raises(DataError, match=r"images differ in size: 00\.npy has 16 x 16"):
        predict(here / "run", "sizes", "p.csv")
    assert not (tmp_path / "p.csv.unfinished").exists()  # the same call would fail again


def sizes_alone():
    """Sizes without that of the training, as of a model that does not record it."""
    found = cached_property(lambda images: ImageSizes(16, "resize"))
    found.__set_name__(new_images.NewImages, "sizes")
    return found


def test_two_calls_do_not_write_the_same_table(here, tmp_path):
    (tmp_path / "p.csv.unfinished").mkdir()
    with hold(tmp_path / "p.csv.unfinished"), pytest.raises(ResourceError, match="is in use by"):
        predicted(here, "p.csv")


@pytest.mark.slow
def test_probabilities_are_those_of_evaluate_bit_for_bit(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, survey = place / "run", place / "survey"
    monkeypatch.setattr("deeplens_tf.evaluation.scored_images.BATCH_SIZE", 7)
    config = load_config("finetune", ["data.image_size=16"], str(survey))
    folder, _ = evaluate_run(Run(run), config)
    expected = texts(folder / "predictions.csv").set_index("file")
    prepare.main([str(survey), "--out", "prepared", "--image-size", "16"])
    tables = [predict(run, survey, "whole.csv").table, predict(run, "prepared", "p.csv").table]
    monkeypatch.setattr(new_images, "BATCH_SIZE", 5)
    tables.append(predict(run, survey, "small.csv").table)
    shards = [predict(run, survey, "p.csv", shard=(i, 2)).table for i in (1, 2)]
    for parts in (*([table] for table in tables), shards):
        found = pd.concat(map(texts, parts)).set_index("file")
        same = [name for name in expected if name in found]
        assert {*PROBABILITIES, "predicted"} <= {*same}
        assert found.loc[expected.index, same].equals(expected[same])
