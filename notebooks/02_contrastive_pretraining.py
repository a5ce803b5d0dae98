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
# **What you learn.** The contrastive loss, computed step by step for a batch of four images and
# compared with the function of the package; how to pretrain an encoder with Keras's `fit`; how to
# measure what it has learned with a *probe*, and why this number needs a *control*.
#
# **What it costs.** About two minutes on two cores.

# %%
# %matplotlib inline
import logging

import numpy as np
import pandas as pd
from IPython.display import Markdown

import deeplens_tf as dl

dl.import_tensorflow()  # without its start-up messages
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# %%
SETTINGS = {"images_per_class": 600, "test_images_per_class": 300, "epochs": 6, "seed": 0}
# Full size, that of the published data:
# SETTINGS = {"images_per_class": 30_000, "test_images_per_class": 5000, "epochs": 30, "seed": 0}

# %% [markdown]
# ## Images
#
# Simulated as in [tutorial 1](01_data_and_pretexts.ipynb). Training uses the central crop of
# 32 x 32 pixels. The test images are in a folder `data/lenses_test`, which `open_folder` finds next
# to `data/lenses`.

# %%
seed = SETTINGS["seed"]
count, test_count = SETTINGS["images_per_class"], SETTINGS["test_images_per_class"]
dl.simulation.simulate("data/lenses", count, seed=seed, jobs=2)
dl.simulation.simulate("data/lenses", test_count, seed=seed, split="test", jobs=2)

data = dl.data.open_folder("data/lenses", image_size=32, fit="crop", seed=seed)
print("images:", {split: data.count(split) for split in ("train", "validation", "test")})

# %% [markdown]
# ## The loss, step by step
#
# We take four images and two views of each. The *encoder* turns a view into features. A small
# network, the *projector*, turns the features into a vector for the loss: $p_i$ for view 1 of image
# $i$, and $q_i$ for view 2. Both networks still have random weights.

# %%
import keras

keras.utils.set_random_seed(seed)
encoder = dl.models.build_encoder("vit_nano", data.image_shape, patch_size=4)
projector = dl.models.projection_head(256)

augment = dl.augment.Augment(["flip", "rotation"])
batch = next(iter(dl.data.view_batches(data, augment, batch_size=4)))
p, q = (projector(encoder(batch[view])).numpy() for view in ("view_1", "view_2"))
print("projections of one view:", p.shape)
pixel_arcsec = dl.simulation.pixel_scale_arcsec("model_ii")
views = [batch[key] for key in ("image", "view_1", "view_2")]
dl.figures.views_grid(*views, "A batch of four images", pixel_scale_arcsec=pixel_arcsec)

# %% [markdown]
# **1. Normalise.** Only the direction of a projection matters:
# $\hat p_i = p_i / \lVert p_i \rVert$.
#
# **2. Compare all pairs.** The cosine of view 1 of image $i$ and view 2 of image $j$ is
# $c_{ij} = \hat p_i \cdot \hat q_j$. The two views of one image, which we call partners, are on the
# diagonal. With random weights all cosines are close to 1: the projections hardly depend on the
# image.

# %%
from tutorial_figures import similarity_figure

p_hat = p / np.linalg.norm(p, axis=1, keepdims=True)
q_hat = q / np.linalg.norm(q, axis=1, keepdims=True)
cosines = p_hat @ q_hat.T
similarity_figure({"view 1 (rows), view 2 (columns)": cosines}, "Cosines of a batch of four")

# %% [markdown]
# **3. Divide by a temperature $\tau$.** A small temperature makes small differences large.
#
# **4. Find the partner in each row.** A softmax over row $i$ gives the probability that view 1 of
# image $i$ is matched with view 2 of image $j$. The loss is the cross-entropy with the correct
# match:
#
# $$\ell_i^{\rightarrow} = -\log\frac{\exp(c_{ii}/\tau)}{\sum_j \exp(c_{ij}/\tau)}.$$
#
# **5. Do the same for the columns**, from view 2 to view 1, and average the two losses.

# %%
temperature = 0.1
similarities = cosines / temperature


def row_cross_entropy(logits):
    """Return the cross-entropy of each row, whose correct column is the one on the diagonal."""
    return np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)


by_hand = (row_cross_entropy(similarities) + row_cross_entropy(similarities.T)) / 2
from_package = dl.losses.contrastive_loss(p, q, temperature).numpy()
np.testing.assert_allclose(by_hand, from_package, rtol=1e-4)
print("by hand:", by_hand)
print("package:", from_package)

# %% [markdown]
# Both agree. To judge a value of the loss, it helps to know two special cases. If all projections
# are equal, each row is a guess among $N$ images, and the loss is $\log N$. If partners are equal
# and all other pairs are orthogonal, it is $\log(1 + (N-1)\,e^{-1/\tau})$.

# %%
batch_size = 128
equal = dl.losses.contrastive_loss(np.ones((batch_size, 8)), np.ones((batch_size, 8)), temperature)
apart = dl.losses.contrastive_loss(np.eye(batch_size), np.eye(batch_size), temperature)
Markdown(
    f"For batches of {batch_size} images the loss is **{np.mean(equal):.3f}** if all projections "
    f"are equal ($\\log N$ = {np.log(batch_size):.3f}), and **{np.mean(apart):.4f}** if partners "
    f"are equal and all other pairs are orthogonal."
)

