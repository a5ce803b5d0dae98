"""Many devices compute what one does: on two halves of this CPU."""

import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from deeplens_tf.data.image_data import WHOLE, Share
from deeplens_tf.data.streams import shared
from deeplens_tf.distribution.cluster import slurm_cluster
from deeplens_tf.distribution.keras_replicas import batch_norms
from deeplens_tf.distribution.strategy import ALONE, Distribution, open_distribution
from deeplens_tf.errors import RequestError
from deeplens_tf.models import ContrastiveModel, ResNet50
from deeplens_tf.models.heads import batch_norm_mlp
from tests.distribution.processes import run_program
from tests.training.steps import CASES, CLIP_NORM, PRECISIONS, RATE, STEPS

# float32 leaves up to 1.07e-5 in the weights, on a processor without AVX-512; a batch that is not
# shared rightly leaves 0.02 or more.
TOLERANCE = 2e-5
TEMPERATURE = 0.1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What `two_replicas` leaves: by strategy and case, arrays by name."""
    folder = tmp_path_factory.mktemp("replicas")
    cases = (*CASES, *PRECISIONS, "gathered")
    run_program("tests.distribution.two_replicas", folder, cases)
    return {path.stem: dict(np.load(path)) for path in folder.iterdir()}


def part(arrays, name):
    return {
        key.partition("/")[2]: value for key, value in arrays.items() if key.startswith(f"{name}/")
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_replicas_make_the_steps_of_one_device(trained, case):
    one, two = trained[f"none-{case}"], trained[f"mirrored-{case}"]
    ours, theirs = part(two, "weights"), part(one, "weights")
    assert ours.keys() == theirs.keys()
    for path, weights in theirs.items():
        np.testing.assert_allclose(ours[path], weights, rtol=0, atol=TOLERANCE, err_msg=path)
    assert not any(part(two, "differences").values())
    metrics, expected = (
        {name: value.item() for name, value in part(arrays, "metrics").items()}
        for arrays in (two, one)
    )
    assert metrics == pytest.approx(expected, rel=1e-4)


def moved(arrays, begun):
    """How far each weight that is trained has come, in one row."""
    begun = part(begun, "weights")
    ways = [
        (weights - begun[path]).ravel()
        for path, weights in part(arrays, "weights").items()
        if path in begun and "moving" not in path and "seed" not in path
    ]
    return np.concatenate(ways).astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_replicas_make_clipped_steps_in_mixed_precision(trained, precision):
    begun, one, two = (trained[f"{name}-{precision}"] for name in ("begun", "none", "mirrored"))
    expected, found = (moved(arrays, begun) for arrays in (one, two))
    # In float16 steps are left out until the loss's factor is small enough, which takes a few.
    assert 1 <= round(np.linalg.norm(expected) / (RATE * CLIP_NORM)) <= STEPS
    apart = {"bfloat16": 0.3, "float16": 0.02}[precision]
    assert np.linalg.norm(found - expected) < apart * np.linalg.norm(expected)
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(expected), rel=0.05)


@pytest.mark.slow
def test_byol_follows_once_a_step_on_each_replica(trained):
    updates = [
        value
        for path, value in part(trained["mirrored-byol"], "weights").items()
        if path.endswith("updates")
    ]
    assert updates == [STEPS]


def naive_contrastive_loss(views):
    """InfoNCE of a whole batch by loops: each row against all of the other view, both ways."""
    units = [view / np.linalg.norm(view, axis=1, keepdims=True) for view in views]
    losses = []
    for own, others in (units, units[::-1]):
        for i, row in enumerate(own):
            logits = [row @ other / TEMPERATURE for other in others]
            losses.append(np.log(np.sum(np.exp(logits))) - logits[i])
    return np.mean(losses)


def numerical_gradient(function, values, step=1e-6):
    gradient = np.zeros_like(values)
    for place in np.ndindex(values.shape):
        shift = np.zeros_like(values)
        shift[place] = step
        gradient[place] = (function(values + shift) - function(values - shift)) / (2 * step)
    return gradient


@pytest.mark.slow
def test_gathered_negatives_pass_on_the_whole_gradient(trained):
    gathered = trained["gathered"]
    projections = gathered["projections"].astype(float)
    assert gathered["loss"] == pytest.approx(naive_contrastive_loss(projections), rel=1e-5)
    expected = numerical_gradient(naive_contrastive_loss, projections)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(gathered["gradients"], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_every_batch_norm_is_found_inside_resnet50():
    encoder = ResNet50((32, 32, 1), top_width=4)
    encoder.build()
    model = ContrastiveModel(encoder, batch_norm_mlp((4, 4), "projector"))
    kind = keras.layers.BatchNormalization
    # By identity: the encoder's top and the projector each name their first norm_0.
    every = {id(layer) for layer in model._flatten_layers() if isinstance(layer, kind)}
    assert len(every) == 53 + 3 + 1
    assert {id(layer) for layer in batch_norms(model)} == every


def test_shares_in_order_make_the_batch():
    batches = tf.data.Dataset.range(11).batch(8)  # of references to images
    shares = [list(shared(batches, Share(i, 4), 8).as_numpy_iterator()) for i in range(4)]
    for number, whole in enumerate(batches.as_numpy_iterator()):
        parts = [share[number] for share in shares]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        assert [len(rows) for rows in parts] == ([2, 2, 2, 2], [2, 1, 0, 0])[number]
    assert shared(batches, WHOLE, 8) is batches


def test_a_batch_that_replicas_cannot_share_is_a_wrong_request():
    four = Distribution(SimpleNamespace(num_replicas_in_sync=4))
    four.require_divisible(12)
    assert (four.divisible(10), four.divisible(3)) == (8, 0)
    for size, advice in ((10, 8), (3, 4)):
        with pytest.raises(
            RequestError, match=f"batch_size {size} .* multiple of 4, such as {advice}"
        ):
            four.require_divisible(size)


def test_one_device_changes_nothing():
    assert open_distribution("none") is ALONE
    assert (ALONE.replicas, ALONE.is_chief, ALONE.share) == (1, True, WHOLE)
    assert ALONE.any(True, False) == (True, False)
    assert ALONE.from_chief(b"as it is") == b"as it is"
    assert ALONE.chief_first(lambda: "prepared") == "prepared"
    batches = tf.data.Dataset.range(3)
    assert (ALONE.spread(batches), ALONE.steps(batches)) == (batches, None)


def test_an_unknown_strategy_is_a_wrong_request():
    with pytest.raises(RequestError, match="--strategy many: one of none, auto, mirrored, multi"):
        open_distribution("many")


SLURM = {
    "SLURM_JOB_ID": "40007",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "node[9-10]",
    "SLURM_STEP_TASKS_PER_NODE": "1,2",
}


@pytest.mark.parametrize(
    ("node", "local", "rank", "index"),
    [("node9", 0, 0, 2), ("node10", 0, 1, 0), ("node10", 1, 2, 1)],
)
def test_slurm_tells_each_task_its_own_address(monkeypatch, node, local, rank, index):
    own = {"SLURMD_NODENAME": node, "SLURM_LOCALID": str(local), "SLURM_PROCID": str(rank)}
    for name, value in (SLURM | own).items():
        monkeypatch.setenv(name, value)
    cluster = slurm_cluster()
    assert cluster.addresses == ("node10:12007", "node10:12008", "node9:12007")
    assert cluster.index == index
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_no_cluster_is_a_wrong_request(monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(RequestError, match=r"nor in SLURM.* start it with srun"):
        open_distribution("multiworker")
