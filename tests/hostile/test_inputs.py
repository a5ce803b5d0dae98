"""Everything a user can point at, hostile or broken: one line, an exit code, and nothing else.

`CASES` is the table: name, how the input is made, the stage and its words, the exit code, what the
line says. Each runs in this process and is held to a time, to a growth of memory, to an output
without control characters, and to not having run what the input carries.
"""

import ctypes
import importlib
import itertools
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deeplens_tf.cli import run_stage
from deeplens_tf.config import load_config, save_config
from deeplens_tf.startup import import_tensorflow
from tests.hostile.arrays import NPY, NPZ, SENTINEL, good_image
from tests.hostile.formats import FITS, HDF5, PICTURES
from tests.hostile.models import MODELS, OLD_WEIGHTS, members_of, write_hollow, write_hollow_weights
from tests.hostile.prepared import PREPARED
from tests.hostile.texts import CONFIGS, DAMAGED, REPORTS, facts, scored

MOST_BYTES = 400 * 10**6
MOST_SECONDS = 20
ESCAPE = "\x1b[31mred"


@dataclass(frozen=True)
class Case:
    """One hostile input. `make` is called in an empty folder with the good things to start from."""

    name: str
    make: object
    words: str
    code: int
    line: str


# What a good run starts from, made once.


@dataclass(frozen=True)
class Good:
    images: Path
    prepared: Path
    model: Path
    members: dict


