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
SETTINGS = {
    "images_per_class": 600,
    "test_images_per_class": 300,
    "epochs": 4,
    "small_epochs": 6,
    "seed": 0,
}
# Full size, that of the published data:
# SETTINGS = {
#     "images_per_class": 30_000,
#     "test_images_per_class": 5000,
#     "epochs": 30,
#     "small_epochs": 6,
#     "seed": 0,
# }

# %%
from deeplens_tf.config import load_config
from deeplens_tf.data.batches import open_data, pretraining_batches
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.simulation.generation import simulate
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

# %%
# %%capture log
run = pretrain(config, "byol", "runs/byol")

# %%
from deeplens_tf.figures.training_curves import training_curves

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
# linear layer as projector, and $\beta = 0$, so that the target is the online network itself. The
# networks are small, so this does not take long. Both start from the same encoder.


# %%
def small_whole():
    """Return BYOL with all that prevents its collapse."""
    heads = [batch_norm_mlp((128, 64), name) for name in ("projector", "predictor")]
    return small_byol(*heads, beta=0.99)


def small_stripped():
    """Return BYOL without it."""
    linear = keras.Sequential([keras.layers.Dense(64)], name="projector")
    return small_byol(linear, keras.layers.Identity(name="predictor"), beta=0.0)


# %%
from deeplens_tf.training.callbacks import COLLAPSED_BELOW, CollapseWarning
from deeplens_tf.training.optimizers import build_optimizer

epochs, size = SETTINGS["small_epochs"], config.train.batch_size
steps = data.count("train") // size


def train(model):
    """Train on the two views of each image, as `pretrain` does; return the model and history."""
    optimizer = build_optimizer(config.optimizer, steps, epochs)
    model.compile(optimizer=optimizer, jit_compile=config.train.jit_compile)
    batches = pretraining_batches(data, "train", config.augment, size, epochs)
    fitted = model.fit(
        batches,
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=[CollapseWarning()],
        verbose=0,
    )
    return model, pd.DataFrame({name: fitted.history[name] for name in ("loss", "feature_std")})


whole, whole_history = train(small_whole())
stripped, stripped_history = train(small_stripped())

# %%
training_curves({"BYOL, small": whole_history, "stripped": stripped_history}, "Collapse")

# %% [markdown]
# The line before the curves is the warning that `pretrain` gives too, as soon as `feature_std`
# falls below a threshold. How low is low? An untrained network gives to all these images, which
# resemble each other, features that are much alike already. It is the *control* of this
# experiment. What the numbers mean is seen best when we compare the projections of twelve images
# with each other, before the training and after it. Where all are alike, every cosine is 1:

# %%
from tutorial_figures import similarity_figure

from deeplens_tf.losses import normalised
from deeplens_tf.models.collapse import feature_std

images = next(iter(pretraining_batches(data, "validation", config.augment, size, None)))["image"]
models = {
    "BYOL, untrained": small_whole(),
    "BYOL": whole,
    "stripped, untrained": small_stripped(),
    "stripped": stripped,
}
features = {name: model.encoder(images) for name, model in models.items()}
directions = {
    name: normalised(model.projector(features[name])).numpy() for name, model in models.items()
}
cosines = {name: rows @ rows.T for name, rows in directions.items()}
twelve = {name: matrix[:12, :12] for name, matrix in cosines.items()}
similarity_figure(twelve, "Projections of twelve images")

# %%
others = ~np.eye(len(images), dtype=bool)
collapse = pd.DataFrame(
    {
        "mean cosine of different images": {k: m[others].mean() for k, m in cosines.items()},
        "feature_std": {k: float(feature_std([f])) for k, f in features.items()},
    }
)
collapse.round(4)

# %%
spread, cosine = collapse["feature_std"], collapse["mean cosine of different images"]
Markdown(
    f"The stripped network ends at a loss of **{stripped_history['loss'].iloc[-1]:.5f}**, BYOL at "
    f"**{whole_history['loss'].iloc[-1]:.3f}**. By the loss the stripped one would be the better. "
    f"But from the encoder that both began with, of a `feature_std` of "
    f"{spread['stripped, untrained']:.3f} on these {len(images)} validation images, it went to "
    f"**{spread['stripped']:.3f}**, below the {COLLAPSED_BELOW} at which the package warns; BYOL "
    f"went to **{spread['BYOL']:.3f}**. The cosines of the stripped network are near 1 before the "
    f"training too ({cosine['stripped, untrained']:.3f}, then {cosine['stripped']:.4f}): only "
    f"beside the control does one see what the training did. BYOL's went the other way, from "
    f"{cosine['BYOL, untrained']:.3f} to {cosine['BYOL']:.3f}."
)

# %% [markdown]
# BYOL's matrix has a pattern: many images are alike to each other, and some stand apart from all of
# these, as if there were two groups. What tells them apart? The images are simulated, so we can ask
# where their sources are.

# %%
from sklearn.metrics import roc_auc_score

request = SimulationRequest("model_ii", SETTINGS["images_per_class"], lenses, seed)
rows = data.index("validation").head(len(images))
drawn = [request.lens(Path(f).parent.name, int(Path(f).stem[-8:])) for f in rows["file"]]
offset_arcsec = np.array([np.hypot(lens.source_x_arcsec, lens.source_y_arcsec) for lens in drawn])
centred = directions["BYOL"] - directions["BYOL"].mean(axis=0)
one_group = np.linalg.svd(centred, full_matrices=False)[0][:, 0] > 0
if np.median(offset_arcsec[one_group]) > np.median(offset_arcsec[~one_group]):
    one_group = ~one_group
order = np.argsort(~one_group, kind="stable")
similarity_figure({"BYOL, sorted by group": cosines["BYOL"][order][:, order]}, "Two groups")

# %%
far = roc_auc_score(~one_group, offset_arcsec)
same_class = [np.bincount(rows["label"][group], minlength=3) for group in (one_group, ~one_group)]
Markdown(
    f"Sorted along the direction in which the projections differ most, {one_group.sum()} and "
    f"{(~one_group).sum()} images. The sources of the first are "
    f"**{np.median(offset_arcsec[one_group]):.2f} arcsec** off the centre (median), those of the "
    f"second **{np.median(offset_arcsec[~one_group]):.2f} arcsec**; of two images, one of each "
    f"group, the one of the second has its source farther off in **{far:.0%}** of the pairs. The "
    f"classes ({', '.join(data.classes)}) are in both: {same_class[0].tolist()} and "
    f"{same_class[1].tolist()}. So this is no collapse, and yet not much has been learned: mainly "
    f"how far the source is off the centre, that is, how evenly the ring is lit."
)

# %% [markdown]
# So a falling loss alone is no good news in BYOL. Look at `feature_std` in `history.csv`, beside
# that of the untrained network, and at the probe.
#
# ## Probe and control
#
# Back to the run of this tutorial. As in tutorial 2, the probe of the pretrained encoder stands
# beside that of the same network with random weights.

# %%
from deeplens_tf.evaluation.comparison import QUANTITIES, compare, read_entries
from deeplens_tf.evaluation.comparison_figure import comparison_figure
from deeplens_tf.evaluation.probe_report import evaluate_probe

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
