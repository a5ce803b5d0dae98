# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3. BYOL pretraining
#
# **What you learn.** How BYOL pretrains without negatives: an online network and the target it
# follows; what *collapse* is, how it looks, and why a low loss does not show it; curves, probe and
# control.
#
# **What it costs.** About three minutes on two cores.

# %%
# %matplotlib inline
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown

from deeplens_tf.cli import import_tensorflow

import_tensorflow()  # without its start-up messages
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# %%
SETTINGS = {"images_per_class": 1000, "test_images_per_class": 400, "epochs": 5, "seed": 0}
# Full size, that of the published data:
# SETTINGS = {"images_per_class": 30_000, "test_images_per_class": 5000, "epochs": 30, "seed": 0}

# %%
from deeplens_tf.config import load_config
from deeplens_tf.data.datasets import open_data, pretraining_batches
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.simulation.dataset import simulate
from deeplens_tf.simulation.request import SimulationRequest

lenses, prepared = Path("data/lenses"), Path("data/lenses_32")
seed = SETTINGS["seed"]
simulate(SimulationRequest("model_ii", SETTINGS["images_per_class"], lenses, seed), jobs=2)
test = SETTINGS["test_images_per_class"]
simulate(SimulationRequest("model_ii", test, lenses, seed, split="test"), jobs=2)
prepare_folder(lenses, prepared, image_size=32, fit="crop", validation_fraction=0.1, seed=seed)

ZOOM = ["data.image_size=32", "data.fit=crop", "encoder.patch_size=4"]
words = [*ZOOM, f"train.epochs={SETTINGS['epochs']}", f"seed={seed}"]
config = load_config("byol", words, data=str(prepared))
data = open_data(config)
print({split: data.count(split) for split in ("train", "validation", "test")})

# %% [markdown]
# ## Online and target
#
# The contrastive loss of [tutorial 2](02_contrastive_pretraining.ipynb) pulls partners together
# and pushes everything else apart. BYOL only pulls. Two networks look at the two views:
#
# - the **online** network: encoder, projector, and a *predictor* on top. It is trained;
# - the **target** network: encoder and projector of the same shape. It is never trained. After
#   every step it moves a little towards the online one:
#
# $$\xi \leftarrow \beta\,\xi + (1-\beta)\,\theta .$$
#
# The online network has to predict, from one view, what the target makes of the other view. With
# the prediction $p$ and the target's projection $z$ the loss is
#
# $$\mathcal L = 2 - 2\,\frac{p\cdot z}{\lVert p\rVert\,\lVert z\rVert},$$
#
# 0 where both point the same way, 2 at a right angle, 4 for opposite directions. Both views
# play both parts, and the two losses are averaged.

# %%
from deeplens_tf.losses import byol_loss

generator = np.random.default_rng(seed)
p, z = generator.normal(size=(2, 4, 8))
cosines = (p * z).sum(axis=1) / np.linalg.norm(p, axis=1) / np.linalg.norm(z, axis=1)
print(f"by hand {2 - 2 * cosines.mean():.6f}, package {float(byol_loss(p, z)):.6f}")
print(f"alike {abs(float(byol_loss(p, 3 * p))):.1f}, opposite {float(byol_loss(p, -p)):.1f}")

# %% [markdown]
# And the update of the target, on the package's model with a small network:

# %%
import keras

from deeplens_tf.models import BYOLModel, build_encoder
from deeplens_tf.models.heads import batch_norm_mlp

SMALL = {"patch_size": 8, "width": 48, "depth": 2, "mlp_width": 192}


def small_byol(projector, predictor, beta):
    """Return BYOL around a small encoder, with the same weights each time."""
    keras.utils.set_random_seed(seed)
    encoder = build_encoder("vit_nano", data.image_shape, **SMALL)
    return BYOLModel(encoder, projector, predictor, beta)


model = small_byol(
    batch_norm_mlp((128, 64), "projector"), batch_norm_mlp((128, 64), "predictor"), 0.9
)
online, target = model.encoder.weights[0], model.target_encoder.weights[0]
online.assign(online + 1.0)  # as if the optimiser had taken a step
distances = []
for _ in range(4):
    distances.append(float(np.abs(online - target).max()))
    model.update_target()
print("distance of target and online:", np.round(distances, 4))

# %% [markdown]
# With $\beta = 0.9$ a tenth of the distance goes at each step. In pretraining $\beta$ begins near
# 1 and rises to 1 by a cosine: in the end the target stands still.
#
# ## Pretraining

# %%
from deeplens_tf.training.pretraining import pretrain

run = pretrain(config, "byol", "runs/byol")

# %%
from deeplens_tf.evaluation.training_curves import training_curves

history = pd.read_csv(run.history)
training_curves({"BYOL": history}, "BYOL pretraining")

