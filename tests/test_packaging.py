"""The wheel, the tested versions, make, and the files that automate the checks."""

import configparser
import email
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import deeplens_tf
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "deeplens_tf"
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((REPOSITORY / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
SOURCES = ("README.md", "LICENSE", "pyproject.toml", "requirements.txt", "setup.cfg")
EXTRAS = ("export", "faiss", "hf", "hub", "map", "mlflow", "parquet", "simulate", "wandb")
PYTHONS = ("3.11", "3.12", "3.13")


def setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    return parser


def requirements(text):
    lines = [line.strip() for line in text.splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r "))]


def runtime_requirements():
    return requirements((REPOSITORY / "requirements.txt").read_text())


def extra(name):
    return requirements(setup_cfg()["options.extras_require"][name])


def constraints():
    return requirements((REPOSITORY / "constraints.txt").read_text())


# --- the wheel ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the tree, so that nothing is left in the repository."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copy(REPOSITORY / name, tree)
    for folder in ("deeplens_tf", "tests", "benchmarks", "parity"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / folder, tree / folder, ignore=ignored)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", out]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, tree], check=True, timeout=300)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def dist_info(wheel):
    return f"deeplens_tf-{deeplens_tf.__version__}.dist-info"


@pytest.mark.slow
def test_the_wheel_contains_the_package_and_nothing_else(wheel, dist_info):
    expected = {
        path.relative_to(REPOSITORY).as_posix()
        for pattern in (
            "**/*.py",
            "**/*.html",
            "**/*.js",
            "configs/*.yaml",
            "py.typed",
            "weights/*/*",
        )
        for path in PACKAGE.glob(pattern)
    }
    encoder = "deeplens_tf/weights/vit_nano_same_lens/encoder.keras"
    page = "deeplens_tf/evaluation/templates/report.html"
    assert {"deeplens_tf/py.typed", "deeplens_tf/configs/defaults.yaml", encoder, page} <= expected
    contents = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    assert {name for name in contents if not name.startswith(f"{dist_info}/")} == expected


@pytest.mark.slow
def test_the_wheel_requires_what_requirements_txt_lists(wheel, dist_info):
    metadata = email.message_from_bytes(zipfile.ZipFile(wheel).read(f"{dist_info}/METADATA"))
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist")]
    assert {str(one) for one in required if one.marker is None} == {
        str(one) for one in runtime_requirements()
    }


@pytest.mark.slow
def test_the_installed_wheel_has_a_console_script_that_runs_outside_the_repository(wheel, tmp_path):
    target = tmp_path / "site"
    options = ["--quiet", "--no-deps", "--no-index", "--target", target]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, wheel], check=True)
    done = subprocess.run(
        [target / "bin" / "deeplens-tf", "--version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"deeplens_tf {deeplens_tf.__version__}\n")


# --- the tested versions -----------------------------------------------------------------------


def test_each_constraint_pins_one_version_of_one_package():
    names = [canonicalize_name(pin.name) for pin in constraints()]
    assert names == sorted(set(names))
    for pin in constraints():
        (bound,) = pin.specifier
        assert bound.operator == "=="
        assert not pin.extras
        assert pin.marker is None


@pytest.mark.parametrize(
    "required",
    [
        *runtime_requirements(),
        *(each for name in ("dev", "notebooks", "gpu", *EXTRAS) for each in extra(name)),
    ],
    ids=lambda required: required.name,
)
def test_the_tested_version_is_within_the_bounds(required):
    pins = {canonicalize_name(pin.name): pin.specifier for pin in constraints()}
    (pin,) = pins[canonicalize_name(required.name)]
    assert required.specifier.contains(pin.version)


def test_the_gpu_variant_has_the_same_bounds_everywhere():
    (from_file,) = requirements((REPOSITORY / "requirements-gpu.txt").read_text())
    (from_extra,) = extra("gpu")
    (plain,) = [one for one in runtime_requirements() if one.name == "tensorflow"]
    assert from_file == from_extra
    assert from_file.specifier == plain.specifier


def test_the_extra_of_all_names_the_others():
    (itself,) = extra("all")
    assert itself.name == "deeplens_tf"
    assert itself.extras == set(EXTRAS)


def test_every_upper_bound_has_a_comment():
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    bounded = [i for i, line in enumerate(lines) if "<" in line and not line.startswith("#")]
    assert all(lines[i - 1].startswith("#") for i in bounded)


# --- other ways to find and to run it ----------------------------------------------------------


def test_the_metadata_of_the_software_is_that_of_the_package():
    described = json.loads((REPOSITORY / "codemeta.json").read_text())
    metadata = setup_cfg()["metadata"]
    assert (described["name"], described["version"]) == (metadata["name"], deeplens_tf.__version__)
    assert described["description"] == metadata["description"]
    assert ", ".join(described["keywords"]) == metadata["keywords"]
    assert described["license"].endswith(f"/{metadata['license']}")
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (described["version"], metadata["license"])
    assert [each["name"] for each in cited["authors"]] == [
        each["name"] for each in described["author"]
    ]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_a_container_is_made_of_files_and_extras_that_exist(name):
    text = (REPOSITORY / "docker" / name).read_text().replace("\\\n", " ")
    sources = {
        word for line in re.findall(r"^COPY (.*)$", text, re.M) for word in line.split()[:-1]
    }
    assert {*SOURCES, "constraints.txt", "deeplens_tf"} == sources
    ignored = (REPOSITORY / ".dockerignore").read_text().split()
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
    (extras,) = re.findall(r"/source\[([\w,]+)\]", text)
    assert set(extras.split(",")) <= {*EXTRAS, "gpu"}
    (python,) = re.findall(r"^FROM python:([\d.]+)-slim$", text, re.M)
    assert python in PYTHONS


# --- types -------------------------------------------------------------------------------------


def untyped_libraries():
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        (override,) = tomllib.load(file)["tool"]["mypy"]["overrides"]
    return [module.removesuffix(".*") for module in override["module"]]


@pytest.mark.parametrize("library", untyped_libraries())
def test_a_library_whose_types_are_ignored_has_none(library):
    packages = Path(sysconfig.get_paths()["purelib"])
    if not (packages / library).is_dir():
        pytest.skip(f"{library} is not installed here")
    assert not (packages / library / "py.typed").exists()
    assert not (packages / f"{library}-stubs").exists()


# --- make, pre-commit and the workflows --------------------------------------------------------


def make(*arguments, **environment):
    # When make runs the tests, its variables must not reach this call.
    excluded = re.compile("MAKE|MFLAGS|VENV")
    inherited = {name: value for name, value in os.environ.items() if not excluded.match(name)}
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=REPOSITORY,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def phony_targets():
    makefile = (REPOSITORY / "Makefile").read_text().replace("\\\n", " ")
    return set(re.search(r"^\.PHONY:(.*)$", makefile, re.MULTILINE)[1].split())


def make_targets(command):
    """Return the targets of the calls of make in a shell command."""
    words = shlex.split(command, comments=True)
    if "make" not in words:
        return []
    return [word for word in words[words.index("make") + 1 :] if not re.search("[-=]", word[:1])]


def test_make_help_lists_every_target():
    listed = {line.split()[0]: line.split()[1:] for line in make("help").splitlines()}
    assert listed.keys() == phony_targets()
    assert all(listed.values())


def test_make_creates_its_environment_where_it_is_told(tmp_path):
    commands = make("--dry-run", "setup", f"VENV_DIR={tmp_path}")
    assert f"-m venv '{tmp_path}'" in commands
    assert "--constraint constraints.txt" in commands
    assert ".venv" not in commands
    assert make("--dry-run", "setup", VENV_DIR=str(tmp_path)) == commands


def test_make_uses_a_given_environment_as_it_is(tmp_path):
    assert "pip" not in make("--dry-run", "setup", f"VENV={tmp_path}")
    commands = make("--dry-run", "lint", f"VENV={tmp_path}").splitlines()
    assert [shlex.split(command)[0] for command in commands] == [
        f"{tmp_path}/bin/{tool}" for tool in ("ruff", "ruff", "mypy", "hadolint")
    ]


def test_the_complete_check_leaves_a_contributors_environment_alone():
    script = (REPOSITORY / ".ci" / "run").read_text()
    subprocess.run(["bash", "-n", REPOSITORY / ".ci" / "run"], check=True)
    code = "\n".join(line for line in script.splitlines() if not line.strip().startswith("#"))
    assert set(re.findall(r"\.venv[\w-]*", code)) == {".venv-ci"}
    assert "unset VENV" in code.splitlines()
    steps = [line.split("step ")[1] for line in code.splitlines() if line.lstrip()[:5] == "step "]
    assert steps == [
        *("make setup", "make lint", "make docs", "make test", "chain"),
        *("make parity", "make test-faults", "make notebooks-check"),
    ]
    assert {target for step in steps for target in make_targets(step)} <= phony_targets()


def load_workflow(path):
    workflow = yaml.safe_load(path.read_text())
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads the key `on` as true
    return workflow


def steps_of(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_what_exists_with_read_permission_alone(path):
    workflow = load_workflow(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    commands = [step["run"] for step in steps_of(workflow) if "run" in step]
    assert {target for one in commands for target in make_targets(one)} <= phony_targets()
    scripts = [word for one in commands for word in shlex.split(one) if word.startswith(".ci/")]
    assert all((REPOSITORY / script).is_file() for script in scripts)
    for step in steps_of(workflow):
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])


def test_every_supported_python_is_checked_on_pushes_and_pull_requests():
    workflow = load_workflow(REPOSITORY / ".github" / "workflows" / "checks.yml")
    assert workflow["on"].keys() == {"push", "pull_request"}
    assert tuple(workflow["jobs"]["checks"]["strategy"]["matrix"]["python"]) == PYTHONS
    commands = [step["run"] for step in steps_of(workflow) if "run" in step]
    assert commands == ["make setup", "make lint", "make test-fast"]
    supported = SpecifierSet(setup_cfg()["options"]["python_requires"])
    assert [f"3.{minor}" for minor in range(9, 20) if f"3.{minor}" in supported] == list(PYTHONS)
    classifiers = re.findall(r"Python :: (3\.\d+)", setup_cfg()["metadata"]["classifiers"])
    assert tuple(classifiers) == PYTHONS


def test_the_complete_check_runs_every_night():
    workflow = load_workflow(REPOSITORY / ".github" / "workflows" / "nightly.yml")
    assert "schedule" in workflow["on"]
    assert any("bash .ci/run" in step.get("run", "") for step in steps_of(workflow))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_can_be_parsed(path):
    form = yaml.safe_load(path.read_text())
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_the_pre_commit_hooks_are_valid_and_local():
    path = REPOSITORY / ".pre-commit-config.yaml"
    (repository,) = yaml.safe_load(path.read_text())["repos"]
    assert repository["repo"] == "local"
    assert {"ruff-check", "ruff-format", "mypy"} <= {hook["id"] for hook in repository["hooks"]}
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
