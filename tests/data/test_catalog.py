"""A table of images: what its rows say, and what is refused of them. The oracle is pandas."""

import numpy as np
import pandas as pd
import pytest

from deeplens_tf.data.catalog import CatalogRequest
from deeplens_tf.data.manifest import Manifest
from deeplens_tf.data.prepared_data import open_folder
from deeplens_tf.data.preparing import ensure_prepared, prepare_folder
from deeplens_tf.data.source_folders import scan_folders
from deeplens_tf.data.summary import notes, summarise
from deeplens_tf.errors import DataError, RequestError
from tests.data.image_folders import SETTINGS, make_folder, random_image


def make_images(root, count, folder=""):
    (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"{folder}{i:03d}.npy" for i in range(count)]
    for i, name in enumerate(names):
        np.save(root / name, random_image(1000 * len(folder) + i))
    return names


@pytest.fixture
def survey(tmp_path):
    """Sixty images in one folder, and a table of them with two classes and two numbers."""
    names = make_images(tmp_path / "d", 60)
    table = pd.DataFrame(
        {
            "file": names,
            "label": ["lens", "other"] * 30,
            "id": [f"{i:04d}" for i in range(60)],
            "ra": [f"{150 + i / 7:.10f}" for i in range(60)],
            "dec": [f"{i / 3 - 10:+.6f}" for i in range(60)],
            "theta_e": [f"{1 + i / 100:.3f}" if i % 3 else "" for i in range(60)],
            "z": [0.1 * i for i in range(60)],
            "comment": ["bright"] * 60,
        }
    )
    return tmp_path / "d", table


def write(table, path):
    table.to_csv(path, index=False)
    return path


def prepare(root, table, out, columns=None, **changes):
    path = write(table, out.with_suffix(".csv"))
    return prepare_folder(root, out, **SETTINGS | changes, catalog=path, catalog_columns=columns)


def rows(data):
    """Return the rows of all splits, with what the catalogue says, by the images' names."""
    tables = []
    for split in ("train", "validation", "test"):
        if data.count(split):
            texts = data.catalog(split, list(data.catalog_units))
            tables.append(data.index(split).join(texts).assign(split=split))
    return pd.concat(tables).set_index("file").sort_index()


def test_labels_and_columns_come_out_as_the_table_has_them(survey, tmp_path):
    root, table = survey
    prepare(root, table, tmp_path / "out")
    data = open_folder(tmp_path / "out")
    assert data.classes == ("lens", "other")
    assert list(data.catalog_units) == ["id", "ra", "dec", "theta_e", "z"]
    found = rows(data)
    wanted = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    wanted = wanted.set_index("file").loc[found.index]
    for column in data.catalog_units:
        assert found[column].tolist() == wanted[column].tolist()
    assert [data.classes[label] for label in found["label"]] == wanted["label"].tolist()
    assert len(found) == 60
    assert "out.csv: not kept, because they are not of numbers: comment" in notes(data.manifest)


def test_columns_of_other_names_are_mapped_and_others_not_read(survey, tmp_path):
    root, table = survey
    renamed = table.rename(columns={"file": "path", "label": "class", "id": "name"})
    columns = {"file": "path", "label": "class", "id": "name", "dec": None}
    prepare(root, renamed, tmp_path / "out", columns)
    data = open_folder(tmp_path / "out")
    assert (data.classes, "dec" in data.catalog_units) == (("lens", "other"), False)
    assert sorted(rows(data)["id"]) == table["id"].tolist()


def test_without_labels_the_images_are_unlabelled(survey, tmp_path):
    root, table = survey
    manifest = prepare(root, table.drop(columns="label"), tmp_path / "out")
    assert manifest.classes == ()
    prepare(root, table, tmp_path / "again", {"label": None})
    assert Manifest.load(tmp_path / "again").classes == ()


