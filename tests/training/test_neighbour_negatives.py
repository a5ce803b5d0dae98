"""Pretraining with batches of neighbours: which come when, exact resuming, what is refused."""

import json

import numpy as np
import pytest

from deeplens_tf import load_encoder
from deeplens_tf.config import load_config
from deeplens_tf.data.batches import pair_count, pretraining_batches
from deeplens_tf.data.neighbour_order import neighbour_batches
from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.data.streams import BEGINNING, EpochOrder, Position
from deeplens_tf.data.view_making import build_augment
from deeplens_tf.errors import RequestError
from deeplens_tf.models.vit import VARIANTS
from deeplens_tf.training import neighbour_negatives
from deeplens_tf.training.callbacks import CollapseWarning
from deeplens_tf.training.pretraining import pretrain
from tests.conftest import eagerly, without_pictures
from tests.data.object_folders import make_objects, naive_objects, naive_pair
from tests.training.breaking_off import Stop, break_off_in_step

pytestmark = pytest.mark.usefixtures("no_pictures", "eager_steps")
BATCH = 3
NEIGHBOURS = ("pretrain.negatives=neighbours", "pretrain.neighbours.first_epochs=1")


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """Configurations of runs that take seconds, on images of 16 pixels a side."""
    small = dict(patch_size=4, width=16, depth=0, heads=2, mlp_width=32)
    root = tmp_path_factory.mktemp("objects")
    make_objects(root / "d")

    def configure(*words, name="contrastive"):
        words = [
            *("data.image_size=16", f"data.cache={root / 'cache'}", "train.epochs=4"),
            *("pretrain.projection_width=8", f"train.batch_size={BATCH}"),
            *("train.jit_compile=false", "data.validation_fraction=0.3", *NEIGHBOURS, *words),
        ]
        return load_config(name, words, str(root / "d"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "vit_nano", small)
        yield configure


@pytest.fixture
def orders(monkeypatch):
    """The orders of the epochs of a run, and what the encoder found, as they are set."""
    found = {"orders": {}, "features": {}}

    def assign(self, epoch, numbers):
        found["orders"][epoch] = numbers
        plain_assign(self, epoch, numbers)

    def batches(features, *rest):
        found["features"][len(found["orders"])] = features
        return neighbour_batches(features, *rest)

    plain_assign = EpochOrder.assign
    monkeypatch.setattr(EpochOrder, "assign", assign)
    monkeypatch.setattr(neighbour_negatives, "neighbour_batches", batches)
    return found


def as_batches(order):
    return {frozenset(batch) for batch in order.reshape(-1, BATCH).tolist()}


def assert_same_run(run, other):
    assert run.history.read_bytes() == other.history.read_bytes()
    weights = [load_encoder(it.folder).get_weights() for it in (run, other)]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("positives", ["object", "image"])
def test_a_stream_has_the_pairs_of_its_order_in_each_epoch(positives, configured):
    config = configured()
    data = open_data(config).in_memory(True, with_margin=False, report=False)
    count = pair_count(data, "train", positives) // BATCH * BATCH
    order, generator = EpochOrder(count), np.random.default_rng(0)
    nothing = build_augment(load_config("contrastive", ["augment.views=[flip]"]).augment)
    names = data.index("train")["object"].tolist()
    images = next(iter(data.references("train").map(lambda it: data.look_up("train", it))))
    options = ("train", nothing, BATCH, 9, 0, False, positives)
    for start, epochs in ((BEGINNING, (0, 4)), (Position(5, 2), (5,))):
        stream = pretraining_batches(data, *options, start, order)
        assert len(stream) == count // BATCH - start.step
        for epoch in epochs:
            numbers = generator.permutation(pair_count(data, "train", positives))[:count]
            order.assign(epoch, numbers)
            firsts = numbers
            if positives == "object":
                objects = naive_objects(names)
                pairs = [naive_pair(objects[n], data.seed, epoch) for n in numbers]
                firsts = np.array([first for first, _ in pairs])
            found = np.concatenate([batch["image"] for batch in stream])
            expected = np.concatenate([images["image"].numpy()] * 1)
            np.testing.assert_array_equal(found, expected[firsts[start.step * BATCH :]])


@pytest.mark.slow
def test_batches_are_random_then_neighbours_then_the_same_again(
    configured, orders, tmp_path, capsys
):
    config = configured("pretrain.neighbours.every_epochs=2")
    pretrain(config, "it", str(tmp_path / "run"))
    made, count = orders["orders"], pair_count(open_data(config), "train", "object")
    assert sorted(made) == [0, 1, 2, 3]
    assert sorted(orders["features"]) == [1, 3]  # by the number of orders before
    assert all(len(features) == count for features in orders["features"].values())
    assert as_batches(made[1]) == as_batches(made[2])
    assert not np.array_equal(made[1], made[2])
    assert as_batches(made[2]) != as_batches(made[3])
    for order in made.values():
        assert len(set(order.tolist())) == len(order) == count // BATCH * BATCH
    out = capsys.readouterr().out
    assert (
        "negatives: neighbours in feature space from epoch 2 on; finding them takes a pass of the "
        f"encoder over {count} images, every 2 epochs" in out.splitlines()
    )


@pytest.mark.slow
def test_features_are_of_one_image_of_each_object_by_the_encoder_as_it_is(
    configured, orders, tmp_path
):
    # With the rate zero the encoder of the end is that of the renewal.
    still = ("optimizer.learning_rate=1e-30", "optimizer.weight_decay=0")
    config = configured(*still, "train.epochs=2")
    run = pretrain(config, "it", str(tmp_path / "run"))
    data = open_data(config)
    firsts = [indices[0] for indices in naive_objects(data.index("train")["object"].tolist())]
    images = np.stack([example["image"] for example in data.examples("train")])[firsts]
    expected = load_encoder(run.folder)(images).numpy()
    np.testing.assert_allclose(orders["features"][1], expected, rtol=1e-4, atol=1e-5)


RENEWED = ("train.epochs=3", "pretrain.neighbours.every_epochs=2")


@pytest.fixture(scope="module")
def whole(configured, tmp_path_factory):
    """A run of `RENEWED` that nothing stopped."""
    with eagerly(), without_pictures():
        return pretrain(configured(*RENEWED), "it", str(tmp_path_factory.mktemp("runs") / "whole"))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["within", "before", "between"])
