# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Contrastive pretraining
#
# **What you learn.** The contrastive loss, built step by step on a batch of four images and checked
# against the package's; how to pretrain an encoder and read its curves; what the encoder learned,
# measured by a *probe* beside the *control* without which such a number says nothing.
#
# **What it costs.** About two minutes on two cores.

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
SETTINGS = {"images_per_class": 600, "test_images_per_class": 300, "epochs": 6, "seed": 0}
# Full size, that of the published data:
# SETTINGS = {"images_per_class": 30_000, "test_images_per_class": 5000, "epochs": 30, "seed": 0}

# %% [markdown]
# ## Images
#
# Simulated as in [tutorial 1](01_data_and_pretexts.ipynb), which also explains `ZOOM`: the central
# 32 of 64 pixels, in patches of 4.

# %%
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.prepare import summary
from deeplens_tf.simulation.generation import simulate
from deeplens_tf.simulation.request import SimulationRequest

lenses = Path("data/lenses")
seed = SETTINGS["seed"]
simulate(SimulationRequest("model_ii", SETTINGS["images_per_class"], lenses, seed), jobs=2)
test = SETTINGS["test_images_per_class"]
simulate(SimulationRequest("model_ii", test, lenses, seed, split="test"), jobs=2)

prepared = Path("data/lenses_32")
manifest = prepare_folder(
    lenses, prepared, image_size=32, fit="crop", validation_fraction=0.1, seed=seed
)
print(summary(manifest, prepared))

# %%
from deeplens_tf.config import load_config
from deeplens_tf.data.batches import open_data, pretraining_batches

ZOOM = ["data.image_size=32", "data.fit=crop", "encoder.patch_size=4"]
words = [*ZOOM, f"train.epochs={SETTINGS['epochs']}", f"seed={seed}"]
config = load_config("contrastive", words, data=str(prepared))
data = open_data(config)

# %% [markdown]
# ## The loss, step by step
#
# Four images, two views of each. An encoder turns each view into features, a small *projector*
# turns these into the vectors $p_i$ (view 1) and $q_i$ (view 2) on which the loss is taken. Both
# have random weights so far.

# %%
import keras

from deeplens_tf.figures.image_grids import views_grid
from deeplens_tf.models import build_encoder
from deeplens_tf.models.heads import projection_head
from deeplens_tf.simulation.render import instrument_for

keras.utils.set_random_seed(seed)
encoder = build_encoder(config.encoder.name, data.image_shape, **config.encoder.options())
projector = projection_head(config.pretrain.projection_width)

batch = next(iter(pretraining_batches(data, "train", config.augment, 4, None)))
p, q = (projector(encoder(batch[view])).numpy() for view in ("view_1", "view_2"))
print("projections of one view:", p.shape)
pixel_arcsec = float(instrument_for("model_ii", 0).simulation.pixel_scale)
views = [batch[key] for key in ("image", "view_1", "view_2")]
views_grid(*views, "A batch of four", pixel_scale_arcsec=pixel_arcsec)

# %% [markdown]
# **1. Normalise.** Only the direction of a projection counts: $\hat p_i = p_i / \lVert p_i \rVert$.
#
# **2. Compare everything with everything.** The cosine of view 1 of image $i$ with view 2 of image
# $j$ is $c_{ij} = \hat p_i \cdot \hat q_j$. Partners stand on the diagonal. With random weights
# all cosines are near 1: the network has not yet learned to tell images apart.

# %%
from tutorial_figures import similarity_figure

p_hat = p / np.linalg.norm(p, axis=1, keepdims=True)
q_hat = q / np.linalg.norm(q, axis=1, keepdims=True)
cosines = p_hat @ q_hat.T
similarity_figure({"view 1 (rows) with view 2": cosines}, "Cosines of a batch of four")

# %% [markdown]
# **3. Sharpen.** The cosines are divided by a temperature $\tau$; small differences become large.
#
# **4. Let each row choose its partner.** A softmax over row $i$ gives the probability that view 1
# of image $i$ picks view 2 of image $j$. The loss is the cross-entropy with the right choice:
#
# $$\ell_i^{\rightarrow} = -\log\frac{\exp(c_{ii}/\tau)}{\sum_j \exp(c_{ij}/\tau)}.$$
#
# **5. The same for the columns**, where view 2 looks for view 1, and the mean of both.

# %%
similarities = cosines / config.pretrain.temperature


def choose_the_diagonal(logits):
    """Cross-entropy of each row with its own place."""
    log_sums = np.log(np.exp(logits).sum(axis=1))
    return log_sums - np.diag(logits)


by_hand = (choose_the_diagonal(similarities) + choose_the_diagonal(similarities.T)) / 2
print("by hand:", by_hand)

# %%
from deeplens_tf.losses import contrastive_loss

from_package = contrastive_loss(p, q, config.pretrain.temperature).numpy()
np.testing.assert_allclose(by_hand, from_package, rtol=1e-4)
print("package:", from_package)

# %% [markdown]
# The same numbers. To know what a loss means it helps to know where it starts and ends. If all
# projections are alike, each row can only guess among $N$ images, and the loss is $\log N$. If
# partners are alike and all others at a right angle, it is $\log(1 + (N-1)\,e^{-1/\tau})$.

# %%
size = config.train.batch_size
alike = contrastive_loss(np.ones((size, 8)), np.ones((size, 8))).numpy().mean()
apart = contrastive_loss(np.eye(size), np.eye(size)).numpy().mean()
Markdown(
    f"For batches of {size}: all alike **{alike:.3f}** ($\\log N$ = {np.log(size):.3f}), partners "
    f"found and all others at right angles **{apart:.4f}**."
)

