"""A batch of one image has nothing to compare: methods that compare refuse it."""

import numpy as np
import pytest
import tensorflow as tf

from tests.models.pretexts import METHODS, make_batch, make_method

COMPARING = METHODS[:-1]  # not inpainting


def steps(model):
    """The ways to give a model a batch of one, with and without a graph."""
    batch = make_batch(1)
    stream = tf.data.Dataset.from_tensor_slices(make_batch(2)).batch(1, drop_remainder=True)
    return {
        "train_on_batch": lambda: model.train_on_batch(batch),
        "arrays": lambda: model.fit(batch, batch_size=1, shuffle=False, verbose=0),
        "stream": lambda: model.fit(stream, shuffle=False, verbose=0),
    }


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("way", ["train_on_batch", "arrays", "stream"])
def test_a_contrastive_batch_of_one_is_refused(way, eager):
    model = make_method("contrastive", depth=1)
    model.compile("sgd", run_eagerly=eager)
    message = r"at least 2 images, which ContrastiveModel compares\. Received: 1"
    with pytest.raises(ValueError, match=message):
        steps(model)[way]()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_that_compares_refuses_it(method):
    model = make_method(method, depth=1)
    model.compile("sgd", run_eagerly=True)
    if method in COMPARING:
        with pytest.raises(ValueError, match="at least 2 images"):
            model.train_on_batch(make_batch(1))
    else:
        assert np.isfinite(model.train_on_batch(make_batch(1))).all()
    assert np.isfinite(model.train_on_batch(make_batch(2))).all()