# %% [markdown]
# ## Pretraining
#
# `ContrastiveModel` combines the encoder, the projector and the loss in a Keras model. It needs no
# labels. `view_batches` makes new views in each epoch, and also shuffles the images: hence
# `shuffle=False` in `fit`. The learning rate rises during the first epoch and then falls to zero
# along a cosine.
#
# (In a terminal, `python -m deeplens_tf.pretrain --config contrastive` does the same and adds
# checkpoints and records. [Tutorial 4](04_from_encoder_to_classifier.ipynb) uses the function
# behind it.)

# %%
train = dl.data.view_batches(data, augment, batch_size)
validation = dl.data.view_batches(data, augment, batch_size, split="validation")

epochs, steps = SETTINGS["epochs"], len(train)
learning_rate = keras.optimizers.schedules.CosineDecay(
    0.0, (epochs - 1) * steps, warmup_target=1e-3, warmup_steps=steps
)
optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=0.05, global_clipnorm=1.0)

model = dl.models.ContrastiveModel(encoder, projector, temperature)
model.compile(optimizer=optimizer)
fitted = model.fit(train, validation_data=validation, epochs=epochs, shuffle=False, verbose=0)

# %%
history = pd.DataFrame(fitted.history).filter(regex="^(val_)?(loss|contrastive_accuracy)$")
dl.figures.training_curves({"contrastive": history}, "Contrastive pretraining")

# %% [markdown]
# The same in numbers:

# %%
history.set_axis(range(1, epochs + 1)).rename_axis("epoch").round(3)

# %%
last = history.iloc[-1]
Markdown(
    f"After {epochs} epochs, **{last['val_contrastive_accuracy']:.0%}** of the views of validation "
    f"images are matched with their partner among {batch_size} candidates (by chance: "
    f"{1 / batch_size:.1%}). The validation loss fell from {history['val_loss'].iloc[0]:.2f} to "
    f"**{last['val_loss']:.2f}**."
)

# %% [markdown]
# ## Probe and control
#
# Are the features that solve this pretext task also useful to distinguish the classes? The loss
# cannot answer this. A *linear probe* can: logistic regression on the features of the frozen
# encoder, fitted to the labels of all training images and scored on the test images.
#
# The score of the probe needs a **control**: the same probe on the same network with its initial
# random weights. Random features of an image are features too, and often good ones. Pretraining has
# helped only if it beats the control. `probe` returns both. Its control gets new random weights;
# with the same seed as above, they are the ones with which our training began.

# %%
keras.utils.set_random_seed(seed)
scores = dl.evaluation.probe(encoder, data)
control = scores["control"]


def with_interval(result, key, value):
    """Return a score with its 95 % interval as text."""
    low, high = result["intervals_95"][key]
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def table_of(result):
    """Return the scores of a probe, each with its interval."""
    rows = {key: with_interval(result, key, result[key]) for key in ("macro_auc", "accuracy")}
    for name, value in result["per_class_auc"].items():
        rows[f"AUC of {name}"] = with_interval(result, f"per_class_auc.{name}", value)
    return rows


pd.DataFrame({"pretrained": table_of(scores), "untrained control": table_of(control)})

# %%
low, high = scores["intervals_95"]["macro_auc"]
verdict = (
    "is **below** the control: features that agree between two views have lost part of the "
    "faint signal that distinguishes the classes"
    if high < control["macro_auc"]
    else "is **above** the control: pretraining has improved the features for these classes"
    if low > control["macro_auc"]
    else "does not differ clearly from the control"
)
Markdown(
    f"The macro AUC of the probe is **{scores['macro_auc']:.3f}** (95 % interval {low:.3f} to "
    f"{high:.3f}), that of the control **{control['macro_auc']:.3f}**. The pretrained encoder "
    f"{verdict}."
)

# %% [markdown]
# A result below the control is not a bug. The loss rewards features that are equal in both views of
# an image and different between images. The shape of the ring or of the arcs is enough for that: it
# depends on how far, and in which direction, the source is offset from the centre. The faint effect
# of the substructure is not needed. This is a finding about these images, and a table of results
# without the control would hide it. [Tutorial 7](07_pairs_that_share_a_lens.ipynb) chooses
# the views so that the substructure is needed.
#
# ## Nearest neighbours
#
# Which images are similar according to the encoder? For a test image we look up the images whose
# features have the largest cosine with its own.

# %%
images = np.stack([example["image"] for example in data.examples("test")])
labels = data.index("test")["label"].to_numpy()
features = encoder.predict(images, verbose=0)
features = features - features.mean(axis=0)
features /= np.linalg.norm(features, axis=1, keepdims=True)

nearest = np.argsort(-features @ features.T, axis=1)[:, :6]  # the first is the image itself
queries = [np.flatnonzero(labels == label)[0] for label in range(len(data.classes))]
shown = nearest[queries].ravel()
dl.figures.image_grid(
    images[shown],
    [data.classes[labels[i]] for i in shown],
    columns=6,
    title="First column: test images; to the right: their nearest neighbours",
    pixel_scale_arcsec=pixel_arcsec,
)

# %%
same = np.mean(labels[nearest[:, 1:]] == labels[:, None])
Markdown(
    f"The neighbours resemble the image in the first column in shape (ring or arcs) and in the "
    f"distribution of brightness, at any orientation. In the complete test set **{same:.0%}** of "
    f"the neighbours have the same class; by chance it would be {1 / len(data.classes):.0%}."
)

# %% [markdown]
# `dl.save_encoder(encoder, "encoder.keras")` would keep the encoder, and `dl.load_encoder` would
# read it again.
#
# Next: [3. BYOL](03_byol_pretraining.ipynb), a method without negatives, and
# [4. From encoder to classifier](04_from_encoder_to_classifier.ipynb), where the encoder is trained
# further with labels. Pretraining may help there even if its probe does not.
