# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. Pairs that share a lens
#
# **What you learn.** Why contrastive pretraining on two views of one image need not learn what you
# want to know, and how two images of one lens teach it; how to simulate such pairs and train on
# them; how to measure what features are about.
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
    "lenses_per_class": 800,
    "test_lenses_per_class": 300,
    "epochs_of_pairs": 6,
    "epochs_of_images": 3,
    "few_labels": 100,
    "draws": 5,
    "seed": 0,
}
# Full size, with as many images as the published data:
# SETTINGS = {
#     "lenses_per_class": 15_000,
#     "test_lenses_per_class": 5000,
#     "epochs_of_pairs": 20,
#     "epochs_of_images": 10,
#     "few_labels": 100,
#     "draws": 5,
#     "seed": 0,
# }

# %% [markdown]
# ## Two images of each lens
#
# With `views_per_lens=2` the simulator makes two images of each lens: the same halo and the same
# substructure, but another position of the source behind them. `objects.csv` in the folder says
# which images show one lens. Images of one lens are in one split, and each test image shows a lens
# of its own.

# %%
seed = SETTINGS["seed"]
train_count, test_count = SETTINGS["lenses_per_class"], SETTINGS["test_lenses_per_class"]
simulated = {
    "train": dl.simulation.simulate(
        "data/lenses", train_count, views_per_lens=2, seed=seed, jobs=2
    ),
    "test": dl.simulation.simulate("data/lenses", test_count, split="test", seed=seed, jobs=2),
}
data = dl.data.open_folder("data/lenses", image_size=32, fit="crop", seed=seed)
print("images:", {split: data.count(split) for split in ("train", "validation", "test")})

# %% [markdown]
# Pretraining compares two views of everything in a batch. `positives` says what they are made of.
# With `image` both are made of one image, flipped and turned:

# %%
augment = dl.augment.Augment(["flip", "rot90"])
pixel_arcsec = dl.simulation.pixel_scale_arcsec("model_ii")


def show_views(positives):
    """Show the views of three lenses."""
    batch = next(iter(dl.data.view_batches(data, augment, batch_size=3, positives=positives)))
    views = [batch[key] for key in ("image", "view_1", "view_2")]
    title = f"positives: {positives}"
    return dl.figures.views_grid(*views, title, pixel_scale_arcsec=pixel_arcsec)


show_views("image")

# %% [markdown]
# With `object` they are made of two images of one lens. The arcs look different, since the source
# is elsewhere. All our lenses have the same halo, so the substructure is all that these two views
# share and other lenses do not:

# %%
show_views("object")

# %% [markdown]
# ## Two encoders
#
# We pretrain the same network in both ways, with the configuration `contrastive`, whose projector
# has a BatchNorm. An epoch has one pair of each image or of each lens, and there are twice as many
# images: with half as many epochs both take the same number of steps.

# %%
# %%capture log
epochs = {"image": SETTINGS["epochs_of_images"], "object": SETTINGS["epochs_of_pairs"]}


def pretrain(positives):
    """Return the run of an encoder that is pretrained on such positives."""
    changes = ["data.image_size=32", "data.fit=crop", "encoder.patch_size=4", f"seed={seed}"]
    changes += [f"pretrain.positives={positives}", f"train.epochs={epochs[positives]}"]
    changes += ["train.batch_size=64"]  # more steps from few lenses
    config = dl.load_config("contrastive", changes, data=str(data.folder))
    return dl.training.pretrain(config, positives, f"runs/{positives}")


runs = {positives: pretrain(positives) for positives in epochs}

# %%
histories = {f"positives: {name}": pd.read_csv(run.history) for name, run in runs.items()}
quantities = ["epoch", "pretext_loss", "val_pretext_loss", "contrastive_accuracy"]
quantities += ["val_contrastive_accuracy"]
histories = {name: history[quantities] for name, history in histories.items()}
dl.figures.training_curves(histories, "Same number of steps, another task")

# %% [markdown]
# These losses cannot be compared. To find the other view of the same image among 64 is easy, to
# find the same lens with another source is hard, and for the lenses of `no_sub`, which are all
# alike, impossible. Which encoder is the more useful one is not to be seen here.
#
# ## What the features are about
#
# We compute the features of both encoders, and of the untrained network as a control. Images of one
# lens are next to each other in the data; to fit and score probes, we take one image of each lens.

# %%
import keras

keras.utils.set_random_seed(seed)
encoders = {"untrained": dl.models.build_encoder("vit_nano", data.image_shape, patch_size=4)}
encoders |= {name: dl.load_encoder(run.folder) for name, run in runs.items()}

tables = {"train": data.index("train")[::2], "test": data.index("test")}
images = {
    split: np.stack([each["image"] for each in data.examples(split)])[table.index]
    for split, table in tables.items()
}
features = {
    name: {split: encoder.predict(images[split], verbose=0) for split in images}
    for name, encoder in encoders.items()
}

# %% [markdown]
# The class of each image is in the table of the data. The position of the source is known to the
# simulator: `lens` returns the parameters of an image.

# %%
labels = {split: table["label"].to_numpy() for split, table in tables.items()}


def source_arcsec(split, file):
    """Return x and y of the source of an image, such as axion/axion_sim_00000007_1.npy."""
    index, _, view = file.removesuffix(".npy").partition("_sim_")[2].partition("_")
    lens = simulated[split].request.lens(Path(file).parent.name, int(index), int(view or 0))
    return lens.source_x_arcsec, lens.source_y_arcsec


sources = {
    split: np.array([source_arcsec(split, file) for file in table["file"]])
    for split, table in tables.items()
}