def test_labels_beside_loose_images_are_read(survey, tmp_path):
    root, table = survey
    write(table[["file", "label"]], root / "labels.csv")
    out = ensure_prepared(root, tmp_path / "cache", **SETTINGS)
    manifest = Manifest.load(out)
    assert manifest.classes == ("lens", "other")
    assert manifest.splits["train"].per_class == {"lens": 27, "other": 27}
    assert (manifest.passed_over, manifest.catalog.units) == ({}, {})


def test_labels_beside_class_folders_are_not_read(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 4, "b": 4})
    write(pd.DataFrame({"file": ["a/a_0000.npy"], "label": ["x"]}), root / "labels.csv")
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert (manifest.classes, manifest.catalog) == (("a", "b"), None)
    assert any("labels.csv is not read" in note for note in notes(manifest))


def test_the_test_folder_may_have_a_table_of_its_own(survey, tmp_path):
    root, table = survey
    write(table, root / "labels.csv")
    names = make_images(tmp_path / "d_test", 8, "x/")
    beside = [f"t{i}.npy" for i in range(8)]
    for name, other in zip(names, beside, strict=True):
        (tmp_path / "d_test" / name).rename(tmp_path / "d_test" / other)
    (tmp_path / "d_test" / "x").rmdir()
    of_test = pd.DataFrame({"file": beside, "label": ["other"] * 8, "id": beside})
    write(of_test, tmp_path / "d_test" / "labels.csv")
    prepare_folder(root, tmp_path / "out", **SETTINGS)
    data = open_folder(tmp_path / "out")
    assert data.manifest.splits["test"].per_class == {"lens": 0, "other": 8}
    texts = data.catalog("test", ["id", "z"])
    assert sorted(texts["id"]) == beside
    assert set(texts["z"]) == {""}


def test_the_test_folder_has_the_table_of_the_name_of_that_in_the_data_folder(survey, tmp_path):
    root, table = survey
    test, tests = tmp_path / "d_test", table[:8]
    for i, name in enumerate(tests["file"]):
        (test / name[0]).mkdir(parents=True, exist_ok=True)  # a folder that is no class
        np.save(test / name[0] / name, random_image(5000 + i))
    write(table, root / "t.csv")
    write(tests.assign(file=[f"{name[0]}/{name}" for name in tests["file"]]), test / "t.csv")
    prepare_folder(root, tmp_path / "out", **SETTINGS, catalog=root / "t.csv")
    data = open_folder(tmp_path / "out")
    assert data.manifest.splits["test"].per_class == {"lens": 4, "other": 4}
    assert sorted(data.catalog("test", ["id"])["id"]) == tests["id"].tolist()
    write(table, tmp_path / "t.csv")  # of the data folder alone
    prepare_folder(root, tmp_path / "again", **SETTINGS, catalog=tmp_path / "t.csv")
    assert open_folder(tmp_path / "again").count("test") == 0


def test_images_deep_in_the_folder_and_class_folders_are_found_by_their_rows(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 4, "b": 4})
    deep = make_images(root, 4, "a/deep/er/")
    names = [f"{name}/{name}_{i:04d}.npy" for name in "ab" for i in range(4)]
    labels = ["x", "y"] * 6
    table = pd.DataFrame({"file": [*names[:-1], f"./{names[-1]}", *deep], "label": labels})
    manifest = prepare(root, table, tmp_path / "out")
    assert manifest.classes == ("x", "y")
    assert set(rows(open_folder(tmp_path / "out")).index) == {*names, *deep}


# Splits, groups and objects


def test_the_splits_of_the_table_are_those_of_the_images(survey, tmp_path):
    root, table = survey
    table["split"] = ["train"] * 40 + ["validation"] * 12 + ["test"] * 6 + [""] * 2
    prepare(root, table, tmp_path / "out")
    found = rows(open_folder(tmp_path / "out"))["split"]
    wanted = table.set_index("file")["split"].replace("", "train")
    assert found.to_dict() == wanted.to_dict()


