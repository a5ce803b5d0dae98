"""What services are told of a run, and what happens when they fail."""

import json

import pytest

from deeplens_tf.config import load_config
from deeplens_tf.errors import RequestError, Stopped
from deeplens_tf.runs.new_run import create_run
from deeplens_tf.tracking import session
from deeplens_tf.tracking.run_record import record, recorded
from deeplens_tf.tracking.service import require_packages
from deeplens_tf.tracking.session import history_rows, log_report, tracked_training


class Notes:
    """A service that keeps what it is told, and fails on demand."""

    def __init__(self, fails=()):
        self.rows, self.results, self.endings, self.fails = {}, {}, [], set(fails)

    def _may_fail(self, act):
        if act in self.fails:
            raise OSError(28, "No space left on device")

    def epochs(self):
        return max(self.rows, default=-1) + 1

    def log(self, epoch, values):
        self._may_fail("log")
        assert epoch not in self.rows
        self.rows[epoch] = dict(values)

    def log_results(self, values):
        self._may_fail("log_results")
        self.results |= values

    def close(self, ending):
        self.endings.append(ending)
        self._may_fail("close")


@pytest.fixture
def run(tmp_path):
    return create_run("pretrain", "it", load_config("defaults"), str(tmp_path / "run"), {})


@pytest.fixture
def opened(monkeypatch, run):
    """A function: service -> the configuration with which the run has it."""

    def use(service):
        def open_it(run, project, description):
            if isinstance(service, Exception):
                raise service
            service.described = description
            return service

        monkeypatch.setitem(session.SERVICES, "wandb", open_it)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        return load_config("defaults", ["logging.wandb=lenses"]).logging

    return use


def write_history(run, epochs):
    lines = [
        "epoch,loss,val_auc",
        *(f"{k},{0.1 * k!r},{'' if k % 2 else 0.5}" for k in range(epochs)),
    ]
    run.history.write_text("\n".join(lines) + "\n")


def test_each_epoch_is_logged_once_with_the_values_that_it_has(run, opened):
    notes = Notes()
    config = opened(notes)
    for epochs in (1, 3, 4):  # a command each
        with tracked_training(run, config) as told:
            write_history(run, epochs)
            told.log_epochs()
            told.log_epochs()
    assert notes.rows == {
        0: {"loss": 0.0, "val_auc": 0.5},
        1: {"loss": 0.1},
        2: {"loss": 0.2, "val_auc": 0.5},
        3: {"loss": 0.1 * 3},
    }
    assert notes.endings == ["finished"] * 3
    assert notes.described.name == run.folder.name
    assert notes.described.config["train"]["epochs"] == 20
    assert notes.described.facts["run_folder"] == str(run.folder.resolve())
    assert "packages" in notes.described.facts


@pytest.mark.parametrize(
    ("error", "ending"), [(Stopped("stopped", 143), "stopped"), (MemoryError(), "failed")]
)
def test_a_service_is_told_how_a_training_ended(run, opened, error, ending):
    notes = Notes()
    with pytest.raises(type(error)), tracked_training(run, opened(notes)):
        write_history(run, 1)
        raise error
    assert (list(notes.rows), notes.endings) == ([0], [ending])


def test_nothing_is_opened_unless_it_is_configured(run, monkeypatch):
    monkeypatch.setattr(session, "SERVICES", dict.fromkeys(session.SERVICES))  # None of them opens
    with tracked_training(run, load_config("defaults").logging) as told:
        told.log_epochs()  # there is no history.csv either
    assert history_rows(run) == []


def test_the_environment_turns_wandb_off(run, opened, monkeypatch, capsys):
    notes = Notes()
    config = opened(notes)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with tracked_training(run, config):
        write_history(run, 1)
    assert (notes.rows, notes.endings) == ({}, [])
    assert capsys.readouterr().out == "logging.wandb: off, by WANDB_MODE=disabled\n"


def test_a_failure_is_a_warning_once_and_the_next_command_makes_up_for_it(run, opened, capsys):
    notes = Notes(fails=("log", "close"))
    with tracked_training(run, opened(notes)) as told:
        write_history(run, 2)
        told.log_epochs()
        notes.fails.discard("log")
        told.log_epochs()
    assert (notes.rows, notes.endings) == ({}, ["finished"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: logging.wandb: OSError: [Errno 28] No space left on device;")
    with tracked_training(run, opened(notes)):
        pass
    assert list(notes.rows) == [0, 1]


def test_a_service_that_does_not_open_ends_no_training(run, opened, capsys):
    with tracked_training(run, opened(ConnectionError("no server"))) as told:
        write_history(run, 1)
        told.log_epochs()
    assert capsys.readouterr().err.count("warning: logging.wandb: ConnectionError: no server") == 1


def test_what_the_user_must_change_ends_it_before_the_training(run, opened):
    config = opened(RequestError("logging.wandb: no login"))
    with pytest.raises(RequestError, match="no login"), tracked_training(run, config):
        raise AssertionError


def test_the_numbers_of_a_report_are_logged_under_its_name(run, opened, capsys):
    folder = run.folder / "evaluation" / "test"
    folder.mkdir(parents=True)
    report = {
        "split": "test",
        "macro_auc": 0.75,
        "r2": None,
        "n_test": 7,
        "per_class_auc": {"cdm": 0.5},
        "intervals_95": {"macro_auc": [0.7, 0.8]},
        "thresholds": {"cdm": [{"threshold": 0.5}, {"threshold": 0.9}, {"threshold": 1.0}]},
        "is_new": True,
    }
    (folder / "metrics.json").write_text(json.dumps(report))
    write_history(run, 1)
    notes = Notes()
    log_report(run, opened(notes), folder)
    assert notes.results == {
        "test/macro_auc": 0.75,
        "test/n_test": 7,
        "test/per_class_auc/cdm": 0.5,
        "test/intervals_95/macro_auc/low": 0.7,
        "test/intervals_95/macro_auc/high": 0.8,
    }
    assert (list(notes.rows), notes.endings) == ([0], [None])
    log_report(run, opened(RequestError("no login")), folder)
    assert "warning: logging.wandb: RequestError: no login" in capsys.readouterr().err


def test_what_is_recorded_of_one_service_leaves_that_of_another(run):
    assert recorded(run, "wandb") == {}
    record(run, "wandb", {"id": "a"})
    record(run, "mlflow", {"id": "b"})
    record(run, "wandb", {"id": "c"})
    assert (recorded(run, "wandb"), recorded(run, "mlflow")) == ({"id": "c"}, {"id": "b"})
    (run.folder / "logging.json").write_text("[]")
    assert recorded(run, "wandb") == {}


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named_with_its_extra(name, monkeypatch, tmp_path):
    config = load_config("defaults", [f"logging.{name}=lenses"]).logging
    require_packages(config)
    # What finds installed packages is gone; a folder of their name is not taken for one.
    (tmp_path / name).mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    with pytest.raises(RequestError, match=rf"pip install 'deeplens_tf\[{name}\]'"):
        require_packages(config)
