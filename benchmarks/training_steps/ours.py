"""The worker of this package: Keras on TensorFlow, compiled by XLA where the stages do so."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.training_steps import rows
from benchmarks.training_steps.weights import multiplications, sizes_of, weights_of
from benchmarks.training_steps.worker import serve
from deeplens_tf.freed_memory import keep_freed_memory
from deeplens_tf.startup import import_tensorflow

if TYPE_CHECKING:
    from deeplens_tf.models.self_supervised import SelfSupervisedModel


class KerasTrainer:
    """A compiled model and its batches, in turn."""

    def __init__(self, model: "SelfSupervisedModel", batches: list[dict[str, Any]]) -> None:
        self.model, self.batches, self.steps = model, batches, 0

    def step(self) -> float:
        """Take one step and return the loss of the pretext."""
        batch = self.batches[self.steps % len(self.batches)]
        self.steps += 1
        self.model.reset_metrics()  # so that the loss is that of the step
        return float(self.model.train_on_batch(batch, return_dict=True)["pretext_loss"])


def main(threads: int) -> None:
    """Serve requests with a number of threads."""
    keep_freed_memory()  # as a training does
    import_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)

    def product(side: int) -> Any:
        a = tf.random.stateless_uniform((side, side), (0, 0))
        return lambda: tf.linalg.matmul(a, a).numpy()

    serve(_build, product)


def _build(request: dict[str, Any], folder: Path) -> tuple[KerasTrainer, dict[str, Any]]:
    import keras
    import tensorflow as tf

    row = rows.ROWS[request["build"]]
    keras.utils.set_random_seed(0)
    model = _model(row)
    batches = [_views(row, number) for number in range(rows.BATCHES)]
    arrays: dict[str, Any] = {
        f"{key}_{i}": values for i, batch in enumerate(batches) for key, values in batch.items()
    }
    weights: dict[str, Any] = weights_of(model)
    np.savez(folder / "views.npz", **arrays)
    np.savez(folder / "weights.npz", **weights)
    on_device = [{key: tf.constant(values) for key, values in batch.items()} for batch in batches]
    facts = {
        "sizes": sizes_of(model.encoder),
        "multiplications": multiplications(model.encoder),
        "versions": f"TensorFlow {tf.__version__}, Keras {keras.__version__}",
    }
    return KerasTrainer(model, on_device), facts


def _model(row: rows.Row) -> "SelfSupervisedModel":
    import keras

    from deeplens_tf import models
    from deeplens_tf.models.encoders import has_convolutions
    from deeplens_tf.models.weight_decay import SelectiveAdamW

    encoder = models.build_encoder(row.encoder, (row.side, row.side, row.bands), **row.options)
    for layer in encoder.top.layers if hasattr(encoder, "top") else ():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # so that the losses can be compared
    probe = models.linear_probe(rows.CLASSES)
    model: SelfSupervisedModel
    if row.method == "contrastive":
        head = models.projection_head(rows.WIDTH)
        model = models.ContrastiveModel(encoder, head, rows.TEMPERATURE, probe)
    else:
        first, second = (models.batch_norm_mlp((rows.HIDDEN, rows.WIDTH), name) for name in "pq")
        model = models.BYOLModel(encoder, first, second, rows.MOMENTUM, probe=probe)
    optimizer = SelectiveAdamW(
        rows.LEARNING_RATE,
        rows.WEIGHT_DECAY,
        epsilon=rows.ADAM_EPSILON,
        global_clipnorm=rows.CLIP_NORM,
    )
    probe_optimizer = keras.optimizers.Adam(rows.PROBE_RATE, epsilon=rows.ADAM_EPSILON)
    compiled = not has_convolutions(encoder)  # as `train.jit_compile: null` chooses on a CPU
    model.compile(optimizer, probe_optimizer=probe_optimizer, jit_compile=compiled)
    return model


def _views(row: rows.Row, number: int) -> dict[str, np.ndarray]:
    """Return two views of simulated lenses by the augmentations of `contrastive.yaml`."""
    import tensorflow as tf

    from deeplens_tf.augment import Augment
    from deeplens_tf.config import load_config
    from deeplens_tf.simulation import CLASSES, draw_lens, render_image

    rng = np.random.default_rng(number)
    labels = np.arange(row.pairs) % len(CLASSES)
    images = np.stack([render_image(draw_lens("model_ii", CLASSES[i], rng)) for i in labels])
    cut = (images.shape[1] - row.side) // 2
    images = images[:, cut : cut + row.side, cut : cut + row.side, None]
    images = (images / images.max((1, 2, 3), keepdims=True)).astype("float32")
    images = np.repeat(images, row.bands, axis=-1)
    augment = Augment(load_config("contrastive").augment.views)
    indices = tf.range(number * row.pairs, (number + 1) * row.pairs, dtype=tf.int64)
    view_1, view_2 = augment.two_views(tf.constant(images), indices, seed=0, epoch=0)
    return {
        "view_1": view_1.numpy(),
        "view_2": view_2.numpy(),
        "image": images,
        "label": labels.astype("int64"),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