def test_validation_images_are_of_the_training_images_if_the_table_names_none(survey, tmp_path):
    root, table = survey
    table["split"] = ["train"] * 50 + ["test"] * 10
    manifest = prepare(root, table, tmp_path / "out")
    counts = {name: split.count for name, split in manifest.splits.items()}
    assert counts == {"train": 46, "validation": 4, "test": 10}
    found = rows(open_folder(tmp_path / "out"))
    assert set(found.index[found["split"] == "test"]) == set(table["file"][50:])


def test_groups_stay_on_one_side_as_with_a_table_of_groups(survey, tmp_path):
    root, table = survey
    groups = [f"g{i // 4}" for i in range(60)]
    prepare(root, table.assign(group=groups), tmp_path / "out")
    own = rows(open_folder(tmp_path / "out"))
    pd.DataFrame({"file": table["file"], "group": groups}).to_csv(root / "groups.csv", index=False)
    prepare(root, table, tmp_path / "other")
    other = rows(open_folder(tmp_path / "other"))
    assert own["split"].to_dict() == other["split"].to_dict()
    of_group = own["split"].groupby([groups[int(name[:3])] for name in own.index]).nunique()
    assert set(of_group) == {1}
    assert set(own["split"]) == {"train", "validation"}


def test_objects_are_those_of_the_table(survey, tmp_path):
    root, table = survey
    table["object"] = [f"o{i % 2}-{i // 4}" for i in range(60)]
    manifest = prepare(root, table, tmp_path / "out")
    data = open_folder(tmp_path / "out")
    found = rows(data)
    assert found["object"].to_dict() == table.set_index("file")["object"].to_dict()
    assert found.groupby("object")["split"].nunique().eq(1).all()
    assert len(data.objects("train")) == found[found["split"] == "train"]["object"].nunique()
    text = "out.csv: 30 objects of 60 images, each in one split"
    assert text in summarise(manifest, tmp_path / "out")


def test_test_images_of_a_group_in_training_are_left_out(survey, tmp_path):
    root, table = survey
    table["group"] = [f"g{i // 2}" for i in range(60)]
    table["split"] = ["train"] * 51 + ["test"] * 9
    manifest = prepare(root, table, tmp_path / "out")
    assert manifest.left_out == {"group": 1}
    assert manifest.splits["test"].count == 8


def test_a_group_in_training_and_validation_is_refused(survey, tmp_path):
    root, table = survey
    table["group"] = [f"g{i // 2}" for i in range(60)]
    table["split"] = ["train"] * 51 + ["validation"] * 9
    with pytest.raises(DataError, match=r"out\.csv: .*g25 is in training and in validation"):
        prepare(root, table, tmp_path / "out")


@pytest.mark.parametrize(("role", "name"), [("group", "groups.csv"), ("object", "objects.csv")])
def test_two_tables_of_groups_or_objects_are_refused(survey, tmp_path, role, name):
    root, table = survey
    table[role] = [f"g{i // 2}-{i % 2}" for i in range(60)]
    (root / name).write_text(f"file,{role}\n000.npy,x\n")
    with pytest.raises(DataError, match=f"has a column {role}, and .*{name} says it too"):
        prepare(root, table, tmp_path / "out")
    prepare(root, table, tmp_path / "out", {role: None})


def test_the_masses_of_files_are_read_whatever_the_folder_holds(tmp_path):
    root = tmp_path / "d"
    names = make_images(root, 20)
    for i in range(0, 20, 2):
        image = np.load(root / names[i])
        (root / names[i]).unlink()
        names[i] = names[i].replace(".npy", ".npz")
        np.savez(root / names[i], image=image, mass_ev=(i + 1) * 1e-24)
    table = pd.DataFrame({"file": names, "label": ["axion", "cdm"] * 10})
    prepare(root, table, tmp_path / "out")
    found = rows(open_folder(tmp_path / "out"))["mass_ev"]
    assert found.dropna().to_dict() == {names[i]: (i + 1) * 1e-24 for i in range(0, 20, 2)}


# What is missing, and what changes


