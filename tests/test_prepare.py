import subprocess
import sys

import numpy as np
import pytest

from deeplens_tf.data.manifest import Manifest
from deeplens_tf.errors import DataError, RequestError
from deeplens_tf.prepare import main
from tests.data.image_folders import make_folder


@pytest.fixture
def source(tmp_path):
    return make_folder(tmp_path / "lenses", {"axion": 10, "cdm": 10}, shape=(20, 20))


def run_stage(*argv):
    command = [sys.executable, "-m", "deeplens_tf.prepare", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_it_prints_a_summary(source, tmp_path, capsys):
    main([str(source), "--out", str(tmp_path / "out"), "--image-size", "16"])
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'out'}: images of 16 x 16 pixels, 1 band",
        "  train: 18 (axion 9, cdm 9)",
        "  validation: 2 (axion 1, cdm 1)",
    ]


def test_options_and_keys_reach_the_manifest(source, tmp_path):
    options = ["--fit", "crop", "--validation-fraction", "0.2", "--set", "data.image_size=8"]
    main([str(source), "--out", str(tmp_path / "out"), *options, "--seed", "5"])
    expected = {"image_size": 8, "fit": "crop", "validation_fraction": 0.2, "seed": 5, "margin": 2}
    settings = Manifest.load(tmp_path / "out").settings
    assert {key: value for key, value in settings.items() if value} == expected


def test_the_source_may_come_from_the_configuration(source, tmp_path):
    main(["--set", f"data.path={source}", "--out", str(tmp_path / "out")])
    assert Manifest.load(tmp_path / "out").splits["train"].count == 18


def test_strict_is_an_option(source, tmp_path):
    (source / "cdm" / "bad.npy").write_text("text")
    with pytest.raises(DataError, match="--strict forbids"):
        main([str(source), "--out", str(tmp_path / "out"), "--strict"])
    main([str(source), "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    "argv",
    [
        ["{source}"],
        ["{source}", "--out", "out", "--fit", "pad"],
        ["{source}", "--out", "out", "--image-size", "large"],
        ["{source}", "--out", "out", "--validation-fraction", "1.5"],
        ["{source}/none", "--out", "out"],
        ["{source}", "--out", "{source}/out"],
        ["{source}", "--out", "out", "--unknown"],
        ["{source}", "--out", "out", "--preview", "x.jpg"],
        ["{source}", "--out", "out", "--preview", "no/x.png"],
    ],
)
def test_wrong_requests(source, tmp_path, monkeypatch, argv):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError):
        main([argument.format(source=source) for argument in argv])
    assert [path.name for path in tmp_path.iterdir()] == ["lenses"]


def test_exit_codes_and_single_lines(source, tmp_path):
    missing = run_stage(tmp_path / "none", "--out", tmp_path / "out")
    assert (missing.returncode, missing.stdout) == (2, "")
    expected = f"deeplens_tf: {tmp_path / 'none'}: no such folder; give a folder of images"
    assert missing.stderr.startswith(expected)
    assert missing.stderr.count("\n") == 1
    for path in (source / "cdm").iterdir():
        np.save(path, np.zeros((20, 20)))
    unusable = run_stage(source, "--out", tmp_path / "out")
    assert unusable.returncode == 3
    expected = "10 of 20 files left out (10 without signal), the first: cdm/cdm_0000.npy"
    assert expected in unusable.stderr.splitlines()[-1]


def test_help_does_not_import_tensorflow():
    code = (
        "import sys; from deeplens_tf.prepare import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--out DIR" in done.stdout
