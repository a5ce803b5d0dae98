"""Files by name from the Hugging Face Hub: a server on this machine, and the library's cache."""

import hashlib
import sys

import pytest

from deeplens_tf.errors import RequestError, ResourceError
from deeplens_tf.files import hdf5_arrays
from deeplens_tf.files.hub_files import pinned
from deeplens_tf.files.products import encoder_file
from deeplens_tf.runs.provenance import encoder_origin
from tests.files.hub_server import ask_only

library = pytest.importorskip("huggingface_hub")
pytest.importorskip("huggingface_hub.file_download")

USUAL = ("encoder.keras", "model.keras")
RUN = {"encoder.keras": b"E", "config.yaml": b"", "images.csv": b"use", "README.md": b"#"}
ABSENT = "f" * 40


def read(name):
    return encoder_file(name).read_bytes()


def test_a_run_is_told_the_commit_and_the_digest(hub):
    commit = hub.commit("lab/lenses", RUN)
    origin = encoder_origin("hf://lab/lenses")
    assert origin["path"] == f"hf://lab/lenses@{commit}/encoder.keras"
    assert origin["sha256"] == hashlib.sha256(b"E").hexdigest()
    assert pinned("hf://lab/lenses", USUAL) == origin["path"]
    assert pinned(origin["path"], USUAL) == origin["path"]
    assert pinned("runs/x", USUAL) == "runs/x"


def test_the_records_of_its_run_are_beside_a_file(hub):
    files = {f"noisy/{name}": content for name, content in RUN.items()}
    hub.commit("lab/lenses", files)
    folder = encoder_file("hf://lab/lenses/noisy/encoder.keras").parent
    assert sorted(path.name for path in folder.iterdir()) == sorted(RUN.keys() - {"README.md"})
    assert (folder / "images.csv").read_bytes() == b"use"


def test_a_revision_stays_while_main_moves(hub):
    first = hub.commit("lab/lenses", {"encoder.keras": b"1"}, "v1", "try/x")
    kept = pinned("hf://lab/lenses", USUAL)
    hub.commit("lab/lenses", {"encoder.keras": b"2"})
    assert read("hf://lab/lenses") == read("hf://lab/lenses@main/encoder.keras") == b"2"
    for name in (kept, "hf://lab/lenses@v1", "hf://lab/lenses@try%2Fx", f"hf://lab/lenses@{first}"):
        assert read(name) == b"1"


def test_a_commit_in_the_cache_asks_for_nothing(hub):
    commit = hub.commit("lab/lenses", {"model.keras": b"1"})
    read("hf://lab/lenses")
    hub.requests.clear()
    assert read(f"hf://lab/lenses@{commit}") == b"1"
    assert hub.requests == []


def test_without_a_connection_the_cache_is_used(hub, monkeypatch, offline):
    hub.commit("lab/lenses", {"model.keras": b"1"})
    read("hf://lab/lenses")
    hub.commit("lab/lenses", {"model.keras": b"2"})
    offline()
    assert read("hf://lab/lenses") == b"1"
    with pytest.raises(
        ResourceError, match=r"HF_HUB_OFFLINE is set, and the file is not in .*cache"
    ):
        read("hf://lab/others")


def test_a_hub_out_of_reach_is_one_line(hub, monkeypatch):
    ask_only("http://127.0.0.1:1", monkeypatch)
    with pytest.raises(ResourceError, match="the Hugging Face Hub cannot be reached, and the file"):
        read("hf://lab/lenses")


def test_a_token_opens_a_private_repository_and_is_not_kept(hub, monkeypatch, tmp_path):
    hub.commit("lab/lenses", RUN)
    hub.private.add("lab/lenses")
    with pytest.raises(RequestError, match="or a private one, to which `hf auth login` gives"):
        read("hf://lab/lenses")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert read("hf://lab/lenses") == b"E"
    assert hub.requests[-1][2] == "Bearer hf_secret"
    assert "hf_secret" not in str(encoder_origin("hf://lab/lenses"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(b"hf_secret" in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("hf://lab/nothing", "no such model on the Hugging Face Hub, or a private one"),
        ("hf://lab/gated", "access to it must be asked for on its page"),
        ("hf://lab/lenses@v9", "the repository has no such revision"),
        (f"hf://lab/lenses@{ABSENT}", "the repository has no such revision"),
        ("hf://lab/lenses/no.keras", r"no no\.keras in the repository; name a file: hf://lab/lens"),
        ("hf://lab/empty", r"no encoder\.keras or model\.keras in the repository"),
        ("hf://lab", r"write it as hf://OWNER/NAME\[@REVISION\]\[/FILE\.keras\]"),
        ("hf://", "write it as hf://"),
        ("hf://lab/lenses/README.md", "write it as hf://"),
        ("hf://lab/lenses/../../x.keras", "write it as hf://"),
        ("hf://lab/lenses@a/b@c/x.txt", "write it as hf://"),
        ("hf://a--b/lenses", "not a valid name"),
    ],
)
def test_a_wrong_name_is_one_line(hub, name, line):
    hub.commit("lab/lenses", RUN)
    hub.commit("lab/empty", {"README.md": b"#"})
    hub.gated.add("lab/gated")
    with pytest.raises(RequestError, match=line) as refused:
        read(name)
    assert str(refused.value).startswith(name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("file", ["encoder.keras", "images.csv"])
def test_a_file_that_was_changed_in_the_cache_is_refused(hub, file):
    commit = hub.commit("lab/lenses", RUN)
    path = encoder_file("hf://lab/lenses").with_name(file)
    path.resolve().write_bytes(b"other")
    line = rf"hf://lab/lenses@{commit}/{file}: the cached file was changed: .*; remove .*blobs"
    with pytest.raises(RequestError, match=line):
        read("hf://lab/lenses")


def test_a_file_that_is_too_large_is_not_fetched(hub, monkeypatch):
    monkeypatch.setattr(hdf5_arrays, "MAX_WEIGHT_FILE_BYTES", 3)
    hub.commit("lab/lenses", {"encoder.keras": b"1234"})
    with pytest.raises(
        RequestError, match=r"hf://lab/lenses: encoder\.keras is larger than 3 bytes"
    ):
        read("hf://lab/lenses")
    assert {method for method, *_ in hub.requests} == {"HEAD"}


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    line = r"hf://lab/lenses: needs huggingface_hub: pip install 'deeplens_tf\[hf\]'"
    with pytest.raises(RequestError, match=line):
        read("hf://lab/lenses")
