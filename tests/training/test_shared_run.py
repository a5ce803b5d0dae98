"""A run that several workers open: the chief's answer holds for all."""

import pytest

from deeplens_tf.config import load_config, save_config
from deeplens_tf.distribution.strategy import ALONE
from deeplens_tf.errors import RequestError
from deeplens_tf.runs.resuming import OpenedRun, claim_run, finish, open_run
from deeplens_tf.training import finetuning, pretraining, shared_run
from deeplens_tf.training.shared_run import claimed_run, finished_run, open_shared_run


class Worker:
    """Stands in for a distribution over two workers; they share what the chief sends."""

    workers = replicas = 2

    def __init__(self, sent, is_chief):
        self.sent, self.is_chief = sent, is_chief

    def from_chief(self, content):
        if self.is_chief:
            self.sent.append(content)
        return self.sent[-1]

    def any(self, *flags):
        return flags

    def wait_for_all(self):
        pass


@pytest.fixture
def workers():
    """The chief and another worker."""
    sent = []
    return Worker(sent, True), Worker(sent, False)


@pytest.fixture
def config():
    return load_config("defaults", ["train.epochs=3"])


@pytest.fixture
def run(config, tmp_path):
    """An interrupted run."""
    with claim_run("pretrain", "it", config, str(tmp_path / "run"), {}) as claimed:
        pass
    return claimed


def opened_by(workers, config, run):
    return [open_shared_run("pretrain", config, str(run.folder), worker) for worker in workers]


def test_all_workers_get_the_configuration_of_the_chief(workers, run, capsys):
    longer = load_config("defaults", ["train.epochs=5"])
    chief, other = opened_by(workers, longer, run)
    assert chief == other
    assert (other.config.train.epochs, other.config.schedule_epochs) == (5, 3)
    assert not other.finished
    assert capsys.readouterr().out == ""


def test_a_finished_run_is_reported_once_and_known_to_all_workers(workers, config, run, capsys):
    finish(run, config, run.encoder)
    run.encoder.touch()
    assert opened_by(workers, config, run) == [OpenedRun(config, finished=True)] * 2
    assert capsys.readouterr().out.count("finished, 3 epochs; nothing to do") == 1
    chief, other = (finished_run(str(run.folder), worker) for worker in workers)
    assert chief == run
    assert not other.folder.is_dir()


def test_only_the_chief_opens_the_run(workers, config, run):
    save_config(load_config("defaults", ["seed=9"]), run.config)
    chief, other = workers
    chief.sent.append(b'{"config": null, "finished": true}')
    with pytest.raises(RequestError, match=r"config must be a mapping"):
        open_shared_run("pretrain", config, str(run.folder), other)
    with pytest.raises(RequestError, match=r"with seed 9 \(requested: 0\)"):
        open_shared_run("pretrain", config, str(run.folder), chief)


def test_a_run_that_is_finished_before_it_is_claimed_is_not_trained(config, run, capsys):
    folder = str(run.folder)
    with claimed_run("pretrain", "it", config, folder, {}, ALONE) as (claimed, finished):
        assert (claimed, finished) == (run, False)
    assert not open_run("pretrain", config, folder).finished
    finish(run, config, run.encoder)  # as another process would in the meantime
    run.encoder.touch()
    with claimed_run("pretrain", "it", config, folder, {}, ALONE) as (_, finished):
        assert finished
    assert capsys.readouterr().out.count("nothing to do") == 1


@pytest.mark.parametrize(("module", "stage"), [(pretraining, "pretrain"), (finetuning, "finetune")])
@pytest.mark.parametrize("opened", [True, False])
def test_a_run_is_opened_once(module, stage, opened, config, monkeypatch):
    """By the stage before TensorFlow is imported, or by the training if there is no stage."""
    calls = []

    def count(*arguments):
        calls.append(arguments)
        return OpenedRun(config, finished=False)

    monkeypatch.setattr(shared_run, "open_run", count)
    monkeypatch.setattr(module, f"_{stage}", lambda *arguments: arguments[0])
    given = OpenedRun(config, finished=False) if opened else None
    assert getattr(module, stage)(config, "it", None, "none", given) is config
    assert len(calls) == (not opened)
