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
# **What you learn.** How to get from FITS cutouts and a catalogue to a table of candidates with
# their coordinates; which scale of pixel values to take; how files that cannot be used are
# reported; how to use a folder without labels, and an `axion` folder in the format of the published
# data.
#
# **What it costs.** About two minutes on two cores. The images are simulated here, so nothing needs
# to be downloaded. All rules are in [data/README.md](../data/README.md).

# %%
# %matplotlib inline
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from IPython.display import Image, Markdown

import deeplens_tf as dl

dl.import_tensorflow()  # without its start-up messages
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# %%
SETTINGS = {
    **{"images_per_class": 400, "new_per_class": 100, "pretrain_epochs": 10, "epochs": 20},
    **{"unlabelled": 200, "published_per_class": 30},
}
# Full size:
# SETTINGS = {
#     **{"images_per_class": 10000, "new_per_class": 1000, "pretrain_epochs": 30, "epochs": 30},
#     **{"unlabelled": 2000, "published_per_class": 5000},
# }

# %% [markdown]
# ## 1. FITS cutouts and a catalogue
#
# A survey gives you cutouts as FITS files, and a catalogue that says what is in them. As an example
# we simulate such a folder: lenses and other galaxies in g, r and i, as the Dark Energy Camera
# would see them, with noise. lenstronomy draws the images. Both classes are equally bright, and
# half of the other galaxies have a blue disc around them.

# %%
survey = dict(preset="sersic_survey", format="fits", bands=["g", "r", "i"], catalog=True)
sky = dl.simulation.simulate("sky", SETTINGS["images_per_class"], **survey).folder
fits.info(sky / "lens/lens_sim_00000000.fits")

# %%
catalog = pd.read_csv(sky / "catalog.csv")
catalog.iloc[[0, 1, -2, -1], :6]

# %% [markdown]
# The column `file` is all that a catalogue needs. `label` gives the classes, so the images need no
# folder for each of them; `id`, `ra` and `dec` are kept with the images; any other column of
# numbers, such as `theta_e_arcsec`, can be predicted instead of the classes. The table may be CSV,
# ECSV, FITS or Parquet. Columns with other names are mapped: `catalog_columns={"file": "path"}`.
#
# Real folders contain damaged files. We add two: one that is cut off, and one with a missing pixel.

# %%
first = sky / catalog["file"][0]
(sky / "cut_off.fits").write_bytes(first.read_bytes()[:9000])
cube = fits.getdata(first)
cube[0, 32, 32] = np.nan
fits.writeto(sky / "hole.fits", cube)
bad = pd.DataFrame({"file": ["cut_off.fits", "hole.fits"], "label": "lens", "id": ["bad", "hole"]})
pd.concat([catalog, bad]).to_csv("catalog.csv", index=False)

# %% [markdown]
# ## 2. The scale of pixel values
#
# A network takes values from 0 to 1. By default the faintest pixel of an image becomes 0 and the
# brightest 1, so a bright star or the core of a galaxy leaves little contrast for everything else.
# With an interval between percentiles and an asinh stretch, faint arcs keep their contrast
# ([docs/scaling.md](../docs/scaling.md)):

# %%
scale = dl.data.ValueScale("percentile", stretch="asinh")
raw = [dl.data.read_image(sky / file)[0] for file in catalog["file"][[0, 1, 2]]]
shown = [
    dl.data.resize_and_scale(image, 32, "crop", how)[..., ::-1]  # i, r, g as red, green, blue
    for how in (dl.data.ValueScale(), scale)
    for image in raw
]
dl.figures.image_grid(
    shown, columns=3, title="Lenses: min-max (top), percentile and asinh (bottom)"
)

# %% [markdown]
# `prepare_folder` reads each file once, brings all images to one size and scale, and writes the
# files from which training reads. Your folder is not changed. The ring of these lenses lies in the
# central 32 pixels, so we keep these.

# %%
options = {"image_size": 32, "fit": "crop", "validation_fraction": 0.2, "seed": 0}
prepared = Path("prepared/sky")
how = {"catalog": "catalog.csv", "scale": scale}
manifest = dl.data.prepare_folder(sky, prepared, **options, **how)
print(dl.data.summarise(manifest, prepared))

# %% [markdown]
# The files that were left out are listed in `rejected.csv`, each with the reason:

# %%
print((prepared / "rejected.csv").read_text())

# %% [markdown]
# A few unusable files do not stop the preparation. It stops if more than 3 files and more than 5 %
# of all files are unusable, because then something is wrong with the folder. With `strict=True` one
# is enough. `ValueScale(max_nan_fraction=...)` fills a few missing pixels instead of rejecting the
# image.
#
# In a terminal this is `python -m deeplens_tf.prepare sky --out prepared/sky --catalog catalog.csv
# --image-size 32 --fit crop --set data.interval=percentile --set data.stretch=asinh`. A training
# stage that gets a folder of images prepares them itself.
#
# Before you train, look at some images and their views: `python -m deeplens_tf.prepare prepared/sky
# --preview views.png --config survey` draws them.

# %% [markdown]
# ## 3. From cutouts to candidates
#
# We pretrain with the configuration `survey`, fine-tune and evaluate, as in
# [tutorial 4](04_from_encoder_to_classifier.ipynb):

