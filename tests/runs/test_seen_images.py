"""`images.csv` of a run: what is written is read again, and a damaged file is refused."""

import os

import pandas as pd
import pytest

from deeplens_tf.errors import RequestError
from deeplens_tf.runs import seen_images
from deeplens_tf.runs.run_folder import Run
from deeplens_tf.runs.seen_images import (
    PRETRAINED,
    TRAINED,
    VALIDATION,
    contents_by_use,
    images_of,
    images_of_encoder,
    read_images,
    record_images,
)

CONTENTS = [letter * 64 for letter in "abcdef"]


def index(files, contents):
    names = pd.Series(files, dtype=object)  # as `read_index` returns them
    return pd.DataFrame({"index": range(len(files)), "file": names, "content": contents})


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_names_of_any_kind_and_unknown_contents_are_read_as_written(run):
    files = ["a/1.npy", 'with "quotes", and commas.npy', "two\nlines.npy", "latin\udce9.npy", "NA"]
    written = images_of(index(files, [*CONTENTS[:4], ""]), TRAINED)
    record_images(run, written)
    pd.testing.assert_frame_equal(read_images(run), written)


def test_the_contents_are_told_apart_by_their_use(run):
    parts = zip((TRAINED, VALIDATION, PRETRAINED), CONTENTS, strict=False)
    images = pd.concat([images_of(index(["x"], [content]), use) for use, content in parts])
    record_images(run, images)
    found = contents_by_use(read_images(run))
    assert found == {
        "trained": {CONTENTS[0]},
        "validation": {CONTENTS[1]},
        "pretrained": {CONTENTS[2]},
    }


def test_what_a_run_started_with_is_kept_and_written_again_if_missing(run):
    first, second = (images_of(index([name], [CONTENTS[0]]), TRAINED) for name in "ab")
    record_images(run, first)
    record_images(run, second)
    assert read_images(run)["file"].tolist() == ["a"]
    (run.folder / "images.csv").unlink()
    record_images(run, second)
    assert read_images(run)["file"].tolist() == ["b"]
    assert [path.name for path in run.folder.iterdir()] == ["images.csv"]


def test_a_fine_tuning_takes_over_the_images_of_its_encoder(run, tmp_path):
    rows = pd.concat([images_of(index([u], [CONTENTS[0]]), u) for u in (PRETRAINED, TRAINED)])
    record_images(run, rows)
    pd.testing.assert_frame_equal(
        images_of_encoder(run, "there").reset_index(drop=True), rows.reset_index(drop=True)
    )


@pytest.mark.parametrize("known", ["a run of an earlier version", "no run"])
def test_an_encoder_of_unknown_images_is_one_row_of_unknown_content(run, known):
    found = images_of_encoder(run if known != "no run" else None, "old/encoder.keras")
    assert found.to_numpy().tolist() == [["pretrained", "old/encoder.keras", ""]]


def test_a_run_of_an_earlier_version_has_no_images(run):
    assert read_images(run).empty
    assert contents_by_use(read_images(run))["trained"] == frozenset()


HEAD = "use,file,content\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("use,file\ntrained,a\n", "columns are not use, file, content"),
        (f"{HEAD}seen,a,{CONTENTS[0]}\n", "a use is not trained, validation, pretrained"),
        (f"{HEAD}trained,a,{'A' * 64}\n", "a content is not SHA-256"),
        (f"{HEAD}trained,a,abc\n", "a content is not SHA-256"),
        (f"{HEAD}trained,{'a' * 9000},\n", "a line of 9000 bytes or more"),
        (f"{HEAD}trained,a,b,c,d\n", "not the images of a run"),
        ("", "not the images of a run"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(run, text, reason):
    (run.folder / "images.csv").write_text(text)
    with pytest.raises(RequestError, match=rf"images\.csv: .*{reason}"):
        read_images(run)


def test_a_pipe_and_a_file_that_is_too_large_are_refused_unread(run, monkeypatch):
    os.mkfifo(run.folder / "images.csv")
    with pytest.raises(RequestError, match="not a regular file of at most"):
        read_images(run)
    (run.folder / "images.csv").unlink()
    monkeypatch.setattr(seen_images, "MAX_IMAGES_FILE_BYTES", 10)
    (run.folder / "images.csv").write_text(HEAD)
    with pytest.raises(RequestError, match="not a regular file of at most 10 bytes"):
        read_images(run)
