"""Masses and files of other kinds, from a folder as users lay it out to a prepared one."""

import numpy as np
import pandas as pd

from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.preparing import ensure_prepared, prepare_folder
from tests.data.image_folders import SETTINGS, make_folder, random_image


def masses_of(out):
    tables = [pd.read_csv(path) for path in out.glob("*-index.csv")]
    rows = pd.concat(tables)
    return dict(zip(rows["file"], rows["mass_ev"], strict=True))


def write_root_table(root, masses):
    rows = "".join(f"{name},{mass}\n" for name, mass in masses.items())
    (root / "masses.csv").write_text("file,mass_ev\n" + rows)


def test_masses_are_read_from_the_table_of_the_data_folder(tmp_path):
    root = make_folder(tmp_path / "d", {"axion": 4, "cdm": 4})
    wanted = {f"axion/axion_{i:04d}.npy": (i + 1) * 1e-23 for i in range(4)}
    write_root_table(root, wanted)
    prepare_folder(root, tmp_path / "out", **SETTINGS)
    found = masses_of(tmp_path / "out")
    assert {name: mass for name, mass in found.items() if mass == mass} == wanted


def test_an_image_that_the_table_lacks_is_rejected_if_it_lists_others_of_the_class(tmp_path):
    root = make_folder(tmp_path / "d", {"axion": 4, "cdm": 4})
    write_root_table(root, {"axion/axion_0000.npy": 1e-23})
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    rejected = pd.read_csv(tmp_path / "out" / "rejected.csv")
    assert manifest.rejected == len(rejected) == 3
    assert set(rejected["reason"]) == {"no mass in masses.csv"}


def test_a_changed_table_of_the_data_folder_prepares_the_images_again(tmp_path):
    root = make_folder(tmp_path / "d", {"axion": 4})
    names = [f"axion/axion_{i:04d}.npy" for i in range(4)]
    for mass_ev in (1e-23, 2e-23):
        write_root_table(root, dict.fromkeys(names, mass_ev))
        out = ensure_prepared(root, tmp_path / "cache", **SETTINGS)
        assert set(masses_of(out).values()) == {mass_ev}


def test_masses_that_may_be_logarithms_are_named_once(tmp_path, capsys):
    root = make_folder(tmp_path / "d", {"axion": 4, "cdm": 2})
    values = [12.5, 0.5, 13.25, 11.75]
    write_root_table(root, {f"axion/axion_{i:04d}.npy": m for i, m in enumerate(values)})
    ensure_prepared(root, tmp_path / "cache", **SETTINGS)
    line = f"{root}/axion: masses from 11.75 to 13.25 eV: if these are logarithms, store 10**value"
    assert capsys.readouterr().err.splitlines().count(line) == 1


def test_masses_out_of_range_in_files_are_rejected(tmp_path):
    root = make_folder(tmp_path / "d", {"axion": 8})
    for i, mass in enumerate((-22.5, 1e4, 1e-41)):
        np.savez(root / "axion" / f"{i}.npz", image=random_image(50 + i), mass_ev=mass)
    for i, path in enumerate(sorted((root / "axion").glob("*.npy"))):
        np.savez(path.with_suffix(".npz"), image=random_image(90 + i), mass_ev=1e-23)
        path.unlink()
    prepare_folder(root, tmp_path / "out", **SETTINGS)
    reasons = pd.read_csv(tmp_path / "out" / "rejected.csv").set_index("file")["reason"]
    assert reasons["axion/0.npz"].startswith("mass -22.5 is negative: if it is a logarithm")
    assert reasons["axion/1.npz"] == "mass 10000 eV is not from 1e-40 to 1000 eV"
    assert reasons["axion/2.npz"] == "mass 1e-41 eV is not from 1e-40 to 1000 eV"


def test_a_fill_value_is_rejected_with_its_reason(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 9, "b": 9})
    image = random_image(70)
    image[3, 3] = -1e6
    np.save(root / "a" / "filled.npy", image)
    prepare_folder(root, tmp_path / "out", **SETTINGS)
    (row,) = pd.read_csv(tmp_path / "out" / "rejected.csv").itertuples()
    assert row.file == "a/filled.npy"
    assert row.reason.startswith("1 of 256 values is far from the others, which span 1e-06 of the")


def test_files_of_other_kinds_are_counted_in_the_manifest_and_the_output(tmp_path, capsys):
    root = make_folder(tmp_path / "d", {"a": 2, "b": 2})
    for name in ("a/1.xyz", "b/2.xyz", "list.csv"):
        (root / name).write_text("other")
    out = ensure_prepared(root, tmp_path / "cache", **SETTINGS)
    assert Manifest.load(out).passed_over == {".csv": 1, ".xyz": 2}
    assert "1 .csv file, 2 .xyz files passed over: only .npy" in capsys.readouterr().err
