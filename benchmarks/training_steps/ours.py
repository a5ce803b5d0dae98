"""The worker of this package: Keras on TensorFlow, compiled by XLA as the stages do."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.training_steps import rows
from benchmarks.training_steps.worker import serve
from deeplens_tf.freed_memory import keep_freed_memory
from deeplens_tf.startup import import_tensorflow

if TYPE_CHECKING:
    import keras

    from deeplens_tf.models.self_supervised import SelfSupervisedModel
    from deeplens_tf.models.vit import VisionTransformer

Weights = dict[str, np.ndarray]


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
    weights: dict[str, Any] = _weights(model)
    np.savez(folder / "views.npz", **arrays)
    np.savez(folder / "weights.npz", **weights)
    on_device = [{key: tf.constant(values) for key, values in batch.items()} for batch in batches]
    options = model.encoder.options
    sizes = {key: options[key] for key in ("width", "depth", "heads", "mlp_width")}
    facts = {"sizes": sizes, "versions": f"TensorFlow {tf.__version__}, Keras {keras.__version__}"}
    return KerasTrainer(model, on_device), facts


def _model(row: rows.Row) -> "SelfSupervisedModel":
    import keras

    from deeplens_tf import models
    from deeplens_tf.models.weight_decay import SelectiveAdamW

    encoder = models.build_encoder(row.encoder, (row.side, row.side, 1), **row.options)
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
    model.compile(optimizer, probe_optimizer=probe_optimizer, jit_compile=True)
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
    augment = Augment(load_config("contrastive").augment.views)
    indices = tf.range(number * row.pairs, (number + 1) * row.pairs, dtype=tf.int64)
    view_1, view_2 = augment.two_views(tf.constant(images), indices, seed=0, epoch=0)
    return {
        "view_1": view_1.numpy(),
        "view_2": view_2.numpy(),
        "image": images,
        "label": labels.astype("int64"),
    }


def _weights(model: "SelfSupervisedModel") -> Weights:
    """Return the initial weights by the peer's names, in PyTorch's (out, in) order."""
    found = {f"encoder.{key}": value for key, value in _encoder_weights(model.encoder).items()}
    for name in ("projector", "predictor"):
        head: keras.Sequential | None = getattr(model, name)
        for i, layer in enumerate(() if head is None else head.layers):
            if hasattr(layer, "kernel"):
                found |= _affine(
                    f"{name}.{i}", layer.kernel, layer.bias if layer.use_bias else None
                )
    assert model.probe is not None
    return found | _affine("probe", model.probe.kernel, model.probe.bias)


def _encoder_weights(encoder: "VisionTransformer") -> Weights:
    embedding, width = encoder.embedding, encoder.width
    found = {
        "embedding.weight": np.transpose(embedding.projection.kernel, (3, 2, 0, 1)),
        "embedding.bias": np.asarray(embedding.projection.bias),
        "positions": np.asarray(embedding.positions),
    }
    for i, block in enumerate(encoder.blocks):
        layers = block.attention
        parts = (layers.query_dense, layers.key_dense, layers.value_dense)
        kernel = np.concatenate([np.reshape(part.kernel, (width, width)) for part in parts], 1)
        bias = np.concatenate([np.reshape(part.bias, width) for part in parts])
        out = layers.output_dense
        found |= _affine(f"blocks.{i}.qkv", kernel, bias)
        found |= _affine(f"blocks.{i}.out", np.reshape(out.kernel, (width, width)), out.bias)
        found |= _affine(f"blocks.{i}.mlp_in", block.mlp_in.kernel, block.mlp_in.bias)
        found |= _affine(f"blocks.{i}.mlp_out", block.mlp_out.kernel, block.mlp_out.bias)
    return found


def _affine(name: str, kernel: Any, bias: Any) -> Weights:
    found = {f"{name}.weight": np.asarray(kernel).T}
    return found if bias is None else {**found, f"{name}.bias": np.asarray(bias)}


if __name__ == "__main__":
    main(int(sys.argv[1]))
