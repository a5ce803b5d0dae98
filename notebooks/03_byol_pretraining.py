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
# **What you learn.** How BYOL pretrains without negatives, with an online network and a target
# network; what *collapse* is, how to detect it, and why a low loss does not rule it out; how to
# judge a run by its curves, its probe and the control.
#
# **What it costs.** About two minutes on two cores.

# %%
# %matplotlib inline
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import Markdown

import deeplens_tf as dl

dl.import_tensorflow()  # without its start-up messages
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
seed = SETTINGS["seed"]
count, test_count = SETTINGS["images_per_class"], SETTINGS["test_images_per_class"]
outcome = dl.simulation.simulate("data/lenses", count, seed=seed, jobs=2)
dl.simulation.simulate("data/lenses", test_count, seed=seed, split="test", jobs=2)

data = dl.data.open_folder("data/lenses", image_size=32, fit="crop", seed=seed)
print("images:", {split: data.count(split) for split in ("train", "validation", "test")})

# %% [markdown]
# ## Online network and target network
#
# The contrastive loss of [tutorial 2](02_contrastive_pretraining.ipynb) makes partners similar and
# all other pairs dissimilar. BYOL only does the first. It has two networks:
#
# - The **online** network is an encoder, a projector and a *predictor* on top. It is trained.
# - The **target** network is an encoder and a projector of the same shape. It is not trained by
#   gradients. After each step its weights $\xi$ move a little towards the weights $\theta$ of the
#   online network, with a momentum $\beta$:
#
# $$\xi \leftarrow \beta\,\xi + (1-\beta)\,\theta .$$
#
# From one view, the online network predicts the projection that the target network makes of the
# other view. With the prediction $p$ and the projection of the target $z$, the loss is
#
# $$\mathcal L = 2 - 2\,\frac{p\cdot z}{\lVert p\rVert\,\lVert z\rVert}.$$
#
# It is 0 for equal directions, 2 for orthogonal and 4 for opposite ones. The loss is computed in
# both directions, with the views exchanged, and averaged.

# %%
generator = np.random.default_rng(seed)
p, z = generator.normal(size=(2, 4, 8))
cosines = (p * z).sum(axis=1) / np.linalg.norm(p, axis=1) / np.linalg.norm(z, axis=1)
byol_loss = dl.losses.byol_loss
print(f"by hand {2 - 2 * cosines.mean():.6f}, package {float(byol_loss(p, z)):.6f}")
print(f"equal {abs(float(byol_loss(p, 3 * p))):.1f}, opposite {float(byol_loss(p, -p)):.1f}")

# %% [markdown]
# The update of the target, shown with a small encoder. We shift a weight of the online network, as
# a step of the optimiser might, and update the target four times:

# %%
import keras

SMALL = {"patch_size": 8, "width": 48, "depth": 2, "mlp_width": 192}


def small_byol(projector, predictor, momentum):
    """Return BYOL with a small encoder, which has the same initial weights each time."""
    keras.utils.set_random_seed(seed)
    encoder = dl.models.build_encoder("vit_nano", data.image_shape, **SMALL)
    return dl.models.BYOLModel(encoder, projector, predictor, momentum)


def heads(hidden_width, width):
    """Return the two heads of BYOL, each with one hidden layer and a BatchNorm."""
    widths = (hidden_width, width)
    return [dl.models.batch_norm_mlp(widths, name) for name in ("projector", "predictor")]


model = small_byol(*heads(128, 64), momentum=0.9)
online, target = model.encoder.weights[0], model.target_encoder.weights[0]
online.assign(online + 1.0)
distances = []
for _ in range(4):
    distances.append(float(np.abs(online - target).max()))
    model.update_target()
print("distance of target and online network:", np.round(distances, 4))

# %% [markdown]
# With $\beta = 0.9$, each update removes a tenth of the distance. During pretraining, $\beta$
# starts at 0.99 and rises to 1 along a cosine, so that the target is constant in the end.
#
# ## Pretraining
#
# The optimiser and its schedule are those of tutorial 2. `CollapseWarning` is explained below.

# %%
BATCH_SIZE = 128
augment = dl.augment.Augment(["flip", "rotation"])
batches = dl.data.view_batches(data, augment, BATCH_SIZE)
validation = dl.data.view_batches(data, augment, BATCH_SIZE, split="validation")


