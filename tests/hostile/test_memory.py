"""Whole processes: what the worst inputs take at their peak, against the bare import."""

import gzip
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.hostile.arrays import header, npy
from tests.hostile.formats import fits_bytes, primary
from tests.hostile.test_inputs import MOST_BYTES, facts, write_evaluated_run

pytestmark = pytest.mark.slow

# Runs a stage, or nothing, and says how much memory it or a process of its own took at its peak,
# in kB. VmHWM begins at zero, ru_maxrss at the peak of the process that started this one.
SCRIPT = """
import resource, runpy, sys
sys.path.insert(0, sys.argv[1])
sys.argv[1:] = sys.argv[2:]
from deeplens_tf.startup import import_tensorflow
import_tensorflow()
import keras, pandas, scipy.stats, h5py, matplotlib.figure
code = 0
try:
    if sys.argv[1:]:
        sys.argv[0] = sys.argv.pop(1)
        runpy.run_module(f"deeplens_tf.{sys.argv[0]}", run_name="__main__", alter_sys=True)
except SystemExit as end:
    code = end.code
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
own, children = int(status["VmHWM"].split()[0]), resource.getrusage(resource.RUSAGE_CHILDREN)
print("PEAK", max(own, children.ru_maxrss))
sys.exit(code)
"""


def peak_of(*words):
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(REPOSITORY), *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "PEAK " in ended.stdout, ended.stderr
    return int(ended.stdout.rsplit("PEAK ", 1)[1]) * 1024, ended.returncode, ended.stderr


@pytest.fixture(scope="module")
def bare():
    peak, code, _ = peak_of()
    assert code == 0
    return peak


def largest_image(folder):
    """The most that a small archive can unpack to: 2^24 numbers of 8 bytes."""
    (folder / "images").mkdir()
    data = np.random.default_rng(0).integers(0, 2, 2**24, "<i8").tobytes()
    text = header("(4096, 4096)", "'<i8'")
    with zipfile.ZipFile(folder / "images/x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", npy(text, data))
    return ["prepare", "images", "--out", "out", "--strict"], 0, ""


def largest_fits(folder):
    """2^24 integers of 8 bytes that become floating point numbers, packed by gzip."""
    (folder / "images").mkdir()
    more = ["BSCALE  =                  0.5", "BLANK   =                   -1"]
    data = np.random.default_rng(0).integers(0, 2, 2**24).astype(">i8").tobytes()
    with gzip.open(folder / "images/x.fits.gz", "wb", 1) as stream:
        stream.write(primary(4096, 4096, bits=64, more=more) + data)
    return ["prepare", "images", "--out", "out", "--strict"], 0, ""


def largest_tiles(folder):
    """2^24 numbers of 8 bytes in the largest tiles, of almost 64 MB when they are packed."""
    (folder / "images").mkdir()
    image = np.random.default_rng(0).random((4096, 4096), "f4").astype("f8")
    options = {"quantize_level": 0, "tile_shape": (512, 4096)}
    (folder / "images/x.fits").write_bytes(fits_bytes(image, "GZIP_2", **options))
    return ["prepare", "images", "--out", "out", "--strict"], 0, ""


def largest_picture(folder):
    """A TIFF of 2^24 floating point numbers."""
    (folder / "images").mkdir()
    image = np.random.default_rng(0).random((4096, 4096), "f4")
    Image.fromarray(image).save(folder / "images/x.tif", compression="tiff_lzw")
    return ["prepare", "images", "--out", "out", "--strict"], 0, ""


def largest_stack(folder):
    """An HDF5 array of one image of 2^24 numbers of 8 bytes in the largest chunks."""
    import h5py

    (folder / "images").mkdir()
    image = np.random.default_rng(0).random((1, 4096, 4096), "f4").astype("f8")
    options = {"chunks": (1, 2048, 4096), "compression": "gzip", "compression_opts": 1}
    with h5py.File(folder / "images/x.h5", "w") as file:
        file.create_dataset("images", data=image, **options)
    return ["prepare", "images", "--out", "out", "--strict"], 0, ""


def widest_report(folder):
    """JSON of the size that is read, in the form that takes most memory."""
    empties = ",".join(["{}"] * 1_300_000)
    write_evaluated_run(json.dumps({"x": 0})[:-1] + f', "y": [{empties}]}}', facts())
    return ["compare", "run", "--out", "out"], 2, "evaluated by another version or damaged"


def longest_table(folder):
    """A table of masses of two million files that are not there."""
    (folder / "images").mkdir()
    np.save(folder / "images/x.npy", np.random.default_rng(0).random((16, 16)))
    rows = "".join(f"{i:x},1\n" for i in range(2_000_000))
    (folder / "images/masses.csv").write_text("file,mass_ev\n" + rows)
    return ["prepare", "images", "--out", "out", "--strict"], 3, "x.npy: no mass in masses.csv"


def longest_catalog(folder):
    """A catalogue of two million files that are not there, and of one that is."""
    (folder / "images").mkdir()
    np.save(folder / "images/x.npy", np.random.default_rng(0).random((16, 16)))
    rows = "".join(f"{i:x}.npy,1\n" for i in range(2_000_000))
    (folder / "c.csv").write_text("file,z\nx.npy,1\n" + rows)
    return ["prepare", "images", "--out", "out", "--catalog", "c.csv"], 0, ""


def thickest_model(folder):
    """A file of 40 MB that declares as many weights as its network has, in another shape."""
    import h5py

    from tests.hostile.models import WEIGHTS, keras_object, packed

    with h5py.File(folder / "w.h5", "w") as file:
        file["x"] = np.ones(10**7, "f4")
    options = {"image_shape": [16, 16, 1], "patch_size": 8, "width": 1800, "heads": 1}
    options |= {"depth": 1, "mlp_width": 1800, "name": "x", "trainable": True}
    encoder = keras_object("VisionTransformer", "x", "deeplens_tf>VisionTransformer", **options)
    encoder["build_config"] = {"input_shape": [None, 16, 16, 1]}
    members = {"config.json": json.dumps(encoder).encode(), "metadata.json": b"{}"}
    (folder / "run").mkdir()
    content = packed({**members, WEIGHTS: (folder / "w.h5").read_bytes()})
    (folder / "run/model.keras").write_bytes(content)
    (folder / "run/config.yaml").write_text("seed: 0\n")
    (folder / "images").mkdir()
    return (
        ["evaluate", "--run", "run", "--data", "images"],
        2,
        "not a model that can be loaded safely",
    )


LARGEST = [largest_image, largest_fits, largest_tiles, largest_picture, largest_stack]
OTHERS = [widest_report, longest_table, longest_catalog, thickest_model]


@pytest.mark.parametrize("make", [*LARGEST, *OTHERS])
def test_the_peak_stays_within_the_promise(make, bare, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, expected, line = make(tmp_path)
    peak, code, said = peak_of(*words)
    assert code == expected
    assert line in said
    assert peak - bare < MOST_BYTES