# %% [markdown]
# `loss` is the sum of `pretext_loss`, which is BYOL's, and of `probe_loss`, that of the linear
# probe which watches. `feature_std` is the spread of the features over the images of a batch: 0
# where all images have the same features, about 1 where they point evenly in all directions.
#
# ## Collapse
#
# There is a cheap way to make two views of an image alike: make *all images* alike. A network
# that gives every image the same features has a loss of zero and knows nothing. Nothing in the loss
# forbids it; what prevents it is the predictor, the slow target and the normalisation over the
# batch in the heads. To see it happen we take these away and train again: no predictor, one
# linear layer as projector, a fast target. The network is small, so this does not take long.

# %%
from deeplens_tf.training.optimizers import build_optimizer

EPOCHS = 8
steps = data.count("train") // config.train.batch_size


def train(model):
    """Train on the two views of each image; return the model and its history."""
    optimizer = build_optimizer(config.optimizer, steps, EPOCHS)
    model.compile(optimizer=optimizer, jit_compile=config.train.jit_compile)
    batches = pretraining_batches(data, "train", config.augment, config.train.batch_size, EPOCHS)
    history = model.fit(batches, epochs=EPOCHS, steps_per_epoch=steps, shuffle=False, verbose=0)
    columns = {name: history.history[name] for name in ("loss", "feature_std")}
    return model, pd.DataFrame(columns)


whole, whole_history = train(
    small_byol(batch_norm_mlp((128, 64), "projector"), batch_norm_mlp((128, 64), "predictor"), 0.99)
)
linear = keras.Sequential([keras.layers.Dense(64)], name="projector")
bare, bare_history = train(small_byol(linear, keras.layers.Identity(name="predictor"), 0.9))

# %%
training_curves({"BYOL, small": whole_history, "stripped": bare_history}, "Collapse")

# %%
whole_end, bare_end = whole_history.iloc[-1], bare_history.iloc[-1]
Markdown(
    f"The stripped network ends at a loss of **{bare_end['loss']:.4f}**, BYOL at "
    f"**{whole_end['loss']:.4f}**. By the loss the stripped one would be the better. But its "
    f"`feature_std` went from {bare_history['feature_std'].iloc[0]:.3f} in the first epoch to "
    f"**{bare_end['feature_std']:.3f}**, while BYOL's went from "
    f"{whole_history['feature_std'].iloc[0]:.3f} to **{whole_end['feature_std']:.3f}**."
)

# %% [markdown]
# What the numbers mean is seen at once when we compare the projections of twelve images with
# each other. Where all are alike, every cosine is 1:

# %%
from deeplens_tf.evaluation.tutorial_figures import similarity_figure
from deeplens_tf.losses import normalised

batch = next(iter(pretraining_batches(data, "validation", config.augment, 12, None)))


def projection_cosines(model):
    """Return the cosines of the online projections of twelve images with each other."""
    directions = normalised(model.projector(model.encoder(batch["image"]))).numpy()
    return directions @ directions.T


matrices = {"BYOL": projection_cosines(whole), "stripped": projection_cosines(bare)}
similarity_figure(matrices, "Projections of twelve images")

# %%
off_diagonal = ~np.eye(12, dtype=bool)
means = {name: matrix[off_diagonal].mean() for name, matrix in matrices.items()}
Markdown(
    f"Mean cosine between different images: BYOL **{means['BYOL']:.3f}**, stripped "
    f"**{means['stripped']:.4f}**."
)

# %% [markdown]
# So a falling loss alone is no good news in BYOL. Look at `feature_std` in `history.csv`, and at
# the probe; `pretrain` watches the first for you and warns when it gets too low.
#
# ## Probe and control
#
# Back to the run of this tutorial. As in tutorial 2, the probe of the pretrained encoder stands
# beside that of the same network with random weights.

# %%
from deeplens_tf.evaluation.comparison import QUANTITIES, compare, read_entries
from deeplens_tf.evaluation.comparison_figure import comparison_figure
from deeplens_tf.evaluation.probing import evaluate_probe

folder, metrics = evaluate_probe(run, config, "classification", "linear")
table = compare(read_entries([run.folder]))
comparison_figure(table, QUANTITIES["classification"], "Linear probes, with 95 % intervals")

# %%
low, high = metrics["intervals_95"]["macro_auc"]
control = metrics["control"]["macro_auc"]
verdict = "below" if high < control else "above" if low > control else "not clearly apart from"
Markdown(
    f"Macro AUC of the probe: BYOL **{metrics['macro_auc']:.3f}** (95 % interval {low:.3f} to "
    f"{high:.3f}), untrained control **{control:.3f}**. The pretrained encoder's probe is "
    f"**{verdict}** the control. Its `feature_std` on validation began at "
    f"{history['val_feature_std'].iloc[0]:.3f} and ended at "
    f"{history['val_feature_std'].iloc[-1]:.3f}."
)

# %% [markdown]
# So there are three questions, and each needs its own number. Was the pretext learned? The loss.
# Are the features still features? `feature_std`. Do they help with *these* classes? The probe
# beside its control. Substructure is a faint trace, and agreeing on two views does not need it; see
# the end of tutorial 2.
#
# Next: [4. From encoder to classifier](04_from_encoder_to_classifier.ipynb).
