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
# **What you learn.** How to lay out your images so that the package can read them: a folder of
# arrays with one folder per class, a folder without labels, and an `axion` folder in the format of
# the published data; and where to find the files that could not be used.
#
# **What it costs.** About a minute on two cores. The images are generated here, so nothing needs
# to be downloaded. All rules are in [data/README.md](../data/README.md).

# %%
# %matplotlib inline
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Image, Markdown

import deeplens_tf as dl

dl.import_tensorflow()  # without its start-up messages
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# %%
SETTINGS = {"images_per_class": 120, "epochs": 3, "published_per_class": 30, "seed": 0}
# Full size, for real images (better with `data.image_size=64` and the encoder's default patches):
# SETTINGS = {"images_per_class": 5000, "epochs": 30, "published_per_class": 5000, "seed": 0}

# %% [markdown]
# ## 1. One folder per class
#
# The names of the folders are the classes. Each file contains one array: `(H, W)`, or with several
# bands `(bands, H, W)` or `(H, W, bands)`. The band axis is the shortest one. Sizes may differ
# if `fit="crop"` cuts out the same number of pixels of each; resizing keeps one pixel scale only if
# all images have one size.
#
# As an example we make images in three bands of a round galaxy, with and without a blue ring around
# it. The real lenses of the DeepLense project have the same layout.


# %%
def draw(generator, ring):
    """Return an image in g, r and i of a red galaxy, with or without a blue ring."""
    height = width = 72
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
# Real folders often contain damaged files. We add two that cannot be used: a constant image, and
# one with a missing value.

# %%
np.save(folder / "nonlenses" / "empty.npy", np.zeros((3, 72, 72)))
broken = draw(generator, 0.5)
broken[0, 10, 10] = np.nan
np.save(folder / "lenses" / "hole.npy", broken)

# %% [markdown]
# `prepare_folder` reads each file once, brings all images to one size, scales their values to
# [0, 1] and writes the files from which training reads. Your folder is not changed.

# %%
prepared = Path("prepared/my_images")
options = {"image_size": 32, "fit": "resize", "validation_fraction": 0.2, "seed": 0}
manifest = dl.data.prepare_folder(folder, prepared, **options)
print(dl.data.summarise(manifest, prepared))

# %% [markdown]
# The files that were left out are listed in `rejected.csv`, each with the reason:

# %%
print((prepared / "rejected.csv").read_text())

# %% [markdown]
# A few unusable files do not stop the preparation. More than 3 that are also more than 5 % of all
# files do, because then something is wrong with the folder. With `strict=True` the first one does.
# Constant images and copies of other images are left out, however many there are.
#
# The same command in a terminal is `python -m deeplens_tf.prepare my_images --out
# prepared/my_images --image-size 32 --set data.validation_fraction=0.2`. If a training stage gets a
# folder of images, `--data my_images`, it prepares them itself.
#
# Before you train, look at a few prepared images and their views. (Three bands are shown as red,
# green and blue. Ours are g, r and i, from blue to red, so the blue ring appears red.)

# %%
data = dl.data.open_folder(prepared, image_size=32)
augment = dl.augment.Augment(["flip", "rotation"])
batch = next(iter(dl.data.view_batches(data, augment, batch_size=3, split="validation")))
views = [batch[key] for key in ("image", "view_1", "view_2")]
dl.figures.views_grid(*views, "My images and their views")

# %% [markdown]
# Now we pretrain, fine-tune and evaluate as in [tutorial 4](04_from_encoder_to_classifier.ipynb):

# %%
# %%capture log
changes = [
    "data.image_size=32",
    f"train.epochs={SETTINGS['epochs']}",
    "train.batch_size=32",
]
pretraining = dl.load_config("contrastive", changes, data=str(prepared))
encoder_run = dl.training.pretrain(pretraining, "mine", "runs/pretrained")

finetuning = [*changes, f"finetune.encoder={encoder_run.folder}"]
config = dl.load_config("finetune", finetuning, data=str(prepared))
run = dl.training.finetune(config, "mine", "runs/finetuned")

# %% [markdown]
# There is no folder `my_images_test` next to `my_images`. Therefore the validation images are
# scored, and the report states this:

# %%
report, metrics = dl.evaluation.evaluate_run(run)
Image(report / "figures/confusion_matrix.png", width=500)

# %%
Markdown(
    f"**{metrics['accuracy']:.0%}** of the {metrics['n_test']} images of the {metrics['split']} "
    f"split are classified correctly (by chance: {1 / len(data.classes):.0%}). These classes are "
    f"easy on purpose."
)