def train(model, epochs):
    """Train a model on two views of each image; return its history."""
    steps = len(batches)
    learning_rate = keras.optimizers.schedules.CosineDecay(
        0.0, (epochs - 1) * steps, warmup_target=1e-3, warmup_steps=steps
    )
    model.compile(keras.optimizers.AdamW(learning_rate, weight_decay=0.05, global_clipnorm=1.0))
    fitted = model.fit(
        batches,
        validation_data=validation,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[dl.training.CollapseWarning()],
    )
    return pd.DataFrame(fitted.history).filter(regex="^(val_)?(loss|feature_std)$")


# %%
keras.utils.set_random_seed(seed)
encoder = dl.models.build_encoder("vit_nano", data.image_shape, patch_size=4)
total_steps = SETTINGS["epochs"] * len(batches)
byol = dl.models.BYOLModel(encoder, *heads(512, 128), momentum=0.99, total_steps=total_steps)

images = next(iter(validation))["image"]
untrained_std = float(dl.models.feature_std([encoder(images)]))
history = train(byol, SETTINGS["epochs"])
dl.figures.training_curves({"BYOL": history}, "BYOL pretraining")

# %% [markdown]
# `feature_std` is the spread of the normalised features over the images of a batch. It is 0 if all
# images have the same features, and about 1 if the features point evenly in all directions.
#
# ## Collapse
#
# There is a trivial way to give two views of an image the same features: give *all images* the same
# features. The loss is then zero, and the features contain no information. The loss does not
# prevent this. What prevents it is the predictor, the slow target and the normalisation over the
# batch in the heads. To observe a collapse, we remove all three and train again: no predictor, a
# single linear layer as projector, and $\beta = 0$, so that the target is the online network
# itself. We use the small encoder to save time, for the reduced model and for the complete one.
# Both start from the same encoder weights.


# %%
def small_complete():
    """Return BYOL with everything that prevents collapse."""
    return small_byol(*heads(128, 64), momentum=0.99)


def small_reduced():
    """Return BYOL without predictor, BatchNorm and slow target."""
    linear = keras.Sequential([keras.layers.Dense(64)], name="projector")
    return small_byol(linear, keras.layers.Identity(name="predictor"), momentum=0.0)


complete, reduced = small_complete(), small_reduced()
complete_history = train(complete, SETTINGS["small_epochs"])
reduced_history = train(reduced, SETTINGS["small_epochs"])

# %%
histories = {"complete BYOL": complete_history, "reduced BYOL": reduced_history}
dl.figures.training_curves(histories, "Collapse")

# %% [markdown]
# The line above the curves comes from `CollapseWarning`, which warns when `feature_std` falls below
# a threshold. What is a low value? The lenses resemble each other, so even an untrained network
# gives them similar features. The untrained network is therefore the *control* of this experiment.
# The difference is clearest in the cosines between the projections of twelve images, before and
# after training. If all projections are equal, every cosine is 1:

# %%
from tutorial_figures import similarity_figure

models = {
    "complete, untrained": small_complete(),
    "complete": complete,
    "reduced, untrained": small_reduced(),
    "reduced": reduced,
}
features = {name: model.encoder(images) for name, model in models.items()}
directions = {
    name: keras.ops.normalize(model.projector(features[name]), axis=-1).numpy()
    for name, model in models.items()
}
cosines = {name: rows @ rows.T for name, rows in directions.items()}
twelve = {name: matrix[:12, :12] for name, matrix in cosines.items()}
similarity_figure(twelve, "Projections of twelve images")

# %%
others = ~np.eye(len(images), dtype=bool)
collapse = pd.DataFrame(
    {
        "mean cosine of different images": {k: m[others].mean() for k, m in cosines.items()},
        "feature_std": {k: float(dl.models.feature_std([f])) for k, f in features.items()},
    }
)
collapse.round(4)