# %%
# %%capture log
window = ["data.image_size=32", "data.fit=crop", "encoder.patch_size=4"]
changes = [*window, f"train.epochs={SETTINGS['pretrain_epochs']}", "train.batch_size=64"]
pretraining = dl.load_config("survey", changes, data=str(prepared))
encoder_run = dl.training.pretrain(pretraining, "survey", "runs/pretrained")

changes = [*window, f"train.epochs={SETTINGS['epochs']}", "train.batch_size=32"]
finetuning = [*changes, f"finetune.encoder={encoder_run.folder}"]
config = dl.load_config("finetune", finetuning, data=str(prepared))
run = dl.training.finetune(config, "survey", "runs/finetuned")

# %% [markdown]
# This catalogue has no test images (a column `split` could name them), and there is no folder
# `sky_test`. Therefore the validation images are scored, and the report states this:

# %%
report, metrics = dl.evaluation.evaluate_run(run)
Image(report / "figures/confusion_matrix.png", width=500)

# %%
Markdown(
    f"**{metrics['accuracy']:.0%}** of the {metrics['n_test']} images of the {metrics['split']} "
    f"split are classified correctly (by chance: {1 / len(manifest.classes):.0%}). These are "
    f"simulated galaxies; the number says nothing of a survey."
)

# %% [markdown]
# New cutouts arrive. Their catalogue has no labels, and `predict` does not need any. It writes a
# table with the identifiers and the coordinates of the catalogue:

# %%
new = dl.simulation.simulate("new", SETTINGS["new_per_class"], seed=1, **survey).folder
truth = pd.read_csv(new / "catalog.csv")
truth.drop(columns=["label", "theta_e_arcsec"]).to_csv(new / "catalog.csv", index=False)
predictions = dl.inference.predict(run.folder, new, "candidates.csv", catalog=new / "catalog.csv")
table = pd.read_csv(predictions.table).sort_values("p_lens", ascending=False)
table[["id", "ra", "dec", "p_lens"]].head(10)

# %%
best = table.head(12)
images = [dl.data.read_image(new / file)[0] for file in best["file"]]
panels = [dl.data.resize_and_scale(image, 32, "crop", scale)[..., ::-1] for image in images]
dl.figures.image_grid(panels, [f"{p:.3f}" for p in best["p_lens"]], title="The best candidates")

# %% [markdown]
# Here we know the truth:

# %%
labels = table["id"].map(truth.set_index("id")["label"])
lenses = int((labels.head(50) == "lens").sum())
Markdown(
    f"**{lenses} of the first 50** candidates are lenses; half of all {len(table)} cutouts are. In "
    f"a survey lenses are rare, and a list as pure as this one needs a much better classifier."
)

# %% [markdown]
# ## 4. A folder without labels
#
# If the images are in the folder itself, without class folders, they are unlabelled. Pretraining
# needs nothing else.

# %%
unlabelled = Path("unlabelled")
unlabelled.mkdir()
for i, file in enumerate(truth["file"].sample(SETTINGS["unlabelled"], random_state=0)):
    np.save(unlabelled / f"image_{i:04d}.npy", dl.data.read_image(new / file)[0])

prepared = Path("prepared/unlabelled")
manifest = dl.data.prepare_folder(unlabelled, prepared, **options, scale=scale)
print(dl.data.summarise(manifest, prepared))

# %%
# %%capture log
changes = [*window, "train.epochs=1", "train.batch_size=32"]
config = dl.load_config("survey", changes, data=str(prepared))
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
data = dl.data.open_folder(prepared)
images = np.stack([example["image"] for example in data.examples("validation")])
features = encoder.predict(images, verbose=0)
print(images.shape, "->", features.shape)

component = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)[0][:, 0]
order = np.argsort(component)
ends = [*order[:5], *order[-5:]]
title = "Smallest (top) and largest (bottom) first principal component"
dl.figures.image_grid(images[ends][..., ::-1], columns=5, title=title)

# %% [markdown]
# If a stage needs labels and there are none, the error message says so in one line:

# %%
labels_needed = dl.load_config("finetune", [*changes, "finetune.encoder=none"], data=str(prepared))
try:
    dl.training.finetune(labels_needed, "no-labels")
except ValueError as error:
    print(error)

# %% [markdown]
# ## 5. An `axion` folder in the published format
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
manifest = dl.data.prepare_folder(published, prepared, **options)
print(dl.data.summarise(manifest, prepared))

# %% [markdown]
# The masses were read, the untrusted file was rejected, and no code was run:

# %%
print((prepared / "rejected.csv").read_text())

# %%
table = dl.data.open_folder(prepared).index("train")
table.groupby("label")["mass_ev"].agg(["size", "count", "min", "max"])

# %% [markdown]
# Images of label 0 (`axion`) have a mass, those of label 1 (`no_sub`) have none. To predict masses,
# continue as in [tutorial 5](05_regression_of_the_axion_mass.ipynb). If your masses are in a table
# and not in the files, put `masses.csv` with the columns `file` and `mass_ev` into the class
# folder, as `simulate` does.
#
# Next: [7. Pairs that share a lens](07_pairs_that_share_a_lens.ipynb): what to do if several of
# your images show one object.
