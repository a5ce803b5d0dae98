# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8. Exploring an embedding
#
# **What you learn.** What to do with an encoder and a folder of images without labels: compute the
# features of the images, draw a map of them, find images that are like one, find the odd ones,
# classify with a handful of labels, and see where in an image the features come from.
#
# **What it costs.** About two minutes on two cores.

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
SETTINGS = {
    "lenses_per_class": 200,
    "odd_of_each_kind": 10,
    "labels_per_class": 10,
    "draws": 10,
    "seed": 0,
}
# Full size, as a survey's sample of lenses:
# SETTINGS = {
#     "lenses_per_class": 10_000,
#     "odd_of_each_kind": 100,
#     "labels_per_class": 10,
#     "draws": 10,
#     "seed": 0,
# }

# %% [markdown]
# ## A sample
#
# We simulate lenses and look at them as if they came from a survey: nothing below reads the
# classes, until we ask how well it worked. The folder of an image is its true class.

# %%
seed = SETTINGS["seed"]
survey = Path("data/survey")
dl.simulation.simulate(survey, SETTINGS["lenses_per_class"], seed=seed, jobs=2)
files = sorted(path.relative_to(survey).as_posix() for path in survey.glob("*/*.npy"))
print(len(files), "images, such as", files[0])

# %% [markdown]
# A real sample has images that do not belong there. We add some: lenses with a star in front of
# them, and lenses that a satellite has crossed. And one lens is there twice, under another name.


# %%
def pixels(file):
    """Return an image of the sample; an axion's file holds its mass as well."""
    stored = np.load(survey / file, allow_pickle=True)
    return np.array(stored[0] if stored.dtype == object else stored, float)


def with_star(image, rng):
    """Return an image with a star as bright as its brightest pixel."""
    row, column = rng.uniform(20, 44, 2)
    rows, columns = np.indices(image.shape)
    distance = np.hypot(rows - row, columns - column)
    return image + image.max() * np.exp(-(distance**2) / 2)


def with_trail(image, rng):
    """Return an image with a straight bright trail."""
    row, column, angle = *rng.uniform(20, 44, 2), rng.uniform(0, np.pi)
    rows, columns = np.indices(image.shape)
    distance = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
    return image + image.max() * (np.abs(distance) < 0.6)


# %%
rng = np.random.default_rng(seed)
(survey / "odd").mkdir(exist_ok=True)
for kind, change in {"star": with_star, "trail": with_trail}.items():
    for number, file in enumerate(rng.choice(files, SETTINGS["odd_of_each_kind"], replace=False)):
        np.save(survey / f"odd/{kind}_{number}.npy", change(pixels(file), rng))

chosen = next(file for file in files if file.startswith("cdm/"))
np.save(survey / "odd/copy.npy", pixels(chosen))

# %% [markdown]
# ## Features of every image
#
# `embed` writes the features of each image to a file. The encoder is one that comes with the
# package: it was trained on pairs of images of one lens, without labels
# ([tutorial 7](07_pairs_that_share_a_lens.ipynb)). With `control=True` it is the same network
# before its training: what is found there too, no training was needed for.

# %%
# %%capture log
encoder = "vit_nano_same_lens"
paths = {
    name: dl.inference.embed(encoder, survey, f"{name}.npz", control=name == "untrained").file
    for name in ("pretrained", "untrained")
}

# %%
embeddings = {name: dl.inference.read_embeddings(path) for name, path in paths.items()}
found = embeddings["pretrained"]
names = found.columns["file"]
print("features:", found.features.shape)

# %% [markdown]
# ## A map
#
# `map_embeddings` draws the sample in two dimensions, here by principal components (`method="umap"`
# by UMAP as well, with the extra `map`). The colors are the folders of the images:

# %%
# %%capture log
maps = {
    name: dl.inference.map_embeddings(path, f"map-{name}", method="pca").folder
    for name, path in paths.items()
}

# %%
Image(maps["untrained"] / "map.png", width=600)

# %%
Image(maps["pretrained"] / "map.png", width=600)

# %% [markdown]
# The same with images: each cell of the map shows the image that is nearest to its center.

# %%
Image(maps["pretrained"] / "images.png", width=700)

# %% [markdown]
# The folder also has `map.html`, one file to open in a browser or to send to a colleague, in which
# each point shows its image, and the files of TensorBoard's projector.
#
# ## Images that are like one
#
# `search` lists the images whose features have the largest cosine similarity to those of one. Our
# lens has substructure of cold dark matter:

# %%
neighbours = dl.inference.search(paths["pretrained"], chosen, "neighbours", top=11)
Image(neighbours.picture, width=700)

# %%
table = pd.read_csv(neighbours.table)
table.round(4).head(6)

# %% [markdown]
# The copy comes first, as it must. Are the others of the same class, or do they have a similar
# arc? We ask of all lenses: what share of the ten nearest lenses is of the class of the lens? By
# chance it would be a third.

# %%
from sklearn.neighbors import NearestNeighbors

classes = np.array([name.partition("/")[0] for name in names])
is_odd = classes == "odd"


