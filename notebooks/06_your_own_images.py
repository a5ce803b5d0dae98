# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 6. Your own images
#
# **What you learn.** How to lay out your images so that every command takes them: a folder of
# arrays with a folder for each class, a folder without labels, and an `axion` folder in the format
# of the published data; and where to look for the files that could not be used.
#
# **What it costs.** About a minute on two cores. The images are made up here, so nothing needs
# to be downloaded. All rules are in [data/README.md](../data/README.md).

# %%
# %matplotlib inline
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown

from deeplens_tf.startup import import_tensorflow

import_tensorflow()  # without its start-up messages
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# %%
SETTINGS = {"images_per_class": 120, "epochs": 3, "published_per_class": 30, "seed": 0}
# Full size, if these were yours (`data.image_size=64` and the encoder's defaults then do better):
# SETTINGS = {"images_per_class": 5000, "epochs": 30, "published_per_class": 5000, "seed": 0}

# %% [markdown]
# ## 1. A folder for each class
#
# The names of the folders are the classes. A file holds one array: `(H, W)`, or with bands
# `(bands, H, W)` or `(H, W, bands)`; the band axis is the one that is smallest. Sizes may differ.
#
# We draw three-band pictures of a round galaxy, and of one with a blue ring around it. This is
# the layout of the real lenses of the DeepLense project.


# %%
def draw(generator, ring):
    """Return a made-up picture in g, r and i: a red galaxy, with or without a blue ring."""
    height, width = generator.integers(60, 80, 2)
    y, x = np.mgrid[:height, :width]
    radius = np.hypot(y - height / 2, x - width / 2)
    galaxy = np.exp(-((radius / generator.uniform(8, 12)) ** 2))
    arc = ring * np.exp(-(((radius - generator.uniform(16, 20)) / 2) ** 2))
    bands = [0.4 * galaxy + arc, 0.7 * galaxy + 0.6 * arc, galaxy + 0.3 * arc]
    return np.stack(bands) + generator.normal(0, 0.05, (3, height, width))


folder = Path("my_images")
generator = np.random.default_rng(SETTINGS["seed"])
for name, ring in (("lenses", 0.5), ("nonlenses", 0.0)):
    (folder / name).mkdir(parents=True)
    for i in range(SETTINGS["images_per_class"]):
        np.save(folder / name / f"{name}_{i:04d}.npy", draw(generator, ring).astype(np.float32))

# %% [markdown]
# Real folders are never clean, so we add two files that cannot be used: a constant image and one
# with a hole.

# %%
np.save(folder / "nonlenses" / "empty.npy", np.zeros((3, 64, 64)))
broken = draw(generator, 0.5)
broken[0, 10, 10] = np.nan
np.save(folder / "lenses" / "hole.npy", broken)

# %% [markdown]
# `prepare_folder` reads every file once, brings all to one size and to values from 0 to 1, and
# writes what training reads. Nothing in your folder is changed.

# %%
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.prepare import summary

prepared = Path("prepared/my_images")
options = {"image_size": 32, "fit": "resize", "validation_fraction": 0.2, "seed": 0}
manifest = prepare_folder(folder, prepared, **options)
print(summary(manifest, prepared))

# %% [markdown]
# What was left out stands in `rejected.csv`, with the reason:

# %%
print((prepared / "rejected.csv").read_text())

# %% [markdown]
# A few bad files are passed over; more than 3 that are also more than 5 % of all stop the
# preparation, since then something is wrong with the folder. `--strict` stops at the first.
#
# On the command line the same is `python -m deeplens_tf.prepare my_images --out
# prepared/my_images --image-size 32`, and the training stages prepare a raw folder themselves when
# given `--data my_images`.
#
# Look at what a network will see before you train it. (A picture shows three bands as red, green
# and blue. Ours are g, r and i, the other way round, so here the blue ring is red.)

# %%
from deeplens_tf.config import load_config
from deeplens_tf.data.batches import open_data, pretraining_batches
from deeplens_tf.figures.image_grids import views_grid

words = [
    "data.image_size=32",
    f"data.validation_fraction={options['validation_fraction']}",
    f"train.epochs={SETTINGS['epochs']}",
    "train.batch_size=32",
]
config = load_config("contrastive", words, data=str(prepared))
data = open_data(config)
batch = next(iter(pretraining_batches(data, "train", config.augment, 3, None)))
views_grid(batch["image"], batch["view_1"], batch["view_2"], "My images and their views")

# %%
from deeplens_tf.evaluation.model_report import evaluate
from deeplens_tf.training.finetuning import finetune
from deeplens_tf.training.pretraining import pretrain

# %%
# %%capture log
encoder_run = pretrain(config, "mine", "runs/pretrained")
tuning = load_config("finetune", [*words, f"finetune.encoder={encoder_run.folder}"], str(prepared))
run = finetune(tuning, "mine", "runs/finetuned")

# %% [markdown]
# There is no folder `my_images_test` beside `my_images`, so the validation images are scored, and
# the report says so:

# %%
from deeplens_tf.figures.classifier_figures import confusion_matrix_figure

report, metrics = evaluate(run, tuning)
title = f"My images, {metrics['split']} split"
confusion_matrix_figure(metrics["confusion_matrix"], data.classes, title)

# %%
Markdown(
    f"**{metrics['accuracy']:.0%}** of {metrics['n_test']} images of the {metrics['split']} split "
    f"were right (chance: {1 / len(data.classes):.0%}). These classes are easy on purpose."
)

# %% [markdown]
# ## 2. A folder without labels
#
# Images right inside the folder, no class folders. That is all that pretraining needs.

# %%
unlabelled = Path("unlabelled")
unlabelled.mkdir()
for i in range(2 * SETTINGS["images_per_class"]):
    np.save(unlabelled / f"image_{i:04d}.npy", draw(generator, ring=0.5 * (i % 2)))

prepared = Path("prepared/unlabelled")
print(summary(prepare_folder(unlabelled, prepared, **options), prepared))

# %%
# %%capture log
words = ["data.image_size=32", "train.epochs=1", "train.batch_size=32"]
config = load_config("contrastive", words, data=str(prepared))
unlabelled_run = pretrain(config, "unlabelled", "runs/unlabelled")

# %%
for name, epoch_run in {"with labels": encoder_run, "without": unlabelled_run}.items():
    print(f"{name}:", *[k for k in pd.read_csv(epoch_run.history) if not k.startswith("val_")])

# %% [markdown]
# There are no labels, so the second run had no probe. The encoder turns images into features,
# which you may use for anything: to search, to sort, to group.

# %%
import deeplens_tf
from deeplens_tf.data.batches import image_batches
from deeplens_tf.figures.image_grids import image_grid

encoder = deeplens_tf.load_encoder(unlabelled_run.folder)
images = np.concatenate(list(image_batches(open_data(config), "validation", 64)))
features = encoder.predict(images, verbose=0)
features = features - features.mean(axis=0)
print(images.shape, "->", features.shape)

first_axis = np.linalg.svd(features, full_matrices=False)[0][:, 0]
order = np.argsort(first_axis)
ends = [*order[:5], *order[-5:]]
image_grid(images[ends], columns=5, title="Both ends of the features' first principal axis")

# %% [markdown]
# Where labels are needed, their absence is said in one line:

# %%
from deeplens_tf.errors import RequestError

labels_needed = load_config("finetune", [*words, "finetune.encoder=none"], str(prepared))
try:
    finetune(labels_needed, "no-labels")
except RequestError as error:
    print(error)

# %% [markdown]
# ## 3. An `axion` folder in the published format
#
# The published `axion` files are not plain arrays: each is a *pickled* object array of two
# elements, the image and the axion's mass in eV. We write such files from simulated lenses:

# %%
from deeplens_tf.simulation.render import render_image
from deeplens_tf.simulation.request import SimulationRequest

published = Path("Model_II")
count = SETTINGS["published_per_class"]
request = SimulationRequest("model_ii", count, published)
for name in ("axion", "no_sub"):
    (published / name).mkdir(parents=True)
    for i in range(count):
        lens = request.lens(name, i)
        content = render_image(lens)
        if name == "axion":
            pair = np.empty(2, object)
            pair[:] = content, lens.axion_mass_ev
            content = pair
        np.save(request.image_path(name, i), content)

image, mass_ev = np.load(request.image_path("axion", 0), allow_pickle=True)
print("image", image.shape, "mass", mass_ev, "eV")

# %% [markdown]
# `np.load(..., allow_pickle=True)` was fine for a file that we have just written. For a file from
# somewhere else it is not: a pickle can run any program when it is loaded. This package reads the
# pairs without running anything in them, and refuses all else. Let us add a file that would, if
# loaded that way, run a command:


# %%
class Command:
    """Pickles as a call of `print`; it could as well be a call that deletes your files."""

    def __reduce__(self):
        """Say what is to be called when this is loaded."""
        return print, ("I ran code on your machine!",)


pair = np.empty(2, object)
pair[:] = image, Command()
np.save(published / "axion" / "stranger.npy", pair)

prepared = Path("prepared/model_ii")
manifest = prepare_folder(published, prepared, **{**options, "fit": "crop"})
print(summary(manifest, prepared))

# %% [markdown]
# The masses were read, the stranger's file was not, and nothing ran:

# %%
print((prepared / "rejected.csv").read_text())

# %%
table = open_data(
    load_config("finetune", ["data.image_size=32", "data.fit=crop"], str(prepared))
).index("train")
table.groupby("label")["mass_ev"].agg(["size", "count", "min", "max"])

# %% [markdown]
# Images of label 0 (`axion`) have a mass, those of label 1 (`no_sub`) have none. To measure
# masses, go on as in [tutorial 5](05_regression_of_the_axion_mass.ipynb). If your masses are in
# a table and not in the files, put `masses.csv` with the columns `file` and `mass_ev` into the
# class folder: `simulate` writes such a table.
