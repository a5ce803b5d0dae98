"""Run folders of untrained networks, for tests of the evaluation."""

import keras
import numpy as np

from deeplens_tf.data.prepared_data import open_data
from deeplens_tf.models import DownstreamModel
from deeplens_tf.models.heads import MassHead, classification_head
from deeplens_tf.runs.new_run import create_run
from tests.models.tiny import tiny_vit


def finetuned(folder, config, weights_seed=1):
    """A fine-tuning run on the images of the configuration, with random weights."""
    data = open_data(config)
    keras.utils.set_random_seed(weights_seed)
    encoder = tiny_vit(image_shape=data.image_shape)
    if config.finetune.head == "classification":
        model = DownstreamModel(encoder, classification_head(len(data.classes)), data.classes)
    else:
        model = DownstreamModel(encoder, MassHead(-23.0, 0.5))
    facts = {"encoder": {"method": None}, "dataset_fingerprint": data.manifest.fingerprint}
    run = create_run("finetune", "it", config, str(folder), facts)
    model.save(run.model)
    return run


def break_weights(run):
    """Set weights of the run's encoder to NaN."""
    model = keras.saving.load_model(run.model)
    variable = model.encoder.trainable_variables[0]
    variable.assign(np.full(variable.shape, np.nan))
    model.save(run.model)


def write_masses(folder, name, count, seed=0):
    """Give the first images of a class folder masses between 1e-24 and 1e-22 eV."""
    masses = 10 ** np.random.default_rng(seed).uniform(-24, -22, count)
    files = sorted(path.name for path in (folder / name).glob("*.npy"))
    rows = [f"{file},{mass!r}" for file, mass in zip(files, masses.tolist(), strict=True)]
    (folder / name / "masses.csv").write_text("\n".join(["file,mass_ev", *rows]) + "\n")