# %% [markdown]
# ## Pretraining
#
# `pretrain` does it and leaves a *run folder*: the complete configuration, the history, curves,
# the encoder. Labels never reach the encoder. A linear probe is trained beside it on features
# through which no gradient flows back; it watches and does not steer.

# %%
from deeplens_tf.training.pretraining import pretrain

# %%
# %%capture log
run = pretrain(config, "contrastive", "runs/contrastive")

# %%
from deeplens_tf.figures.training_curves import training_curves

history = pd.read_csv(run.history)
training_curves({"contrastive": history}, "Contrastive pretraining")

# %% [markdown]
# The same in numbers. (`history.csv` counts the epochs from 0, pictures and this table from 1.)

# %%
history["epoch"] += 1
history.set_index("epoch").filter(regex="pretext|contrastive|probe_accuracy").round(3)

# %%
last = history.iloc[-1]
choices = min(size, data.count("validation"))
Markdown(
    f"After {len(history)} epochs a view finds its partner among {choices} with probability "
    f"**{last['val_contrastive_accuracy']:.2f}** on images not trained on (guessing: "
    f"{1 / choices:.3f}). The loss there fell from {history['val_pretext_loss'].iloc[0]:.2f} to "
    f"**{last['val_pretext_loss']:.2f}**. Whether what solves the pretext "
    f"is also what tells the classes apart is another question, and the loss cannot answer it: "
    f"the probe's accuracy is **{last['val_probe_accuracy']:.2f}**, with chance at "
    f"{1 / len(data.classes):.2f}."
)

# %% [markdown]
# ## Probe and control
#
# After the training, a fresh *linear probe* (logistic regression on the frozen features, with all
# training labels) says how much of the label can be read from the features. The number needs a
# **control**: the same probe on the same network with the random weights it began with. Random
# features of an image are features too, and often good ones. A pretraining has taught something
# only where it beats the control.
#
# (The probe in the curves above is a watchman: one layer that had few steps, on features that moved
# all the time. The fresh probe is fitted to the end, so it sees more.)

# %%
from deeplens_tf.evaluation.probe_report import evaluate_probe
from deeplens_tf.evaluation.report_folder import summary_table

folder, metrics = evaluate_probe(run, config, "classification", "linear")
control = metrics["control"]
print("pretrained:", summary_table(metrics), "untrained control:", summary_table(control), sep="\n")

# %%
from deeplens_tf.evaluation.comparison import QUANTITIES, compare, read_entries
from deeplens_tf.evaluation.comparison_figure import comparison_figure

table = compare(read_entries([run.folder]))
comparison_figure(table, QUANTITIES["classification"], "Linear probes, with 95 % intervals")

# %%
low, high = metrics["intervals_95"]["macro_auc"]
verdict = (
    "lies **below** the control: by learning what two views have in common, the network lost "
    "some of the faint traces that tell the classes apart"
    if high < control["macro_auc"]
    else "lies **above** the control: the pretraining taught something about the classes"
    if low > control["macro_auc"]
    else "does not differ clearly from the control"
)
Markdown(
    f"The probe's macro AUC is **{metrics['macro_auc']:.3f}** (95 % interval {low:.3f} to "
    f"{high:.3f}), the control's **{control['macro_auc']:.3f}**. So the pretrained encoder "
    f"{verdict}."
)

# %% [markdown]
# Do not be surprised to find it below. The loss asks for features that are the same in both views
# and differ from image to image. The shape of the ring or arcs, whatever its orientation, gives
# that: it follows from how far the source is off the centre, and in which direction. The faint
# trace of the substructure is not needed. This is no fault of the program but a finding about these
# images, which a results table without the control would hide.
#
# ## What the encoder looks at
#
# Take a test image and ask for the images whose features are nearest to its own.

# %%
from deeplens_tf import load_encoder
from deeplens_tf.data.batches import image_batches
from deeplens_tf.figures.image_grids import image_grid

pretrained = load_encoder(run.folder)
images = np.concatenate(list(image_batches(data, "test", 256)))
labels = data.index("test")["label"].to_numpy()
features = pretrained.predict(images, verbose=0)
features = features - features.mean(axis=0)
features /= np.linalg.norm(features, axis=1, keepdims=True)

nearest = np.argsort(-features @ features.T, axis=1)[:, :6]  # the first is the image itself
queries = [np.flatnonzero(labels == label)[0] for label in range(len(data.classes))]
shown = nearest[queries].ravel()
image_grid(
    images[shown],
    [data.classes[labels[i]] for i in shown],
    columns=6,
    title="An image and its neighbours",
    pixel_scale_arcsec=pixel_arcsec,
)

# %%
same = np.mean(labels[nearest[:, 1:]] == labels[:, None])
Markdown(
    f"In each row the first image was asked for and the five others are its neighbours. They "
    f"resemble it in shape, ring or arcs and their brightness, whatever the orientation. Over the "
    f"whole test set **{same:.0%}** of the neighbours are of the same class; by chance it would "
    f"be {1 / len(data.classes):.0%}."
)

# %% [markdown]
# Next: [3. BYOL](03_byol_pretraining.ipynb), which does without negatives, and
# [4. From encoder to classifier](04_from_encoder_to_classifier.ipynb), where labels come in and a
# pretrained start may help although its probe does not.