# %% [markdown]
# How much of the differences between the features of two images is due to the source, and how much
# to the class? We predict the features from the position of the source (a polynomial in x and y),
# and from the class, and measure which share of their variance on test images is explained.

# %%
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

polynomial = PolynomialFeatures(6)
causes = {
    "source": {split: polynomial.fit_transform(each / 0.35) for split, each in sources.items()},
    "class": {split: np.eye(len(data.classes))[each] for split, each in labels.items()},
}


def explained(found, cause):
    """Return the share of the variance of features that a cause explains."""
    scaler = StandardScaler().fit(found["train"])
    train, test = (scaler.transform(found[split]) for split in ("train", "test"))
    predicted = LinearRegression().fit(cause["train"], train).predict(cause["test"])
    return 1 - np.sum((test - predicted) ** 2) / np.sum((test - test.mean(axis=0)) ** 2)


variance = {
    name: {encoder: explained(found, cause) for encoder, found in features.items()}
    for name, cause in causes.items()
}
pd.DataFrame(variance).rename_axis("share of the variance due to").round(3)

# %% [markdown]
# ## What a probe makes of them
#
# Logistic regression predicts the class from the frozen features, as `dl.evaluation.probe` does:
# with all labels, and with few. A score with few labels depends on which they are. The images are
# stored in random order, so we take the first hundred, the next hundred and so on, and average.


# %%
def class_auc(found, chosen):
    """Return the macro AUC of a probe that is fitted to the labels of the chosen images."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky"))
    probe.fit(found["train"][chosen], labels["train"][chosen])
    predicted = probe.predict_proba(found["test"])
    return roc_auc_score(labels["test"], predicted, multi_class="ovr")


few = SETTINGS["few_labels"]
draws = [slice(few * k, few * (k + 1)) for k in range(SETTINGS["draws"])]
with_few = {
    name: [class_auc(found, chosen) for chosen in draws] for name, found in features.items()
}
with_all = {name: class_auc(found, slice(None)) for name, found in features.items()}

# %%
from tutorial_figures import feature_maps, scores_above_chance

few_mean = {name: np.mean(aucs) for name, aucs in with_few.items()}
panels = {f"variance due to the {name}": (0.0, shares) for name, shares in variance.items()}
panels |= {f"macro AUC, {few} labels": (0.5, few_mean), "macro AUC, all labels": (0.5, with_all)}
scores_above_chance(panels, "Features of the untrained network and of both pretrainings")

# %%
scatter = {name: f"{np.std(aucs):.3f}" for name, aucs in with_few.items()}
Markdown(
    f"Pretrained on two views of one **image**, the features are about the source: it explains "
    f"{variance['source']['image']:.0%} of their variance, the class "
    f"{variance['class']['image']:.0%}. Pretrained on two images of one **lens**, the class "
    f"explains {variance['class']['object']:.0%} of it, and the source "
    f"{variance['source']['object']:.0%}.\n\n"
    f"With {few} labels the macro AUC is **{few_mean['image']:.3f}** (image), "
    f"**{few_mean['untrained']:.3f}** (untrained) and **{few_mean['object']:.3f}** (lens). It "
    f"varies with the choice of labels by {scatter['image']}, {scatter['untrained']} and "
    f"{scatter['object']} (standard deviation of {len(draws)} choices). With all "
    f"{len(labels['train'])} labels it is **{with_all['image']:.3f}**, "
    f"**{with_all['untrained']:.3f}** and **{with_all['object']:.3f}**."
)

# %% [markdown]
# Why? To recognise an image among others it is enough to know where its source is: two numbers that
# hardly any two images have in common, and that change the arcs far more than the substructure
# does. The loss asks for no more. Whether such features say more of the class than untrained ones,
# or less, depends on the seed. Two images of one lens have different sources. Only what the lens
# has of its own, its substructure, tells them from the others, and so this is learned.
#
# ## Maps of the features
#
# The first two principal components of the features of the test images, in the colours of the
# source's distance from the centre and of the class:

# %%
from sklearn.decomposition import PCA

maps = {
    name: make_pipeline(StandardScaler(), PCA(2)).fit_transform(found["test"])
    for name, found in features.items()
}
quantities = {
    "source offset / arcsec": np.hypot(*sources["test"].T),
    "class": np.array(data.classes)[labels["test"]],
}
feature_maps(maps, quantities, "Two principal components of the features")

# %% [markdown]
# ## What is still there
#
# A small share of the variance does not mean that something cannot be read any more. A probe with
# many labels gives each direction the weight that it needs. Ridge regression predicts the distances
# |x| and |y| of the source from the axes (features that do not change if an image is flipped cannot
# tell left from right):


# %%
def source_r2(found):
    """Return R² of |x| and |y| of the source, predicted from features of test images."""
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 4, 15)))
    ridge.fit(found["train"], np.abs(sources["train"]))
    return ridge.score(found["test"], np.abs(sources["test"]))


r2 = {name: source_r2(found) for name, found in features.items()}
Markdown(", ".join(f"{name}: R² = **{value:.3f}**" for name, value in r2.items()))

# %% [markdown]
# All three encoders still know the source. What pretraining decides is what the features are mostly
# about, and with few labels this is what counts.
#
# ## What such pairs use
#
# Pairs know more than images. Which images show one lens has to be known: here the simulator knows
# it; a survey knows it of repeated exposures, but these share the source too. And two images of one
# lens are of one class, so pairs say something of the classes although no label is read.
# [docs/positives.md](../docs/positives.md) lists what other pairs share, and thus what is learned
# from them. Your own pairs are named in a table `objects.csv` with the columns `file` and `object`.
