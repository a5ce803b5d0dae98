"""A program that test_distribution.py runs: each training on one device and on two of this CPU.

It leaves `<strategy>-<case>.npz` in the folder it is given, for each case that is named to it, or
`gathered.npz`. A process can have its CPU cut in two only before TensorFlow has looked at it.
"""

import re
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from deeplens_tf.distribution.keras_replicas import StrategyReplicas
from deeplens_tf.distribution.strategy import open_distribution
from tests.training.steps import CASES, MIXED, PRECISIONS, compiled_model, train

PROJECTIONS = (12, 5)


def main(folder, cases):
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    # Which would take longer than the few steps here.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    mirrored = open_distribution("mirrored")
    for case in set(CASES) & set(cases):
        keep(folder / f"none-{case}.npz", *train(case, eager=True))
        keep(folder / f"mirrored-{case}.npz", *train(case, mirrored))
    for precision in set(PRECISIONS) & set(cases):
        keras.config.set_dtype_policy(f"mixed_{precision}")
        keep(folder / f"begun-{precision}.npz", compiled_model(MIXED), {})
        keep(folder / f"none-{precision}.npz", *train(MIXED, eager=True))
        keep(folder / f"mirrored-{precision}.npz", *train(MIXED, mirrored))
    if "gathered" in cases:
        keras.config.set_dtype_policy("float32")
        np.savez(folder / "gathered.npz", **contrastive_gradients(mirrored.strategy))


def keep(path, model, metrics):
    arrays = {f"metrics/{name}": value for name, value in metrics.items()}
    for i, variable in enumerate(model.weights):
        # Keras numbers names by what the process has made before.
        name = f"{i}/{re.sub('_[0-9]+', '', variable.path)}"
        arrays[f"weights/{name}"] = variable.numpy()
        arrays[f"differences/{name}"] = between_replicas(variable.value)
    np.savez(path, **arrays)


def between_replicas(variable):
    """How far the replicas' copies of a variable are apart."""
    copies = [copy.numpy() for copy in getattr(variable, "values", [variable])]
    return max(np.abs(copy - copies[0]).max(initial=0) for copy in copies)


def contrastive_gradients(strategy):
    """InfoNCE of projections of which each replica has a half, and its gradients."""
    halves = np.random.default_rng(0).normal(size=(2, *PROJECTIONS)).astype("float32")
    with strategy.scope():
        model = compiled_model("contrastive")
    model.replicas = StrategyReplicas(strategy)

    def own_part():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        size = PROJECTIONS[0] // 2
        own = [tf.constant(view)[replica * size :][:size] for view in halves]
        with tf.GradientTape() as tape:
            tape.watch(own)
            loss = model.pretext_loss({}, {"projections": own}) / model.replicas.count
        return loss, tape.gradient(loss, own)

    losses, gradients = strategy.run(tf.function(own_part))
    parts = [np.concatenate([part.numpy() for part in view.values]) for view in gradients]
    return {
        "projections": halves,
        "loss": sum(part.numpy() for part in losses.values),
        "gradients": np.stack(parts),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