def nearest(features, count):
    """Return distances (1 - cosine) and rows of the nearest others of each row."""
    return NearestNeighbors(n_neighbors=count, metric="cosine").fit(features).kneighbors()


def same_class_share(features):
    """Return the share of the ten nearest lenses that are of the class of a lens."""
    _, rows = nearest(features[~is_odd], 10)
    lenses = classes[~is_odd]
    same = lenses[rows] == lenses[:, None]
    return pd.Series({name: same[lenses == name].mean() for name in np.unique(lenses)})


shares = pd.DataFrame({name: same_class_share(each.features) for name, each in embeddings.items()})
shares.rename_axis("class").round(3)

# %%
mean_share = shares.mean()
Markdown(
    f"Of the neighbours by pretrained features **{mean_share['pretrained']:.0%}** are of the same "
    f"class, by those of the untrained network **{mean_share['untrained']:.0%}**. To look for "
    "lenses like one, where likeness is the kind of dark matter, needs the training."
)

# %% [markdown]
# ## The odd ones
#
# An image is odd if no other is like it. We order the images by the mean distance to their five
# nearest neighbours. Distances are comparable if every feature varies equally much, so we scale
# them first.

# %%
from sklearn.preprocessing import StandardScaler


def oddness(features):
    """Return the mean distance of each image to its five nearest neighbours."""
    distances, _ = nearest(StandardScaler().fit_transform(features), 5)
    return distances.mean(axis=1)


odd = {name: oddness(each.features) for name, each in embeddings.items()}
first = np.argsort(-odd["pretrained"])[:8]
dl.figures.image_grid([pixels(name) for name in names[first]], [*names[first]], columns=4)

# %% [markdown]
# How many of the images that do not belong there come before the lenses? The area under the ROC
# curve (AUC) is the probability that an image with a star, or a trail, is odder than a lens.

# %%
from sklearn.metrics import roc_auc_score


def odd_auc(score, kind):
    """Return the AUC of images of a kind among the lenses."""
    is_kind = np.char.startswith(names, f"odd/{kind}")
    among = is_kind | ~is_odd
    return roc_auc_score(is_kind[among], score[among])


aucs = pd.DataFrame(
    {name: {kind: odd_auc(each, kind) for kind in ("star", "trail")} for name, each in odd.items()}
)
aucs.rename_axis("odd by").round(3)

# %%
verdict = "better" if (aucs["untrained"] > aucs["pretrained"]).all() else "not worse"
Markdown(
    f"Here the untrained network does {verdict}: AUC **{aucs.loc['star', 'untrained']:.3f}** for "
    f"stars, against **{aucs.loc['star', 'pretrained']:.3f}**."
)

# %% [markdown]
# That is no accident. Pretraining on pairs that share a lens taught the network to ignore what two
# images of a lens do not share. It keeps the substructure and forgets much of the rest; a star is
# part of the rest. An untrained network forgets little. Which one you need depends on what you are
# looking for, and the control tells you.
#
# ## A handful of labels
#
# Someone has looked at a few lenses of each class. Logistic regression on the frozen features
# classifies all others. Which lenses are labeled matters, so we draw them several times.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

lenses = np.flatnonzero(~is_odd)


def accuracy_with_few(features, draw):
    """Return the share of lenses that are classified correctly with the labels of a few."""
    rng = np.random.default_rng([seed, draw])
    count = SETTINGS["labels_per_class"]
    few = [rng.choice(np.flatnonzero(classes == name), count, False) for name in shares.index]
    rows = np.concatenate(few)
    others = np.setdiff1d(lenses, rows)
    probe = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[rows], classes[rows])
    return probe.score(features[others], classes[others])


accuracies = {
    name: [accuracy_with_few(each.features, draw) for draw in range(SETTINGS["draws"])]
    for name, each in embeddings.items()
}
pd.DataFrame(accuracies).agg(["mean", "std"]).round(3)

# %% [markdown]
# ## Where in the image?
#
# `explain` covers one patch of an image after the other, and measures how much the features change:
# by 1 - cosine of the angle between those with and without the cover.

# %%
# %%capture log
some = [str(survey / name) for name in (chosen, "odd/star_0.npy", "odd/trail_0.npy")]
explained = dl.inference.explain(encoder, some, "explained", method="occlusion")

# %%
Image(explained.picture, width=600)

# %% [markdown]
# Such maps are easily read into. [docs/explain.md](../docs/explain.md) measures them: on
# simulated lenses, where the true effect of the substructure is known, the maps of this encoder
# lie on it less than those of the untrained network, and less than the brightness of the image
# does. They show where the features come from, not where the substructure is.
#
# ## The same from the command line
#
#     python -m deeplens_tf.embed --run vit_nano_same_lens --data data/survey --out pretrained.npz
#     python -m deeplens_tf.map --embeddings pretrained.npz --method pca
#     python -m deeplens_tf.search --embeddings pretrained.npz --like cdm/cdm_sim_00000000.npy
#     python -m deeplens_tf.explain --run vit_nano_same_lens --data data/survey --count 8
#
# [docs/embeddings.md](../docs/embeddings.md) describes the files, and features of layers inside the
# network.
