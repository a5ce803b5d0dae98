"""Run folders of untrained networks, for tests of the evaluation."""

import keras
import numpy as np
import pandas as pd

from deeplens_tf.data.prepared_data import dataset_facts, open_data
from deeplens_tf.models import DownstreamModel
from deeplens_tf.models.heads import MassHead, classification_head
from deeplens_tf.runs.new_run import create_run
from deeplens_tf.runs.seen_images import TRAINED, VALIDATION, images_of, record_images
from deeplens_tf.training.training_range import training_range
from tests.models.tiny import tiny_vit


def finetuned(folder, config, weights_seed=1, depth=1):
    """A fine-tuning run on the images of the configuration, with random weights.

    Its `images.csv` says that it was trained on the training split.
    """
    data = open_data(config)
    keras.utils.set_random_seed(weights_seed)
    encoder = tiny_vit(image_shape=data.image_shape, depth=depth)
    encoder.preprocessing = data.preprocessing
    spread = training_range(data, np.ones(data.count("train"), bool))
    if config.finetune.head == "classification":
        head, classes = classification_head(len(data.classes)), data.classes
    else:
        head, classes = MassHead(-23.0, 0.5), ()
    model = DownstreamModel(encoder, head, classes, training_range=spread)
    facts = {"encoder": {"method": None}, **dataset_facts(data)}
    run = create_run("finetune", "it", config, str(folder), facts)
    seen = [images_of(data.index("train"), TRAINED)]
    if data.count("validation"):
        seen.append(images_of(data.index("validation"), VALIDATION))
    record_images(run, pd.concat(seen))
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
