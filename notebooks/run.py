"""Execute the tutorials, or check what is committed of them.

    python notebooks/run.py                  execute all and rewrite their .ipynb files
    python notebooks/run.py 05               execute those whose names begin so
    python notebooks/run.py --check          execute all, write nothing, fail on a stale .ipynb
    python notebooks/run.py --pictures DIR   write the pictures that the README shows into DIR

A tutorial is a pair of files: the script `<name>.py`, which is what one edits, and the notebook
`<name>.ipynb`, which is the script with its outputs. Each runs in an empty folder of its own that
is removed afterwards, so no data and no runs are left here.
"""

import argparse
import base64
import getpass
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode

HERE = Path(__file__).parent
MAX_BYTES = 1_500_000
SECONDS_PER_CELL = 600
PICTURE_TAG = "picture-"
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python"},
}
MACHINE_PATH = re.compile(
    # Two folders or more from the root, and not the host of an address: `scheme://host/...`.
    r"(?<![\w.\-)\]])(?<!\w:/)/[\w.+\-]+/[\w.+\-][^\s'\"<>]*"
    # Windows's, as it is and as Python shows it.
    r"|\b[A-Za-z]:(?:/|\\{1,2})[\w.][^\s'\"<>]*"
)


def main(words: Sequence[str]) -> int:
    """Do what the command line asks for; return the exit code."""
    options = _parser().parse_args(words)
    if options.pictures:
        return _write_pictures(options.pictures)
    scripts = [path for path in tutorials() if path.name.startswith(tuple(options.names or [""]))]
    if not scripts:
        print(f"no tutorial begins with {', '.join(options.names)}", file=sys.stderr)
        return 2
    wrong = [problem for script in scripts for problem in _run(script, options.check)]
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


def tutorials() -> list[Path]:
    """Return the tutorials' scripts in reading order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def read_script(script: Path) -> NotebookNode:
    """Return a script as a notebook without outputs; the same script gives the same notebook."""
    notebook = jupytext.read(script)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for place, cell in enumerate(notebook.cells):
        cell.id = f"cell-{place:02d}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
    return notebook


def problems(
    script: Path, notebook: NotebookNode | None = None, places: Collection[str] = ()
) -> list[str]:
    """Return what is wrong with a pair, or with the outputs of a fresh `notebook` of the script.

    Cells that differ from the script, a code cell that did not run, an error, a path of the
    machine (one of `places`, or what looks like one), a file too large.
    """
    path = script.with_suffix(".ipynb")
    if notebook is None:
        if not path.is_file():
            return [f"{path.name}: missing; run `make notebooks`"]
        notebook = nbformat.read(path, as_version=4)
    found = []
    size = len(nbformat.writes(notebook).encode())
    if size > MAX_BYTES:
        found.append(f"{path.name}: {size} bytes, more than {MAX_BYTES}")
    if _cells(notebook) != _cells(read_script(script)):
        found.append(f"{path.name}: its cells are not those of {script.name}; run `make notebooks`")
    for cell in notebook.cells:
        found += [f"{path.name}, {cell.id}: {problem}" for problem in _cell_problems(cell, places)]
    return found


def links(text: str) -> list[str]:
    """Return the files beside or above a tutorial that its Markdown links to."""
    return re.findall(r"\]\(((?:\.\./|\d\d_)[^)#]+)\)", text)


def pictures(notebook: NotebookNode) -> dict[str, bytes]:
    """Return the PNGs of the cells tagged `picture-<name>`: name -> bytes."""
    found = {}
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            images = [output.data["image/png"] for output in _displayed(cell, "image/png")]
            if tag.startswith(PICTURE_TAG) and images:
                found[tag.removeprefix(PICTURE_TAG)] = base64.b64decode(images[-1])
    return found


def _run(script: Path, check: bool) -> list[str]:
    """Execute one tutorial and return what is wrong with it."""
    stale = problems(script) if check else []
    notebook = read_script(script)
    start, start_of_processor = time.monotonic(), _processor_seconds()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        failure = _execute(notebook, folder)
        places = machine_places(Path(folder))
    seconds, worked = time.monotonic() - start, _processor_seconds() - start_of_processor
    # A machine that others use too takes longer; the work stays about the same.
    print(f"{script.stem}: {seconds:.0f} s, {worked:.0f} s of one core's work", flush=True)
    if failure:
        return [*stale, f"{script.name}: {failure}"]
    found = problems(script, notebook, places)
    if not (check or found):
        nbformat.write(notebook, script.with_suffix(".ipynb"))
        found = problems(script)
    return stale + found


def _execute(notebook: NotebookNode, folder: str) -> str:
    """Execute a notebook in a folder with a kernel of its own; return why it could not end."""
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": folder}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors alone
    )
    try:
        client.execute(env={**os.environ, "PYTHONPATH": str(HERE)})  # for tutorial_figures
    # A kernel that dies or does not start is a RuntimeError.
    except (CellExecutionError, CellTimeoutError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _processor_seconds() -> float:
    """Return what all processes that have ended under this one took of the processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cells(notebook: NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def _cell_problems(cell: NotebookNode, places: Collection[str]) -> Iterator[str]:
    if cell.cell_type != "code":
        return
    if cell.execution_count is None:
        yield "was not executed"
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"ended with {output.ename}"
        for text in _texts(output):
            for place in machine_paths(text, places):
                yield f"shows a path of the machine, {place}"


def machine_paths(text: str, places: Collection[str] = ()) -> list[str]:
    """Return what in a text belongs to one machine: absolute paths, `places`, the user's name."""
    found = MACHINE_PATH.findall(text)
    found += [place for place in places if re.search(rf"(?<!\w){re.escape(place)}(?!\w)", text)]
    user = getpass.getuser()
    # "root" is also a square root, and as a folder it is found above.
    if user != "root" and re.search(rf"\b{re.escape(user)}\b", text):
        found.append(user)
    return found


def machine_places(*folders: Path) -> set[str]:
    """Return these folders and those of the user, the package and Python, as a text has them."""
    known = (*folders, Path.home(), HERE.parent, Path(sys.prefix), Path(sys.base_prefix))
    paths = {path for folder in known for path in (folder, folder.resolve())}
    texts = {text for path in paths for text in (str(path), path.as_posix(), repr(str(path))[1:-1])}
    # The root, or "/usr" as Python's home, is in too many addresses.
    return {text for text in texts if text.count("/") + text.count("\\") > 1} | {str(Path.home())}


def _texts(output: NotebookNode) -> list[str]:
    if output.output_type == "stream":
        return [output.text]
    data = output.get("data", {})
    return [str(value) for kind, value in data.items() if not kind.startswith("image/")]


def _displayed(cell: NotebookNode, kind: str) -> list[NotebookNode]:
    return [output for output in cell.get("outputs", []) if kind in output.get("data", {})]


def _write_pictures(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for script in tutorials():
        notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
        for name, content in pictures(notebook).items():
            (folder / f"{name}.png").write_bytes(content)
            print(folder / f"{name}.png")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Execute the tutorials.", allow_abbrev=False)
    parser.add_argument("names", nargs="*", help="beginnings of the names; without them: all")
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a stale one")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write the README's pictures")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
