"""Execute the tutorials, or check the committed notebooks.

    python notebooks/run.py                  execute all and rewrite their .ipynb files
    python notebooks/run.py 05               execute those whose names begin with 05
    python notebooks/run.py --check          execute all, write nothing, fail if an .ipynb is stale
    python notebooks/run.py --pictures DIR   write the pictures of the README to DIR

A tutorial is a pair of files: the script `<name>.py`, which is the one to edit, and the notebook
`<name>.ipynb`, which contains the cells of the script and their outputs. Each tutorial runs in a
temporary folder, so no data and no runs remain here.
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
MAX_SECONDS_PER_CELL = 900  # enough for two cores that do other work too
PICTURE_TAG = "picture-"
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"file_extension": ".py", "name": "python"},
}
MACHINE_PATH = re.compile(
    # Two folders or more from the root, but not the host of an address: `scheme://host/...`.
    r"(?<![\w.\-)\]])(?<!\w:/)/[\w.+\-]+/[\w.+\-][^\s'\"<>]*"
    # A path of Windows, plain or as Python's `repr` shows it.
    r"|\b[A-Za-z]:(?:/|\\{1,2})[\w.][^\s'\"<>]*"
)


def main(argv: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    arguments = build_parser().parse_args(argv)
    if arguments.pictures:
        return _write_pictures(arguments.pictures)
    beginnings = tuple(arguments.names or [""])
    scripts = [path for path in tutorials() if path.name.startswith(beginnings)]
    if not scripts:
        print(f"no tutorial begins with {', '.join(beginnings)}", file=sys.stderr)
        return 2
    found = [problem for script in scripts for problem in _run(script, arguments.check)]
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="Execute the tutorials.", allow_abbrev=False)
    parser.add_argument("names", nargs="*", help="beginnings of the names; default: all tutorials")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is stale")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write the README's pictures")
    return parser


def tutorials() -> list[Path]:
    """Return the tutorials' scripts in reading order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def read_script(script: Path) -> NotebookNode:
    """Return a script as a notebook without outputs; the same script gives the same notebook."""
    notebook = jupytext.read(script)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
    return notebook


def problems(
    script: Path, notebook: NotebookNode | None = None, folders: Collection[str] = ()
) -> list[str]:
    """Return what is wrong with a notebook, one line each.

    Reported are a missing file, cells that differ from the script, a code cell that was not
    executed, an error, a path of this machine in an output, and a notebook that is too large.

    Args:
        script: of the tutorial.
        notebook: the executed script; None for the committed notebook.
        folders: folders of this machine, in addition to everything that looks like a path of one.
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
        found.append(f"{path.name}: its cells differ from {script.name}; run `make notebooks`")
    for cell in notebook.cells:
        found += [f"{path.name}, {cell.id}: {problem}" for problem in _cell_problems(cell, folders)]
    return found


def links(text: str) -> list[str]:
    """Return the files next to or above a tutorial that its Markdown links to."""
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


def machine_paths(text: str, folders: Collection[str] = ()) -> list[str]:
    """Return the parts of a text that belong to one machine: paths, `folders`, the user's name."""
    found = MACHINE_PATH.findall(text)
    found += [name for name in folders if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    user = getpass.getuser()
    # "root" also occurs in "root mean square"; a folder of this name is found above.
    if user != "root" and re.search(rf"\b{re.escape(user)}\b", text):
        found.append(user)
    return found


def machine_folders(*folders: Path) -> set[str]:
    """Return the given folders, and those of the user, the package and Python, as text."""
    known = (*folders, Path.home(), HERE.parent, Path(sys.prefix), Path(sys.base_prefix))
    paths = {path for folder in known for path in (folder, folder.resolve())}
    texts = {text for path in paths for text in (str(path), path.as_posix(), repr(str(path))[1:-1])}
    # Short ones, such as "/" or "/usr" as Python's prefix, also occur in addresses.
    return {text for text in texts if text.count("/") + text.count("\\") > 1} | {str(Path.home())}


def _run(script: Path, check: bool) -> list[str]:
    """Execute one tutorial and return its problems; write the notebook if there are none."""
    stale = problems(script) if check else []
    notebook = read_script(script)
    start, processor_start = time.monotonic(), _processor_seconds()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        failure = _execute(notebook, folder)
        folders = machine_folders(Path(folder))
    seconds, processor = time.monotonic() - start, _processor_seconds() - processor_start
    # On a busy machine the wall-clock time is longer, the processor time about the same.
    print(f"{script.stem}: {seconds:.0f} s, {processor:.0f} s of processor time", flush=True)
    if failure:
        return [*stale, f"{script.name}: {failure}"]
    found = problems(script, notebook, folders)
    if not (check or found):
        nbformat.write(notebook, script.with_suffix(".ipynb"))
        found = problems(script)
    return stale + found


def _execute(notebook: NotebookNode, folder: str) -> str:
    """Execute a notebook in a folder with its own kernel; return why it failed, or ""."""
    client = NotebookClient(
        notebook,
        timeout=MAX_SECONDS_PER_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": folder}},
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only
    )
    try:
        client.execute(env={**os.environ, "PYTHONPATH": str(HERE)})  # for tutorial_figures
    # A kernel that dies or does not start is a RuntimeError.
    except (CellExecutionError, CellTimeoutError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _processor_seconds() -> float:
    """Return the processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cells(notebook: NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def _cell_problems(cell: NotebookNode, folders: Collection[str]) -> Iterator[str]:
    if cell.cell_type != "code":
        return
    if cell.execution_count is None:
        yield "was not executed"
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"ended with {output.ename}"
        for text in _texts(output):
            for path in machine_paths(text, folders):
                yield f"contains a path of this machine, {path}"


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