def test_files_without_a_row_and_rows_without_a_file_are_counted_and_named(survey, tmp_path):
    root, table = survey
    lost = table.assign(file=[f"lost/{name}" for name in table["file"]])
    short = pd.concat([table[:-4], lost[:5]]).assign(group="")
    short.iloc[3, short.columns.get_loc("label")] = ""
    manifest = prepare(root, short, tmp_path / "out")
    assert manifest.left_out == {"no row": 4, "no label": 1}
    rejected = pd.read_csv(tmp_path / "out" / "rejected.csv").set_index("file")["reason"]
    assert rejected.to_dict() == {
        **dict.fromkeys(table["file"][-4:], "no row in out.csv"),
        "003.npy": "no label in out.csv",
    }
    line = "out.csv: 5 rows without the file that is named: lost/000.npy, lost/001.npy, lost/002.np"
    assert any(note.startswith(line) for note in notes(manifest))
    assert "4 without a row in the catalogue, 1 without a label in the catalogue" in summarise(
        manifest, tmp_path / "out"
    )


def test_objects_beside_a_catalogue_have_the_classes_of_the_catalogue(tmp_path):
    names = [*make_images(tmp_path / "d", 12, "n1/"), *make_images(tmp_path / "d", 12, "n22/")]
    table = pd.DataFrame({"file": names, "label": ["lens", "other"] * 12})
    objects = table.assign(object=[name.rpartition("/")[2] for name in names])
    write(objects[["file", "object"]], tmp_path / "d" / "objects.csv")
    manifest = prepare(tmp_path / "d", table, tmp_path / "out")
    assert manifest.objects == {"objects": 12, "images": 24}
    objects["object"] = [f"pair {i // 2}" for i in range(24)]  # in one folder, of two classes
    write(objects[["file", "object"]], tmp_path / "d" / "objects.csv")
    with pytest.raises(DataError, match="object 'pair 0' has images in the classes lens and other"):
        prepare(tmp_path / "d", table, tmp_path / "again")


def test_a_changed_row_prepares_the_images_again(survey, tmp_path):
    root, table = survey
    path = tmp_path / "catalog.csv"
    outs = []
    for theta in ("1.5", "1.50"):
        table.loc[1, "theta_e"] = theta
        write(table, path)
        out = ensure_prepared(root, tmp_path / "cache", **SETTINGS, catalog=path)
        assert rows(open_folder(out))["theta_e"]["001.npy"] == theta
        outs.append(Manifest.load(out).fingerprint)
    assert outs[0] != outs[1]
    assert len([*(tmp_path / "cache").iterdir()]) == 1


def test_an_unchanged_table_keeps_the_prepared_folder(survey, tmp_path, capsys):
    root, table = survey
    path = write(table, tmp_path / "catalog.csv")
    for _ in range(2):
        ensure_prepared(root, tmp_path / "cache", **SETTINGS, catalog=path)
    assert "up to date, kept" in capsys.readouterr().out


def test_other_columns_of_one_table_are_another_folder(survey, tmp_path):
    root, table = survey
    path = write(table, tmp_path / "catalog.csv")
    outs = {
        ensure_prepared(root, tmp_path / "c", **SETTINGS, catalog=path, catalog_columns=columns)
        for columns in ({}, {"label": None}, {"label": "comment"})
    }
    assert len(outs) == 3


def test_a_folder_without_a_table_is_prepared_as_before(tmp_path):
    root = make_folder(tmp_path / "d", {"a": 4, "b": 4})
    manifest = prepare_folder(root, tmp_path / "out", **SETTINGS)
    assert manifest.format_version == 3
    assert '"catalog"' not in (tmp_path / "out" / "manifest.json").read_text()
    assert not [*(tmp_path / "out").glob("*-catalog.csv")]


def test_a_changed_table_of_kept_columns_is_found(survey, tmp_path):
    root, table = survey
    prepare(root, table, tmp_path / "out")
    path = tmp_path / "out" / "train-catalog.csv"
    path.write_text(path.read_text().replace("1.", "2.", 1))
    with pytest.raises(DataError, match=r"train-catalog\.csv: changed since it was written"):
        open_folder(tmp_path / "out")
    path.unlink()
    with pytest.raises(DataError, match=r"train-catalog\.csv: missing"):
        open_folder(tmp_path / "out")


