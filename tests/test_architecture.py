"""The layout of the package: the allowed imports between its folders.

A "folder" here is also a single module at the package's top level. CONTRIBUTING.md describes them.
"""

import ast
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "deeplens_tf"
STAGES = {
    "simulate",
    "prepare",
    "pretrain",
    "finetune",
    "evaluate",
    "predict",
    "export",
    "embed",
    "search",
    "explain",
    "map",
    "compare",
    "convert",
}
ALLOWED_EVERYWHERE = {"errors", "labels", "terminal", "lazy"}
# Each folder with the others that it may import, apart from those of ALLOWED_EVERYWHERE.
ALLOWED_IMPORTS = {
    "lazy": set(),
    "errors": set(),
    "labels": set(),
    "terminal": set(),
    "cores": set(),
    "process_pool": set(),
    "freed_memory": set(),
    "startup": set(),
    "files": set(),
    "dataclass_parsing": set(),
    "registry": {"dataclass_parsing"},
    "plugins": {"startup"},
    "cli": {"plugins", "registry"},
    "configuration_keys": set(),
    "preprocessing": set(),
    "config": {"files", "dataclass_parsing", "registry"},
    "config_schema": {"config", "dataclass_parsing", "files", "registry"},
    "option_use": {"config", "registry"},
    "losses": set(),
    "augment": {"registry"},
    "metrics": set(),
    "figures": {"files", "metrics"},
    "models": {"losses", "preprocessing", "registry"},
    "simulation": {"cores", "files", "process_pool"},
    "data": {
        *("augment", "config", "dataclass_parsing", "files", "preprocessing", "process_pool"),
        "registry",
    },
    "saving": {"models", "files", "preprocessing", "registry"},
    "runs": {"cores", "config", "dataclass_parsing", "files"},
    "tracking": {"config", "dataclass_parsing", "files", "runs"},
    "distribution": {"data", "models"},
    "probes": {
        *("config", "configuration_keys", "data", "metrics", "models", "preprocessing"),
        "saving",
    },
    "conversion": {"files", "models", "saving"},
    "training": {
        *("config", "configuration_keys", "dataclass_parsing", "files", "figures", "freed_memory"),
        *("data", "losses", "metrics", "models", "preprocessing", "registry"),
        *("distribution", "probes", "runs", "saving", "tracking"),
        *("cores", "process_pool", "simulation"),
    },
    "evaluation": {
        *("config", "files", "figures", "data", "metrics", "models", "preprocessing"),
        *("distribution", "probes", "runs", "saving", "tracking"),
    },
    "inference": {
        *("config", "files", "figures", "data", "metrics", "models", "preprocessing"),
        *("probes", "runs", "saving"),
    },
    **{
        stage: {
            *("cli", "startup", "config", "dataclass_parsing", "files", "data", "figures"),
            *("runs", "saving", "simulation", "conversion", "training", "evaluation"),
            *("inference", "option_use", "cores"),
        }
        for stage in STAGES
    },
    "__main__": {"cli"},
}
# Libraries that only these modules import.
OWNERS = {
    "lenstronomy": {"simulation/render.py", "simulation/survey_images.py"},
    "astropy": {
        "data/formats/tile_compression.py",
        "inference/table_files.py",
        "preprocessing/units.py",
        "preprocessing/value_scale.py",
        "simulation/fits_content.py",
    },
    "jinja2": {"files/html_templates.py"},
    "PIL": {"preprocessing/scaling.py", "data/formats/pictures.py"},
    "h5py": {
        "data/formats/hdf5.py",
        "files/hdf5_arrays.py",
        "saving/archive_checks.py",
        "conversion/weight_files.py",
    },
    "yaml": {"config.py", "files/plain_yaml.py"},
    "onnx": {"inference/export_formats.py"},
    "umap": {"inference/map_coordinates.py"},
    "tf2onnx": {"inference/export_formats.py"},
    "wandb": {"tracking/wandb_service.py"},
    "mlflow": {"tracking/mlflow_service.py"},
}
KERAS_ONLY = ("models", "losses")  # they run on any backend of Keras
CONFIGURATION_KEY = re.compile(r"\b(data|encoder|pretrain|finetune|optimizer|train)\.[a-z]+_?[a-z]")