def test_a_run_that_is_stopped_resumes_exactly(where, configured, whole, tmp_path, monkeypatch):
    steps = pair_count(open_data(configured()), "train", "object") // BATCH
    assert steps > 3
    # The last step saved: in the second epoch, before its renewal, before the same batches again.
    step = {"within": steps + 2, "before": steps, "between": 2 * steps}[where]
    config = configured(*RENEWED, f"checkpoint.every_steps={step}")
    with monkeypatch.context() as patch, pytest.raises(Stop):
        break_off_in_step(patch, CollapseWarning, step + 1)
        pretrain(config, "it", str(tmp_path / "run"))
    (saved,) = sorted((tmp_path / "run" / "checkpoints").glob(f"step-{step:09d}"))
    state = json.loads((saved / "state.json").read_text())["recorders"]["NeighbourNegatives"]
    assert state["epoch"] == (step - 1) // steps
    assert len(state["numbers"]) == steps * BATCH
    assert_same_run(pretrain(config, "it", str(tmp_path / "run")), whole)


@pytest.mark.slow
def test_the_order_of_a_checkpoint_counts_not_one_found_anew(configured, tmp_path, monkeypatch):
    steps = pair_count(open_data(configured()), "train", "object") // BATCH
    config = configured(f"checkpoint.every_steps={steps + 2}", "train.epochs=2")
    whole = pretrain(config, "it", str(tmp_path / "whole"))
    with monkeypatch.context() as patch, pytest.raises(Stop):
        break_off_in_step(patch, CollapseWarning, steps + 3)
        pretrain(config, "it", str(tmp_path / "run"))
    monkeypatch.setattr(neighbour_negatives, "neighbour_batches", None)  # which is not called
    assert_same_run(pretrain(config, "it", str(tmp_path / "run")), whole)


@pytest.mark.parametrize(
    ("words", "name", "line"),
    [
        (("data.in_memory=false",), "contrastive", "needs the images in memory"),
        (("train.batch_size=16",), "contrastive", "needs two batches in an epoch"),
        (("train.epochs=1",), "contrastive", r"first_epochs below train\.epochs, which is 1"),
        ((), "byol", "must be random for pretrain.method=byol; only contrastive"),
    ],
)
def test_what_cannot_have_neighbours_is_refused(words, name, line, configured, tmp_path):
    with pytest.raises(RequestError, match=line):
        pretrain(configured(*words, name=name), "it", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