def write_images(folder, classes=("a", "b"), count=4, start=0):
    for i, name in itertools.product(range(count), classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        np.save(folder / name / f"{i}.npy", good_image(start + i + 100 * (name != classes[0])))


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    import_tensorflow()
    from deeplens_tf.data.preparing import prepare_folder
    from deeplens_tf.models import DownstreamModel, build_encoder
    from deeplens_tf.models.heads import classification_head

    write_images(root / "images")
    settings = {"image_size": 16, "fit": "resize", "validation_fraction": 0.25, "seed": 0}
    prepare_folder(root / "images", root / "prepared", **settings, progress=False)
    encoder = build_encoder("vit_nano", (16, 16, 1))
    DownstreamModel(encoder, classification_head(2), ("a", "b")).save(root / "model.keras")
    path = root / "model.keras"
    return Good(root / "images", root / "prepared", path, members_of(path))


# The table.

PREPARE = "prepare images --out out --strict --set data.image_size=16"
EVALUATE = "evaluate --run run --data images"


def image_case(name, suffix, content, line):
    def make(good):
        shutil.copytree(good.images, "images")
        Path(f"images/a/x.{suffix}").write_bytes(content() if callable(content) else content)

    return Case(f"{suffix}: {name}", make, PREPARE, 3, line)


def placed(place):
    """An input that is made by putting something odd among good images."""

    def make(good):
        shutil.copytree(good.images, "images")
        place(Path("images/a"))

    return make


def sparse(path, size):
    with path.open("wb") as stream:
        stream.truncate(size)


def rename(folder, name):
    (folder / "0.npy").rename(folder / name)


def odd_class(folder):
    Path(f"images/{ESCAPE}\n").mkdir()


def nothing(folder):
    """Leave the good images as they are."""


def file_case(name, place, line, code=3, words=PREPARE):
    return Case(name, placed(place), words, code, line)


LONG = "x" * 5000
FILES = [
    file_case("a pipe", lambda a: os.mkfifo(a / "x.npy"), "not a regular file"),
    file_case("a device", lambda a: (a / "x.npy").symlink_to("/dev/zero"), "not a regular file"),
    file_case("a link to itself", lambda a: (a / "x.npy").symlink_to("x.npy"), "symbolic links"),
    file_case("a broken link", lambda a: (a / "x.npy").symlink_to("no"), "a broken link"),
    file_case("a file of 2 TB", lambda a: sparse(a / "x.npy", 2 * 10**12), "2.0 TB"),
    file_case("a name to obey", lambda a: (a / f"{ESCAPE}\n.npy").touch(), "a/\\x1b[31mred"),
    file_case("a class to obey", odd_class, "images/\\x1b[31mred"),
    file_case("a name that is no text", lambda a: rename(a, "\udcff.npy"), "", 0),
    file_case(
        "a path that is no text",
        nothing,
        "\\udcff: not a name in UTF-8",
        2,
        "prepare images --out \udcff",
    ),
    file_case("a path without end", nothing, "name too long", 2, f"prepare images --out {LONG}"),
    file_case("data without end", nothing, "name too long", 2, f"prepare {LONG} --out out"),
    file_case(
        "a path through a file",
        lambda a: Path("file").touch(),
        "Not a directory: ",
        2,
        "prepare images --out file/x --set data.image_size=16",
    ),
]


def table_case(name, content, line):
    def place(folder):
        (folder / "masses.csv").write_bytes(content)

    return Case(f"masses.csv: {name}", placed(place), PREPARE, 3, line)


TABLES = [
    table_case("bytes", bytes(range(256)), "not a CSV table"),
    table_case("no columns", b"a,b\n", "no column file and mass_ev"),
    table_case("a file twice", b"file,mass_ev\n" + b"0.npy,1\n" * 2, "is listed twice"),
    table_case("a million columns", b"file,mass_ev" + b",ab" * 10**6, "a line of 65536"),
    table_case("a quote without end", b'file,mass_ev\n"' + b"x,\n" * 10**5, "not a CSV table"),
    table_case("a mass of a million digits", b"file,mass_ev\n0.npy," + b"9" * 10**6, "a line of"),
    table_case("a mass that is no number", b"file,mass_ev\n0.npy,\x1b[2J\n", "mass '\\x1b[2J'"),
    file_case("masses.csv: a pipe", lambda a: os.mkfifo(a / "masses.csv"), "not a regular file"),
    file_case("masses.csv: 1 TB", lambda a: sparse(a / "masses.csv", 10**12), "larger than 64 MB"),
    file_case(
        "masses.csv of the data folder: names to obey",
        lambda a: Path("images/masses.csv").write_text(f"file,mass_ev\n../{ESCAPE}.npy,1\n"),
        "images/masses.csv: no row names an image",
    ),
    file_case(
        "masses.csv of the data folder: a device",
        lambda a: Path("images/masses.csv").symlink_to("/dev/zero"),
        "images/masses.csv: not a regular file",
    ),
]


def catalog_case(name, content, line, code=3, suffix="csv"):
    def place(folder):
        path = Path(f"c.{suffix}")
        content(path) if callable(content) else path.write_bytes(content)

    words = f"prepare images --out out --catalog c.{suffix}"
    return Case(f"catalogue: {name}", placed(place), words, code, line)


WIDE = b"file" + b"".join(b",%d" % i for i in range(10**5)) + b"\n"
CATALOGS = [
    catalog_case("bytes", bytes(range(256)), "not a table of text"),
    catalog_case("a hundred thousand columns", WIDE, "a line of 65536 characters or more"),
    catalog_case("1001 columns", b"file" + b",x" * 1000 + b"\n", "1001 columns, at most 1000"),
    catalog_case("a row without end", b"file\n" + b"x" * 10**6, "a line of 65536"),
    catalog_case("a quote without end", b'file,id\n"' + b"x,\n" * 10**4, "not a table of text"),
    catalog_case("NUL in a file", b"file\na/0\0.npy\n", "leads out of the data folder"),
    catalog_case("NUL in an id", b"file,id\na/0.npy,\0\n", "at most 200 characters, all of them"),
    catalog_case("a path upwards", b"file\na/../../x.npy\n", "leads out of the data folder"),
    catalog_case("an absolute path", b"file\n/etc/passwd\n", "leads out of the data folder"),
    catalog_case("a file twice", b"file\na/0.npy\na/./0.npy\n", "'a/0.npy' is listed twice"),
    catalog_case("a label to obey", b"file,label\na/0.npy,\x1b[2J\n", "label '\\x1b[2J'"),
    catalog_case("a column to obey", b"file,\x1b[2J\n", "a column is called '\\x1b[2J'"),
    catalog_case("a pipe", os.mkfifo, "not a regular file"),
    catalog_case("a device", lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    catalog_case("2 TB", lambda path: sparse(path, 2 * 10**12), "larger than 1 GB"),
    catalog_case("of another kind", b"x", "a catalogue is a table", 2, "pickle"),
    catalog_case("FITS that is none", b"SIMPLE", "not a FITS file", 3, "fits"),
    catalog_case("FITS of 1 TB", lambda path: sparse(path, 10**12), "larger than 1 GB", 3, "fits"),
    catalog_case("FITS of zeros", lambda path: sparse(path, 10**9), "not a FITS file", 3, "fits"),
    catalog_case("ECSV that is none", b"file\na/0.npy\n", "not an ECSV table", 3, "ecsv"),
    catalog_case(
        "ECSV with a tag that runs",
        b"# %ECSV 1.0\n# ---\n# datatype:\n# - !!python/object/apply:os.system ['touch x']\nfile\n",
        "its header does not describe columns",
        3,
        "ecsv",
    ),
]


def config_case(name, text, line):
    def make(good):
        write_images(Path("images"))
        Path("x.yaml").write_text(text)

    return Case(f"yaml: {name}", make, "prepare images --out out --config x.yaml", 2, line)


def model_case(name, change, line):
    def make(good):
        write_run(good)
        Path("run/model.keras").write_bytes(change(good.members))

    return Case(f"keras: {name}", make, EVALUATE, 2, line)


def hollow_model(good):
    write_run(good)
    write_hollow(Path("run/model.keras"), good.members, 450 * 2**20)


def weights_case(name, content, line):
    def make(good):
        Path("x.h5").write_bytes(content())

    return Case(f"h5: {name}", make, CONVERT, 2, line)


CONVERT = "convert x.h5 --to x.keras"
HOLLOW_WEIGHTS = [
    Case(
        "h5: hollow weights of 800 MB",
        lambda good: write_hollow_weights("x.h5"),
        CONVERT,
        2,
        "it lacks embedding/bias",
    ),
    Case("h5: 2 TB", lambda good: sparse(Path("x.h5"), 2 * 10**12), CONVERT, 2, "larger than"),
]


def write_run(good):
    Path("images").symlink_to(good.images)
    Path("run").mkdir()
    overrides = ["data.image_size=16", "data.cache=cache", "data.validation_fraction=0.1"]
    save_config(load_config("defaults", overrides, "images"), Path("run/config.yaml"))
    shutil.copy(good.model, "run/model.keras")


def report_case(name, metrics, environment, code, line):
    def make(good):
        write_evaluated_run(metrics, environment)

    return Case(f"report: {name}", make, "compare run --out out", code, line)


def write_evaluated_run(metrics, environment):
    Path("run/evaluation/test").mkdir(parents=True, exist_ok=True)
    save_config(load_config("defaults"), Path("run/config.yaml"))
    metrics = metrics if isinstance(metrics, bytes) else metrics.encode()
    Path("run/evaluation/test/metrics.json").write_bytes(metrics)
    Path("run/environment.json").write_text(environment)


def piped_report(good):
    write_evaluated_run(scored(), facts())
    Path("run/environment.json").unlink()
    os.mkfifo("run/environment.json")


def no_environment(good):
    write_evaluated_run(scored(), facts())
    Path("run/environment.json").unlink()


def laughing_run(good):
    write_evaluated_run(scored(), facts())
    Path("run/config.yaml").write_text(CONFIGS["a billion laughs"][0])


REPORT_FILES = [
    Case("report: a pipe", piped_report, "compare run --out out", 2, "not a regular file"),
    Case("report: no environment", no_environment, "compare run --out out", 2, DAMAGED),
    Case("report: a run that laughs", laughing_run, "compare run --out out", 2, "a reference (*)"),
]


def prepared_case(name, change, line):
    def make(good):
        write_run(good)
        shutil.copytree(good.prepared, "prepared")
        change(Path("prepared"))

    return Case(f"prepared: {name}", make, "evaluate --run run --data prepared", 3, line)


def record_case(name, line, **changes):
    def make(good):
        Path("out").mkdir()
        record = {"preset": "model_ii", "split": "train", "seed": 0, "noise": False}
        record |= {"classes": ["cdm"], "count": 1, "versions": {}}
        Path("out/simulation.json").write_text(json.dumps({**record, **changes}))

    words = "simulate --count 1 --classes cdm --jobs 1 --out out"
    return Case(f"simulation.json: {name}", make, words, 2, line)


def write_run_and_folder(good):
    write_run(good)
    Path("p").symlink_to(good.prepared)


def good_report(good):
    write_evaluated_run(scored(), facts())


def odd_names(good):
    """A good model on good images whose classes and files have the oddest names."""
    from deeplens_tf.models import DownstreamModel, build_encoder
    from deeplens_tf.models.heads import classification_head

    write_run(good)
    classes = (f"{ESCAPE}\n", "$\\frac{$")
    Path("images").unlink()
    for name in ("images", "images_test"):
        write_images(Path(name), classes, start=1000 * (name != "images"))
        rename(Path(name, classes[0]), "\udcff\n.npy")
    model = DownstreamModel(build_encoder("vit_nano", (16, 16, 1)), classification_head(2), classes)
    model.save("run/model.keras")


CASES = [
    *(image_case(name, "npy", *rest) for name, rest in NPY.items()),
    *(image_case(name, "npz", *rest) for name, rest in NPZ.items()),
    *(image_case(name, "fits", *rest) for name, rest in FITS.items()),
    *(image_case(name, "png", *rest) for name, rest in PICTURES.items()),
    *(image_case(name, "hdf5", *rest) for name, rest in HDF5.items()),
    *FILES,
    *TABLES,
    *CATALOGS,
    *(config_case(name, *rest) for name, rest in CONFIGS.items()),
    *(model_case(name, *rest) for name, rest in MODELS.items()),
    Case("keras: hollow weights of 450 MB", hollow_model, EVALUATE, 2, "Bad CRC-32"),
    *(weights_case(name, *rest) for name, rest in OLD_WEIGHTS.items()),
    *HOLLOW_WEIGHTS,
    *(prepared_case(name, *rest) for name, rest in PREPARED.items()),
    *(report_case(name, *rest) for name, rest in REPORTS.items()),
    *REPORT_FILES,
    record_case("a count that is a text", "no readable count", count="many"),
    record_case("versions that are a list", "no readable versions", versions=[]),
    record_case("classes that are objects", "no readable classes", classes=[{}]),
]


# What must be taken, however odd, and what the hostile inputs were made from.
TAKEN = [
    Case("odd names all the way", odd_names, EVALUATE, 0, ""),
    Case("the good run on the good images", write_run, EVALUATE, 0, ""),
    Case(
        "the good run on the good folder",
        write_run_and_folder,
        "evaluate --run run --data p",
        0,
        "",
    ),
    Case("the good report", good_report, "compare run --out out", 0, ""),
]


# The check.


def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


class Watch:
    """Time and growth of memory within a block."""

    def __enter__(self):
        ctypes.CDLL(None).malloc_trim(0)  # what earlier tests freed would hide what this one takes
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.memory, self.start = memory("VmRSS"), time.monotonic()
        signal.signal(signal.SIGALRM, self._too_long)
        signal.alarm(MOST_SECONDS)
        return self

    def __exit__(self, *error):
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        self.seconds = time.monotonic() - self.start
        self.bytes = memory("VmHWM") - self.memory

    def _too_long(self, *signal):
        raise TimeoutError(f"more than {MOST_SECONDS} s")


def end_of(words, monkeypatch):
    """Run a stage as `-m` does; return its exit code."""
    stage, *words = words.split(" ")
    monkeypatch.setattr(sys, "argv", [stage, *words])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as ended:
            run_stage(importlib.import_module(f"deeplens_tf.{stage}").main)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return ended.value.code


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
@pytest.mark.parametrize("case", TAKEN, ids=[case.name for case in TAKEN])
def test_it_is_taken(case, good, tmp_path, monkeypatch, capsys):
    check(case, good, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_ends_as_it_should(case, good, tmp_path, monkeypatch, capsys):
    check(case, good, tmp_path, monkeypatch, capsys)


def check(case, good, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    case.make(good)
    with Watch() as watch:
        code = end_of(case.words, monkeypatch)
    out, err = capsys.readouterr()
    assert code == case.code, err
    lines = err.splitlines()
    assert case.line in err
    assert len(lines) == (code != 0)
    assert max(map(len, lines), default=0) <= 2020
    assert all(letter.isprintable() or letter == "\n" for letter in out + err)
    assert watch.bytes < MOST_BYTES
    assert not any(tmp_path.rglob(SENTINEL))


def test_the_watch_sees_what_is_taken_where_something_was_freed():
    blocks = [bytes(10**5) for _ in range(1000)]
    kept = blocks[-1]  # above all the others, which the allocator keeps for the next
    del blocks
    with Watch() as watch:
        again = [bytes(10**5) for _ in range(1000)]
    assert len(again) * len(kept) <= watch.bytes + 10**6


def test_there_are_enough_and_each_has_its_name():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 40
