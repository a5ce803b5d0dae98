"""When a run saves: by steps, by the clock, and never for too large a share of the time."""

import pytest

from deeplens_tf.config import CheckpointConfig
from deeplens_tf.data.streams import Position
from deeplens_tf.runs.checkpoints import CheckpointStore
from deeplens_tf.training.checkpointer import Checkpointer
from deeplens_tf.training.signals import StopRequest


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class SlowStore(CheckpointStore):
    """Takes its time, and writes nothing."""

    def __init__(self, folder, clock, seconds):
        super().__init__(folder, keep=2)
        self.clock, self.seconds, self.steps = clock, seconds, []

    def save(self, step, arrays, state, products=()):
        self.clock.now += self.seconds
        self.steps.append(step)
        return self.folder


@pytest.fixture
def saved_at(tmp_path, monkeypatch):
    """Return the steps that are saved of 100 steps of ten seconds each, 1000 to the epoch."""

    def saved_at(seconds, **when):
        clock = Clock()
        monkeypatch.setattr("time.monotonic", clock)
        monkeypatch.setattr(
            "deeplens_tf.training.checkpointer.arrays_of", lambda model, *groups: {}
        )
        store = SlowStore(tmp_path, clock, seconds)
        config = CheckpointConfig(
            **({"every_steps": None, "every_minutes": None, "keep": 2} | when)
        )
        checkpointer = Checkpointer(store, config, 1000, 1, StopRequest())
        for batch in range(100):
            clock.now += 10
            checkpointer.on_train_batch_end(batch)
        assert checkpointer.position == Position(0, 100)
        return store.steps

    return saved_at


def test_by_steps(saved_at):
    assert saved_at(1, every_steps=30) == [30, 60, 90]


def test_by_the_clock(saved_at):
    assert saved_at(0.1, every_minutes=5) == [30, 60, 90]


def test_by_whichever_comes_first(saved_at):
    assert saved_at(0.1, every_minutes=5, every_steps=40) == [30, 60, 90]
    assert saved_at(0.1, every_minutes=5, every_steps=20) == [20, 40, 60, 80, 100]


def test_a_save_that_takes_long_is_made_more_seldom(saved_at):
    # Four seconds are 2 % of 200.
    assert saved_at(4, every_minutes=1) == [6, 26, 46, 66, 86]


def test_never_before_the_end_of_the_run(saved_at):
    assert saved_at(1) == []
