"""data/README.md agrees with the code: layouts, limits, masses, the published sets."""

import re
import shlex

import numpy as np
import pytest

from deeplens_tf import simulate
from deeplens_tf.config import MAX_UNNAMED_BANDS
from deeplens_tf.data import image_axes, mass_tables, npy, rejects
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.preprocessing import pixel_checks
from tests.conftest import REPOSITORY
from tests.data.image_folders import SETTINGS

TEXT = (REPOSITORY / "data" / "README.md").read_text()
FLAT = " ".join(TEXT.split())


def table_rows(first_column):
    """Return the rows, as dicts, of the table whose first column has this title."""
    lines = TEXT.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    head, rows = cells(lines[start]), []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        rows.append(dict(zip(head, cells(line), strict=True)))
    return rows


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


COUNTS = "images per class (training, test)"
SETS = [row for row in table_rows("set") if "array" in row]


def array_of(row):
    kind, shape = re.fullmatch(r"(float\d*) \(([\d, ]+)\)", row["array"]).groups()
    return np.dtype(kind), tuple(int(side) for side in shape.split(","))


def write_set(row, root, count=2):
    """Write a few files of each class in the format that the table describes."""
    generator = np.random.default_rng(0)
    dtype, shape = array_of(row)
    for name in row["classes"].split(", "):
        (root / name).mkdir(parents=True)
        for i in range(count):
            content = generator.random(shape).astype(dtype)
            if name == "axion" and row["axion files"] == "pair":
                pair = np.empty(2, object)
                pair[:] = content, 10 ** generator.uniform(-24, -22)
                content = pair
            np.save(root / name / f"{name}_sim_{i}.npy", content, allow_pickle=True)
    return root


def test_the_table_names_every_set():
    assert [row["set"] for row in SETS] == [
        "Model I",
        "Model II",
        "Model III",
        "Model IV",
        "real lenses",
    ]


@pytest.mark.parametrize("row", SETS, ids=lambda row: row["set"])
def test_each_set_can_be_prepared(row, tmp_path):
    source = write_set(row, tmp_path / "set")
    manifest = prepare_folder(source, tmp_path / "out", **{**SETTINGS, "validation_fraction": 0})
    _, shape = array_of(row)
    assert manifest.rejected == 0
    assert manifest.classes == tuple(row["classes"].split(", "))
    assert manifest.image_shape[2] == (min(shape) if len(shape) == 3 else 1)
    assert manifest.splits["train"].masses == (2 if row["axion files"] == "pair" else 0)


@pytest.mark.parametrize("row", SETS, ids=lambda row: row["set"])
def test_sizes_are_the_number_of_files_times_their_bytes(row):
    if row["size unpacked"] == "not stated":
        return
    dtype, shape = array_of(row)
    counts = [int(n.replace(",", "")) for n in re.findall(r"\d+,000", row[COUNTS])]
    written = [float(n) for n in re.findall(r"\d+\.\d", row["size unpacked"])]
    classes = len(row["classes"].split(", "))
    for count, size_gb in zip(counts, written, strict=True):
        actual = count * classes * (dtype.itemsize * np.prod(shape) + 128)
        assert size_gb == pytest.approx(actual / 1e9, abs=0.05)


def test_limits_are_those_of_the_code():
    low, high = re.search(r"(\d+) to ([\d,]+) pixels per side", FLAT).groups()
    (values,) = re.search(r"at most ([\d,]+) values", FLAT).groups()
    assert int(low) == image_axes.MIN_IMAGE_SIDE
    assert int(high.replace(",", "")) == image_axes.MAX_IMAGE_SIDE
    assert int(values.replace(",", "")) == npy.MAX_VALUES == 4096**2
    assert f"no side more than {image_axes.MAX_SIDE_RATIO} times the other" in FLAT
    assert f"one smallest axis of at most {MAX_UNNAMED_BANDS} " in FLAT
    share, handful = re.search(r"a handful \((\d+) %, or (\d+) values\)", FLAT).groups()
    assert int(share) / 100 == pixel_checks.MAX_OUTLIER_FRACTION
    assert int(handful) == pixel_checks.MIN_OUTLIER_COUNT
    assert pixel_checks.MIN_RANGE_OF_THE_REST == 1 / 10_000  # "a ten thousandth"
    masses = re.search(r"a number from (\S+) to (\S+), not its logarithm", FLAT).groups()
    assert tuple(map(float, masses)) == (mass_tables.MIN_MASS_EV, mass_tables.MAX_MASS_EV)
    rejected = re.search(r"more than (\d+) files and more than (\d+) % of all", FLAT).groups()
    assert rejected == (
        str(rejects.MAX_REJECTED_FILES),
        f"{100 * rejects.MAX_REJECTED_FRACTION:.0f}",
    )
    assert f"`{rejects.REJECTED_FILE}`" in TEXT


def test_the_commands_for_simulating_are_valid():
    commands = [row["command"].strip("`") for row in table_rows("model")]
    presets = []
    for command in commands:
        python, flag, module, *argv = shlex.split(command)
        assert (python, flag, module) == ("python", "-m", "deeplens_tf.simulate")
        presets.append(simulate.build_parser().parse_args(argv).preset)
    assert presets == ["model_i", "model_ii", "model_iii"]