# What is refused

TWO = "file,label\n000.npy,a\n001.npy,b\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TWO + "000.npy,a\n", "row 3: '000.npy' is listed twice"),
        (TWO + "./000.npy,b\n", "row 3: '000.npy' has the labels 'a' and 'b'"),
        ("file,split\n000.npy,dev\n", "row 1: split 'dev' is none of train, validation, test"),
        ("file,label\n../x.npy,a\n", r"row 1: file '\.\./x\.npy' leads out of the data folder"),
        ("file,label\na/../../x.npy,a\n", "leads out of the data folder"),
        ("file,label\n/etc/passwd,a\n", "row 1: file '/etc/passwd' leads out of the data folder"),
        ("file,label\n0\0.npy,a\n", "leads out of the data folder"),
        ("path,label\n000.npy,a\n", "no column file; its columns are path, label: name the one"),
        ("file,label\nx.npy,a\n", "no row names a file of .*, such as 000.npy"),
        ("file,label\n000.npy\n", "row 1 has 1 values, and the first line names 2 columns"),
        ("file,label\n000.npy,a,b\n", "row 1 has 3 values, and the first line names 2 columns"),
        ("file,label,label\n000.npy,a,b\n", "two columns are called label"),
        ("file,label\n000.npy,\n", "column label has no label; data.catalog_columns={label: null}"),
        ("file,split\n000.npy,test\n", "every image with a row is of the test split"),
        (f"file,label\n000.npy,{'x' * 201}\n", "label 'xxx.*: at most 200 characters"),
        ("file,id\n000.npy,\x1b[2J\n", r"id '\\x1b\[2J': at most 200 characters, all of them"),
        ("file,label,object\n000.npy,a,o\n001.npy,b,o\n", "object 'o' has images in the classes"),
        ("", "no column file"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_ends_in_one_line(tmp_path, text, line):
    make_images(tmp_path / "d", 4)
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"t\.csv.*{line}"):
        scan_folders(tmp_path / "d", CatalogRequest(path))


@pytest.mark.parametrize(
    ("request_of", "line"),
    [
        (lambda d: CatalogRequest(d / "no.csv"), r"no\.csv: no such catalogue"),
        (lambda d: CatalogRequest(d / "t.xlsx"), r"a catalogue is a table, \.csv, \.ecsv"),
        (lambda d: CatalogRequest(d / "t.csv", {"label": "kind"}), "label: .* no column 'kind'"),
        (lambda d: CatalogRequest(d / "t.csv", {"mass": "m"}), "mass is none of file, row, id"),
        (lambda d: CatalogRequest(None, {"file": "x"}), "has no labels.csv; set data.catalog"),
    ],
)
def test_a_wrong_request_is_named(tmp_path, request_of, line):
    make_images(tmp_path / "d", 4)
    (tmp_path / "t.csv").write_text(TWO)
    (tmp_path / "t.xlsx").write_text("x")
    with pytest.raises(RequestError, match=line):
        scan_folders(tmp_path / "d", request_of(tmp_path))


def test_test_images_in_a_table_and_in_a_folder_are_refused(survey, tmp_path):
    root, table = survey
    make_images(tmp_path / "d_test", 4)
    table["split"] = ["test"] * 10 + ["train"] * 50
    with pytest.raises(RequestError, match=r"names test images, and .*d_test is a folder of test"):
        prepare(root, table, tmp_path / "out")


def test_a_prepared_folder_takes_no_catalogue(survey, tmp_path):
    root, table = survey
    prepare(root, table, tmp_path / "out")
    with pytest.raises(RequestError, match="prepared already, with the catalogue of its prep"):
        open_folder(tmp_path / "out", catalog=tmp_path / "out.csv")