# %% [markdown]
# ## 2. A folder without labels
#
# If the images are in the folder itself, without class folders, they are unlabelled. Pretraining
# needs nothing else.

# %%
unlabelled = Path("unlabelled")
unlabelled.mkdir()
for i in range(2 * SETTINGS["images_per_class"]):
    np.save(unlabelled / f"image_{i:04d}.npy", draw(generator, ring=0.5 * (i % 2)))

prepared = Path("prepared/unlabelled")
print(dl.data.summarise(dl.data.prepare_folder(unlabelled, prepared, **options), prepared))

# %%
# %%capture log
changes = ["data.image_size=32", "train.epochs=1", "train.batch_size=32"]
config = dl.load_config("contrastive", changes, data=str(prepared))
unlabelled_run = dl.training.pretrain(config, "unlabelled", "runs/unlabelled")

# %%
for name, each in {"with labels": encoder_run, "without labels": unlabelled_run}.items():
    print(f"{name}:", *[k for k in pd.read_csv(each.history) if not k.startswith("val_")])

# %% [markdown]
# Without labels, the second run has no online probe. Its encoder turns images into features, with
# which you can search, sort or group images. For example, we sort the validation images by the
# first principal component of their features:

# %%
encoder = dl.load_encoder(unlabelled_run.folder)
data = dl.data.open_folder(prepared, image_size=32)
images = np.stack([example["image"] for example in data.examples("validation")])
features = encoder.predict(images, verbose=0)
print(images.shape, "->", features.shape)

component = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)[0][:, 0]
order = np.argsort(component)
ends = [*order[:5], *order[-5:]]
title = "Smallest (top) and largest (bottom) first principal component"
dl.figures.image_grid(images[ends], columns=5, title=title)

# %% [markdown]
# If a stage needs labels and there are none, the error message says so in one line:

# %%
labels_needed = dl.load_config("finetune", [*changes, "finetune.encoder=none"], data=str(prepared))
try:
    dl.training.finetune(labels_needed, "no-labels")
except ValueError as error:
    print(error)

# %% [markdown]
# ## 3. An `axion` folder in the published format
#
# The published `axion` files are not plain arrays. Each is a *pickled* object array with two
# elements, the image and the axion mass in eV. We simulate a few lenses, which come as plain arrays
# with a table of masses, and rewrite the axions in this format:

# %%
published = dl.simulation.simulate(
    "Model_II", SETTINGS["published_per_class"], classes=["axion", "no_sub"]
).folder


def save_pair(path, image, mass):
    """Write an image and a mass as a pickled object array."""
    pair = np.empty(2, object)
    pair[:] = image, mass
    np.save(path, pair)


masses = pd.read_csv(published / "axion/masses.csv")
for row in masses.itertuples():
    path = published / "axion" / row.file
    save_pair(path, np.load(path), row.mass_ev)
(published / "axion/masses.csv").unlink()

image, mass_ev = np.load(path, allow_pickle=True)
print("image", image.shape, "mass", mass_ev, "eV")

# %% [markdown]
# `np.load(..., allow_pickle=True)` is safe here, because we have just written the file. It is not
# safe for a file from someone else: loading a pickle can run any code. This package reads these
# pairs without running code, and rejects every other pickle. To test this, we add a file that would
# run a command if it were loaded with `allow_pickle=True`:


# %%
class Command:
    """Pickles as a call of `print`; it could be a call that deletes your files."""

    def __reduce__(self):
        """Return the function that is called when this object is loaded, and its arguments."""
        return print, ("I ran code on your machine!",)


save_pair(published / "axion" / "untrusted.npy", image, Command())

prepared = Path("prepared/model_ii")
manifest = dl.data.prepare_folder(published, prepared, **{**options, "fit": "crop"})
print(dl.data.summarise(manifest, prepared))

# %% [markdown]
# The masses were read, the untrusted file was rejected, and no code was run:

# %%
print((prepared / "rejected.csv").read_text())

# %%
table = dl.data.open_folder(prepared, image_size=32, fit="crop").index("train")
table.groupby("label")["mass_ev"].agg(["size", "count", "min", "max"])

# %% [markdown]
# Images of label 0 (`axion`) have a mass, those of label 1 (`no_sub`) have none. To predict masses,
# continue as in [tutorial 5](05_regression_of_the_axion_mass.ipynb). If your masses are in a table
# and not in the files, put `masses.csv` with the columns `file` and `mass_ev` into the class
# folder, as `simulate` does.
#
# Next: [7. Pairs that share a lens](07_pairs_that_share_a_lens.ipynb): what to do if several of
# your images show one object.