# %%
spread, cosine = collapse["feature_std"], collapse["mean cosine of different images"]
Markdown(
    f"The reduced model ends with a loss of **{reduced_history['loss'].iloc[-1]:.5f}**, the "
    f"complete one with **{complete_history['loss'].iloc[-1]:.3f}**. Judged by the loss, the "
    f"reduced model would be better. Both started from the same encoder, with a `feature_std` of "
    f"{spread['reduced, untrained']:.3f} on these {len(images)} validation images. Training "
    f"changed it to **{spread['reduced']:.3f}** in the reduced model and to "
    f"**{spread['complete']:.3f}** in the complete one. The mean cosine of the reduced model was "
    f"high before training ({cosine['reduced, untrained']:.3f}) and is {cosine['reduced']:.4f} "
    f"now: only the comparison with the control shows what training did. In the complete model it "
    f"went from {cosine['complete, untrained']:.3f} to {cosine['complete']:.3f}."
)

# %% [markdown]
# The matrix of the complete model has a pattern, as if there were two groups: images of the same
# group are similar, images of different groups are not. What distinguishes the groups? Since the
# images are simulated, we know the positions of their sources.

# %%
from sklearn.metrics import roc_auc_score

rows = data.index("validation").head(len(images))
paths = [Path(file) for file in rows["file"]]  # such as axion/axion_sim_00000007.npy
lenses = [outcome.request.lens(path.parent.name, int(path.stem[-8:])) for path in paths]
offset_arcsec = np.array([np.hypot(lens.source_x_arcsec, lens.source_y_arcsec) for lens in lenses])
centred = directions["complete"] - directions["complete"].mean(axis=0)
near = np.linalg.svd(centred, full_matrices=False)[0][:, 0] > 0
if np.median(offset_arcsec[near]) > np.median(offset_arcsec[~near]):
    near = ~near
order = np.argsort(~near, kind="stable")
sorted_cosines = cosines["complete"][order][:, order]
similarity_figure({"complete BYOL, sorted by group": sorted_cosines}, "Two groups")

# %%
far = roc_auc_score(~near, offset_arcsec)
classes = [np.bincount(rows["label"][group], minlength=3).tolist() for group in (near, ~near)]
Markdown(
    f"The two groups are the images with a positive and with a negative first principal component "
    f"of the projections: {near.sum()} and {(~near).sum()} images. The median offset of the source "
    f"from the centre is **{np.median(offset_arcsec[near]):.2f} arcsec** in the first group and "
    f"**{np.median(offset_arcsec[~near]):.2f} arcsec** in the second. If we take one image from "
    f"each group, the one from the second has the larger offset in **{far:.0%}** of all pairs. "
    f"Both groups contain all classes ({', '.join(data.classes)}: {classes[0]} and {classes[1]} "
    f"images). This is not a collapse, but what the model has mainly learned is the offset of the "
    f"source, which determines how evenly the ring is illuminated."
)

# %% [markdown]
# A falling loss alone is therefore no evidence of success in BYOL. Compare `feature_std` with that
# of the untrained network, and look at the probe.
#
# ## Probe and control
#
# We return to the first model of this tutorial. As in tutorial 2, we compare the probe of the
# pretrained encoder with that of the same network with its initial random weights.

# %%
keras.utils.set_random_seed(seed)  # the control gets the weights with which training began
scores = dl.evaluation.probe(encoder, data)
columns = ["macro_auc", "accuracy"]
rows = {"BYOL": scores, "untrained control": scores["control"]}
pd.DataFrame({name: {key: row[key] for key in columns} for name, row in rows.items()}).T.round(3)

# %%
low, high = scores["intervals_95"]["macro_auc"]
control = scores["control"]["macro_auc"]
verdict = "below" if high < control else "above" if low > control else "not clearly different from"
Markdown(
    f"The macro AUC of the probe is **{scores['macro_auc']:.3f}** for BYOL (95 % interval "
    f"{low:.3f} to {high:.3f}) and **{control:.3f}** for the untrained control. BYOL is "
    f"**{verdict}** the control. On the {len(images)} validation images, its `feature_std` was "
    f"{untrained_std:.3f} before training and is "
    f"{float(dl.models.feature_std([encoder(images)])):.3f} now."
)

# %% [markdown]
# There are three questions, and each has its own number. Has the network learned the pretext task?
# See the loss. Do the features still differ between images? See `feature_std`. Are they useful for
# *these* classes? See the probe and its control. The effect of substructure is faint, and two views
# can agree without it; see the end of tutorial 2.
#
# Next: [4. From encoder to classifier](04_from_encoder_to_classifier.ipynb).