def modules() -> dict[str, Path]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): path for path in paths}


MODULES = modules()


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def folder_of(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def imported(name: str) -> set[str]:
    """Dotted names of all modules that a file imports, also within functions."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_imports(name: str) -> set[str]:
    """Files of the package that a file imports."""
    dotted = {path.removesuffix(".py").replace("/", "."): path for path in MODULES}
    dotted |= {key.removesuffix(".__init__"): path for key, path in dotted.items()}
    inside = {each.removeprefix("deeplens_tf.") for each in imported(name) if "deeplens_tf" in each}
    return {dotted[each] for each in inside if each in dotted} - {name}


def test_every_folder_has_its_allowed_imports():
    assert {folder_of(name) for name in MODULES} - {"__init__"} == set(ALLOWED_IMPORTS)


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__init__.py"])
def test_a_module_imports_only_what_its_folder_may(name):
    own = folder_of(name)
    allowed = ALLOWED_IMPORTS[own] | {own, "__init__"}
    if own not in ALLOWED_EVERYWHERE:
        allowed |= ALLOWED_EVERYWHERE
    assert {folder_of(other) for other in own_imports(name)} <= allowed


def cycle_of(imports: dict[str, set[str]]) -> list[str]:
    """Nodes of a cycle, or none."""
    imports = {node: set(targets) for node, targets in imports.items()}
    while free := [node for node, targets in imports.items() if not targets & set(imports)]:
        for node in free:
            del imports[node]
    return sorted(imports)


def test_a_cycle_is_found():
    assert cycle_of({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]


def test_neither_folders_nor_modules_import_in_a_circle():
    folders = defaultdict(set)
    for name in MODULES:
        own = folder_of(name)
        folders[own] |= {folder_of(other) for other in own_imports(name)} - {own, "__init__"}
    assert cycle_of(folders) == []
    # The old name of a class is looked up by the class that has replaced a part of it.
    later = {("models/vit.py", "models/original_vit.py")}
    assert (
        cycle_of(
            {
                name: {other for other in own_imports(name) if (name, other) not in later}
                for name in MODULES
            }
        )
        == []
    )


@pytest.mark.parametrize("library", OWNERS)
def test_one_module_owns_a_library(library):
    users = {name for name in MODULES if any(i.split(".")[0] == library for i in imported(name))}
    assert users == OWNERS[library]


def test_figures_and_reports_alone_draw():
    users = {folder_of(name) for name in MODULES if any("matplotlib" in i for i in imported(name))}
    assert users <= {"figures", "evaluation"}


def test_distribution_alone_knows_tensorflows_strategies():
    users = {folder_of(name) for name in MODULES if "tf.distribute" in ast.unparse(tree(name))}
    assert users == {"distribution"}


@pytest.mark.parametrize("name", [name for name in MODULES if folder_of(name) in KERAS_ONLY])
def test_models_and_losses_use_keras_alone_and_know_no_configuration(name):
    assert not any(each.split(".")[0] == "tensorflow" for each in imported(name))
    texts = [node.value for node in ast.walk(tree(name)) if isinstance(node, ast.Constant)]
    assert not [text for text in texts if isinstance(text, str) and CONFIGURATION_KEY.search(text)]


def test_no_two_modules_have_one_name():
    names = Counter(Path(name).stem for name in MODULES if not name.endswith("__init__.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_constant_is_defined_twice():
    homes = defaultdict(list)
    for name in MODULES:
        for node in tree(name).body:
            targets = (
                node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            )
            for target in targets:
                if isinstance(target, ast.Name) and target.id.isupper():
                    homes[target.id].append(name)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_stages_are_thin():
    for stage in STAGES:
        lines = MODULES[f"{stage}.py"].read_text().splitlines()
        assert len(lines) <= 130, stage


def test_contributing_describes_every_folder():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    for name in ALLOWED_IMPORTS.keys() - STAGES:
        assert f"`{name}/`" in text or f"`{name}.py`" in text, name
    for path in re.findall(r"`(deeplens_tf/[\w/.]+|tests/[\w/.]+)`", text):
        assert (REPOSITORY / path).exists(), path
