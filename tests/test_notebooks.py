"""The committed tutorials: complete, up to date, on the public API, without paths of a machine.

The tutorials are not executed here; `make notebooks` and the continuous integration do that.
"""

import ast
import importlib.util
import inspect
import operator
import re
import sys
from pathlib import Path

import pytest

import deeplens_tf as dl
from tests.conftest import REPOSITORY

nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebooks`")
pytest.importorskip("jupytext", reason="needs the extra `notebooks`")

NOTEBOOKS = REPOSITORY / "notebooks"
TITLES = ("data", "contrastive", "byol", "encoder", "regression", "your", "pairs", "exploring")
MAX_PUBLIC_NAMES = 15  # that one tutorial uses; a newcomer has to learn them


def load_runner():
    spec = importlib.util.spec_from_file_location("run", NOTEBOOKS / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load_runner()
SCRIPTS = runner.tutorials()


@pytest.fixture(params=SCRIPTS, ids=lambda script: script.stem)
def script(request):
    return request.param


@pytest.fixture
def notebook(script):
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


def test_there_are_eight_in_order():
    assert [script.stem[:2] for script in SCRIPTS] == [f"0{k}" for k in range(1, 9)]
    for script, word in zip(SCRIPTS, TITLES, strict=True):
        assert word in script.stem


def test_each_pair_agrees_and_its_outputs_are_sound(script):
    assert runner.problems(script) == []


def test_each_notebook_is_valid_small_and_has_pictures(script, notebook):
    nbformat.validate(notebook)
    assert script.with_suffix(".ipynb").stat().st_size < 1_500_000
    kinds = [
        kind
        for cell in notebook.cells
        for out in cell.get("outputs", [])
        for kind in out.get("data", {})
    ]
    assert kinds.count("image/png") >= 2


def test_each_opens_with_what_it_teaches_and_costs(notebook):
    opening = notebook.cells[0].source
    assert opening.startswith("# ")
    assert "**What you learn.**" in opening
    assert "**What it costs.**" in opening


def test_the_full_size_settings_are_those_of_the_small_run_and_only_need_a_hash_removed(notebook):
    (source,) = [c.source for c in notebook.cells[:4] if c.source.startswith("SETTINGS = {")]
    small, full = source.split("# Full size", 1)
    uncommented = "\n".join(line.removeprefix("# ") for line in full.splitlines()[1:])
    found = [{}, {}]
    for text, names in zip((small, uncommented), found, strict=True):
        exec(text, names)
    small, full = (names["SETTINGS"] for names in found)
    assert list(full) == list(small)
    assert all(full[key] >= small[key] for key in small)


def names_below_dl(tree):
    """Dotted names without the "dl.", such as `simulation` and `simulation.simulate`."""
    attributes = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {name.removeprefix("dl.") for name in attributes if re.fullmatch(r"dl(\.\w+)+", name)}


def test_each_uses_only_public_names_and_few_of_them(script):
    tree = ast.parse(script.read_text())
    imports = [ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [line for line in imports if "deeplens_tf" in line] == ["import deeplens_tf as dl"]
    found = {name: operator.attrgetter(name)(dl) for name in names_below_dl(tree)}
    rooms = {name for name, value in found.items() if inspect.ismodule(value)}
    assert not [room for room in rooms if "." in room]
    names = {name for name in found if name.rpartition(".")[0] in rooms | {""}} - rooms
    assert len(names) <= MAX_PUBLIC_NAMES, sorted(names)


def test_cells_are_short(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 32, cell.source


def test_links_between_tutorials_lead_somewhere(notebook):
    for cell in notebook.cells:
        for target in runner.links(cell.source):
            assert (NOTEBOOKS / target).exists(), target


def test_the_pictures_for_the_readme_are_those_of_the_notebooks():
    found = {}
    for script in SCRIPTS:
        notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
        found |= runner.pictures(notebook)
    assert set(found) == {"substructure", "mass"}
    for name, content in found.items():
        assert (REPOSITORY / "docs" / f"{name}.png").read_bytes() == content


def test_the_pages_show_every_picture_and_the_readme_links_every_tutorial():
    text = (REPOSITORY / "README.md").read_text()
    pages = "".join(page.read_text() for page in (REPOSITORY / "docs").glob("*.md"))
    for picture in (REPOSITORY / "docs").glob("*.png"):
        assert f"](docs/{picture.name})" in text or f"]({picture.name})" in pages
    for script in SCRIPTS:
        assert f"](notebooks/{script.stem}.ipynb)" in text


@pytest.mark.parametrize(
    "text",
    [
        "saved in /home/ada/runs/x",
        "File '/tmp/tmpab12/data/lenses'",
        "/root/.keras/keras.json",
        "/Users/ada/project",
        "C:\\Users\\ada",
        "see (/work/main/x.py)",
        "file:///home/ada/x",
        "wrote:/tmp/abc/x",
        "/scratch/ada/runs",
        "/data1/lenses/model_ii",
        "/workspace/runs/x",
        "/srv/x",
        "/nix/store/a",
        "PosixPath('/builds/a/b')",
        "C:/Users/ada/x",
        "D:\\work\\x",
        "WindowsPath('E:\\\\work\\\\x')",
    ],
)
def test_a_path_of_the_machine_is_found(text):
    assert runner.machine_paths(text)


@pytest.mark.parametrize(
    "text",
    [
        "runs/cache/lenses-0123: up to date",
        "residual / % of maximum",
        "data/lenses_32 and prepared/my_images/rejected.csv",
        "https://example.org/home/x",
        "the root of the mean square",
        "3/3 - 5s - 2s/step",
        "see https://example.org/home/x and s3://bucket/home/x",
        "true/false positives, at 1/2/3 of the rate",
        "<td>axion</td>\n<td>cdm</td>",
        "a ratio of 3:1, loss: 0.2, (a/b)/c/d",
        "image / x, y / arcsec",
    ],
)
def test_what_is_no_path_of_the_machine_passes(text):
    assert not runner.machine_paths(text)


def test_the_folders_of_this_run_are_found_wherever_they_are(tmp_path):
    folders = runner.machine_folders(tmp_path)
    for folder in (tmp_path, Path.home(), REPOSITORY, Path(sys.prefix)):
        assert str(folder) in folders
        assert str(folder) in runner.machine_paths(f"<{folder}>", folders)
    assert runner.machine_paths("in x-/odd", {"/odd"}) == ["/odd"]
    assert not runner.machine_paths("in /oddity", {"/odd"})


def write_script(folder, name, code):
    script = folder / f"{name}.py"
    script.write_text(f"# %% [markdown]\n# # Small\n\n# %%\n{code}\n")
    return script


@pytest.fixture
def pair(tmp_path):
    """A script and its notebook, as if executed."""
    script = write_script(tmp_path, "01_small", "print(1)")
    notebook = runner.read_script(script)
    notebook.cells[1].execution_count = 1
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text="1\n")]
    nbformat.write(notebook, script.with_suffix(".ipynb"))
    return script, notebook


def test_a_pair_that_agrees_has_no_problems(pair):
    script, notebook = pair
    assert runner.problems(script) == []
    assert runner.problems(script, notebook) == []


def test_a_stale_pair_is_found(pair):
    script, _ = pair
    script.write_text(script.read_text().replace("print(1)", "print(2)"))
    (problem,) = runner.problems(script)
    assert "its cells differ from 01_small.py" in problem


def test_what_did_not_run_or_failed_or_shows_a_path_is_found(pair):
    script, notebook = pair
    cell = notebook.cells[1]
    cell.execution_count = None
    cell.outputs = [
        nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[]),
        nbformat.v4.new_output("stream", name="stderr", text="wrote /tmp/x/y\n"),
    ]
    found = " ".join(runner.problems(script, notebook))
    for part in ("was not executed", "ended with ValueError", "a path of this machine, /tmp/x/y"):
        assert part in found


def test_a_missing_notebook_and_one_too_large_are_found(pair, monkeypatch):
    script, _ = pair
    monkeypatch.setattr(runner, "MAX_BYTES", 10)
    (problem,) = runner.problems(script)
    assert "more than 10" in problem
    script.with_suffix(".ipynb").unlink()
    (problem,) = runner.problems(script)
    assert "missing" in problem


def test_a_fresh_notebook_that_is_too_large_is_found(pair, monkeypatch):
    script, notebook = pair
    monkeypatch.setattr(runner, "MAX_BYTES", 10)
    (problem,) = runner.problems(script, notebook)
    assert "more than 10" in problem


def test_a_fresh_notebook_that_shows_where_it_ran_is_found(pair):
    script, notebook = pair
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text="in /x1\n")]
    assert runner.problems(script, notebook) == []
    (problem,) = runner.problems(script, notebook, {"/x1"})
    assert "a path of this machine, /x1" in problem


FAILURES = {
    "01_late": ("import time; time.sleep(60)", "CellTimeoutError"),
    "02_dead": ("import os; os._exit(1)", "DeadKernelError"),
    "03_wrong": ("1 / 0", "ZeroDivisionError"),
}


@pytest.mark.slow
def test_what_does_not_end_is_a_problem_and_the_next_still_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("ipykernel", reason="needs the extra `notebooks`")
    scripts = [write_script(tmp_path, name, code) for name, (code, _) in FAILURES.items()]
    last = write_script(tmp_path, "04_right", "print(1)")
    monkeypatch.setattr(runner, "tutorials", lambda: [*scripts, last])
    monkeypatch.setattr(runner, "MAX_SECONDS_PER_CELL", 3)
    assert runner.main([]) == 1
    told = capsys.readouterr().err
    for name, (_, kind) in FAILURES.items():
        assert f"{name}.py: " in told
        assert kind in told
    assert not any(script.with_suffix(".ipynb").exists() for script in scripts)
    assert "04_right" not in told
    assert runner.problems(last) == []
