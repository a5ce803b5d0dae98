"""A few steps of each kind of training, to be compared between strategies.

SGD and no dropout: Adam makes steps of what is rounding, and each strategy draws its own dropout.
"""

import keras
import numpy as np
import tensorflow as tf

from deeplens_tf.distribution.strategy import ALONE
from deeplens_tf.losses import mae_dex, squared_error_dex
from deeplens_tf.models import DownstreamModel, SelectiveSGD, rate_factors
from deeplens_tf.models.heads import MassHead, classification_head
from deeplens_tf.training.callbacks import HeadFirst
from deeplens_tf.training.methods import build_method
from tests.models.pretexts import CLASSES, METHODS, make_batch, settings
from tests.models.tiny import dense_encoder, tiny_images, tiny_original

# The original's layers on a transformer with the options of the other ones.
PLAIN = {"depth": 1, "pooling": "average", "dropout": 0.0, "position_stddev": 0.02}
BATCH, STEPS = 16, 5
LEFT_OVER = 1  # images in the last batch of a fine-tuning's validation: fewer than replicas
RATE = 0.01
CLIP_NORM = 0.05  # well below the norms of the gradients here
HEADS = ("clipped classification", "regression")
NORMALISED = "normalised contrastive"  # with a BatchNorm in the projector
HEAD_FIRST = "head first classification"  # an epoch each: the head, then all at rates of their own
# The other methods train on two replicas in models/plain_training.py.
CASES = ("byol", NORMALISED, *HEADS, HEAD_FIRST)
VALIDATED = (NORMALISED, *HEADS)
PRECISIONS = ("bfloat16", "float16")
MIXED = "clipped contrastive"  # by small steps, or the rounding of one makes all of the next


def train(case, distribution=ALONE, eager=False):
    """Train for an epoch of five steps; return the model and what `fit` says of the epoch.

    Of `HEAD_FIRST` two epochs.
    """
    epochs = 2 if case == HEAD_FIRST else 1
    with distribution.scope():
        model = compiled_model(case)
    model.run_eagerly = eager
    stream = batches(rows_for(case, BATCH * STEPS * epochs, 1), distribution)
    validation = None
    if case in VALIDATED:
        left_over = LEFT_OVER if case in HEADS else 0
        validation = batches(rows_for(case, BATCH + left_over, 2), distribution)
    distribution.prepare(model, stream.element_spec)
    history = model.fit(
        distribution.spread(stream),
        validation_data=distribution.spread(validation),
        validation_steps=distribution.steps(validation),
        steps_per_epoch=STEPS,
        epochs=epochs,
        callbacks=[HeadFirst(1)] if case == HEAD_FIRST else [],
        shuffle=False,
        verbose=0,
    )
    return model, {name: values[-1] for name, values in history.history.items()}


def kind_of(case):
    return case.removeprefix("clipped ").removeprefix("normalised ").removeprefix("head first ")


def compiled_model(case):
    keras.utils.set_random_seed(0)
    clip_norm = CLIP_NORM if case.startswith("clipped") else None
    model = pretext_model(case) if kind_of(case) in METHODS else downstream_model(kind_of(case))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    optimizer = keras.optimizers.SGD(RATE, global_clipnorm=clip_norm)
    if case == HEAD_FIRST:
        optimizer = SelectiveSGD(RATE, 0.5, rate_factors=rate_factors(model, 0.7, 0.5))
    case = kind_of(case)
    if case in METHODS:
        model.compile(optimizer)
    elif case == "regression":
        model.compile(optimizer, loss=squared_error_dex, metrics=[mae_dex])
    else:
        auc = keras.metrics.AUC(multi_label=True, num_labels=CLASSES, name="auc")
        model.compile(optimizer, loss="categorical_crossentropy", metrics=["accuracy", auc])
    return model


def pretext_model(case):
    # Wide enough that no hidden layer is all zeros for an image: that has no true gradient.
    widths = ("projection_width", "byol.hidden_width", "simsiam.predictor_width")
    words = [f"pretrain.{name}=32" for name in widths]
    if case == NORMALISED:
        words.append("pretrain.contrastive.projector=batch_norm")
    encoder = pretext_encoder(case)
    return build_method(settings(kind_of(case), *words), encoder, CLASSES, total_steps=10)


def pretext_encoder(case):
    """The transformer where it matters; the other cases are about the method."""
    return tiny_original(**PLAIN) if case == MIXED else dense_encoder()


def downstream_model(case):
    if case == "regression":
        return DownstreamModel(dense_encoder(), MassHead(-23.0, 0.5))
    names = ("axion", "cdm", "no_sub")
    return DownstreamModel(tiny_original(**PLAIN), classification_head(CLASSES), names)


def rows_for(case, count, seed):
    case = kind_of(case)
    return pretext_rows(case, count, seed) if case in METHODS else labelled_rows(case, count, seed)


def pretext_rows(case, count, seed):
    """Views of images, of which some in each batch have no label."""
    rows = make_batch(count, seed)
    for name in ("view_1", "view_2", "image"):
        rows[name] *= brightness(count, seed)
    rows["label"][np.arange(count) % BATCH < 3] = -1  # more on one replica than on the other
    rows.pop("patch_order")
    return rows


def labelled_rows(case, count, seed):
    images, labels = tiny_images(count, seed=seed), np.arange(count) % CLASSES
    images = images * brightness(count, seed)
    if case == "regression":
        return images, -23.5 + 0.5 * labels[:, None].astype("float32")
    return images, np.eye(CLASSES, dtype="float32")[labels]


def brightness(count, seed):
    """Factors that tell images of noise apart: a variance that is small is known less well."""
    return np.random.default_rng([seed, 1]).uniform(0.1, 1, (count, 1, 1, 1)).astype("float32")


def batches(rows, distribution):
    """This worker's share of each batch, as `data.datasets` makes it ready."""
    size = BATCH // distribution.workers
    own = slice(distribution.worker * size, (distribution.worker + 1) * size)

    def share(*batch):
        batch = batch[0] if len(batch) == 1 else batch
        return keras.tree.map_structure(lambda values: values[own], batch)

    return tf.data.Dataset.from_tensor_slices(rows).batch(BATCH).map(share)
