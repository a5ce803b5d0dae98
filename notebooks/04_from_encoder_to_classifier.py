# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4. From encoder to classifier
#
# **What you learn.** How to pretrain and fine-tune with configurations and run folders; how to
# compare the result with the *baseline* (same network and labels, random initial weights) and the
# *control* (a probe of the untrained network); how to read ROC curves and a confusion matrix, and
# how to examine the errors.
#
# **What it costs.** About three minutes on two cores.

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
    "images_per_class": 600,
    "test_images_per_class": 300,
    "pretraining_epochs": 5,
    "fraction_of_labels": 1.0,
    "finetuning_epochs": 10,
    "seed": 0,
}
# Full size, that of the published data:
# SETTINGS = {
#     "images_per_class": 30_000,
#     "test_images_per_class": 5000,
#     "pretraining_epochs": 30,
#     "fraction_of_labels": 1.0,
#     "finetuning_epochs": 30,
#     "seed": 0,
# }

# %%
seed = SETTINGS["seed"]
count, test_count = SETTINGS["images_per_class"], SETTINGS["test_images_per_class"]
dl.simulation.simulate("data/lenses", count, seed=seed, jobs=2)
test = dl.simulation.simulate("data/lenses", test_count, seed=seed, split="test", jobs=2)

data = dl.data.open_folder("data/lenses", image_size=32, fit="crop", seed=seed)
print("images:", {split: data.count(split) for split in ("train", "validation", "test")})

# %% [markdown]
# ## Pretraining, without labels
#
# The method is that of [tutorial 2](02_contrastive_pretraining.ipynb), but this time by a
# configuration. `load_config` reads one of the configurations of the package and applies changes,
# like `--config` and `--set` in a terminal. `pretrain` trains and writes a *run folder*: the
# complete configuration, the history, figures, checkpoints and the encoder.

# %%
CENTRAL_CROP = ["data.image_size=32", "data.fit=crop", "encoder.patch_size=4"]


def configuration(name, *changes):
    """Return a configuration of the package for our data, with changes `key=value`."""
    changes = [*CENTRAL_CROP, f"seed={seed}", *changes]
    return dl.load_config(name, changes, data=str(data.folder))


pretraining = configuration("contrastive", f"train.epochs={SETTINGS['pretraining_epochs']}")

# %%
# %%capture pretraining_log
encoder_run = dl.training.pretrain(pretraining, "contrastive", "runs/contrastive")

# %%
history = pd.read_csv(encoder_run.history)
history = history.filter(regex="epoch|contrastive_accuracy|feature_std|probe_accuracy")
dl.figures.training_curves({"contrastive": history}, "Pretraining")

# %% [markdown]
# `probe accuracy` is that of an *online probe*: a linear layer on the features that is trained
# together with the encoder. Its gradients do not flow into the encoder, so labels do not influence
# the encoder. It only monitors the training: it takes few steps, on features that keep changing, so
# a probe fitted after the training is more accurate.
#
# ## Fine-tuning, with labels
#
# `finetune` adds a head to the encoder, a layer of class probabilities, and trains both. The
# **baseline** differs only in its initial weights: `finetune.encoder=none` makes them random.
# `finetune.fraction` is the fraction of the labels that is used, the same in each class.
# Pretraining should help most if labels are few, but then more epochs are needed. Try it.


# %%
def finetuning(encoder):
    """Return the configuration of fine-tuning from this encoder; "none" for random weights."""
    return configuration(
        "finetune",
        f"train.epochs={SETTINGS['finetuning_epochs']}",
        "train.batch_size=32",
        f"finetune.fraction={SETTINGS['fraction_of_labels']}",
        f"finetune.encoder={encoder}",
    )


encoders = {"fine-tuned": encoder_run.folder, "baseline": "none"}

# %%
# %%capture finetuning_log
runs = {
    name: dl.training.finetune(finetuning(encoder), name, f"runs/{name}")
    for name, encoder in encoders.items()
}

# %%
histories = {name: pd.read_csv(run.history) for name, run in runs.items()}
quantities = ["epoch", "loss", "val_loss", "auc", "val_auc"]
histories = {name: history[quantities] for name, history in histories.items()}
dl.figures.training_curves(histories, "With and without pretraining")

# %% [markdown]
# With few images, a network can memorise each of them. This shows where the validation loss
# (dashed) stops following the training loss. `model.keras` in the run folder is the model of the
# epoch with the best validation loss.
#
# ## On the test set
#
# `evaluate_run` scores each test image once and writes a report into the run folder. The second
# reference, the **control**, is a linear probe of the untrained encoder with the labels of all
# training images. `evaluate_probe` fits it together with the probe of the pretrained encoder.
# `compare_runs` collects all scores.

# %%
reports = {name: dl.evaluation.evaluate_run(run) for name, run in runs.items()}
_, probe_metrics = dl.evaluation.evaluate_probe(encoder_run)

scores = dl.evaluation.compare_runs([encoder_run, *runs.values()])
dl.evaluation.comparison_figure(scores, title="One test set, with 95 % intervals")

# %%
metrics = {name: report[1] for name, report in reports.items()}
tuned, baseline, control = metrics["fine-tuned"], metrics["baseline"], probe_metrics["control"]
low, high = tuned["intervals_95"]["macro_auc"]


def against(reference):
    """Return how the interval of the fine-tuned model compares with a reference, in words."""
    return (
        "below"
        if high < reference
        else "above"
        if low > reference
        else "not clearly different from"
    )


Markdown(
    f"With {runs['fine-tuned'].facts()['labels_used']} labels, fine-tuning reaches a macro AUC of "
    f"**{tuned['macro_auc']:.3f}** (95 % interval {low:.3f} to {high:.3f}). This is "
    f"**{against(baseline['macro_auc'])}** the baseline, which started from random weights with "
    f"the same labels ({baseline['macro_auc']:.3f}), and **{against(control['macro_auc'])}** the "
    f"control, which used {control['n_train']} labels ({control['macro_auc']:.3f}). Pretraining is "
    f"useful only if the result is above both. The interval covers the choice of test images; "
    f"another seed of the training changes the scores too."
)

# %% [markdown]
# Compare also the two results of the pretrained encoder, with a probe and fine-tuned. A probe
# measures what the features contain. Fine-tuning can change the features, and so recover what
# pretraining has discarded. [Tutorial 7](07_pairs_that_share_a_lens.ipynb) shows why pretraining on
# two views of one image need not learn it, and pairs that do.
#
# ## ROC curves
#
# For each class and each threshold on its probability, the curve shows the fraction of this class
# that is above the threshold (true positives) against the fraction of the other classes that is
# above it too (false positives). `evaluate_run` has drawn it for the report:

# %%
report_folder, _ = reports["fine-tuned"]
Image(report_folder / "figures/roc_curves.png", width=500)

# %% [markdown]
# ## Confusion matrix

# %%
Image(report_folder / "figures/confusion_matrix.png", width=500)

# %%
classes, matrix = list(data.classes), np.array(tuned["confusion_matrix"])
wrong = matrix - np.diag(np.diag(matrix))
true, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
Markdown(
    f"**{tuned['accuracy']:.0%}** of the predictions are correct. The most common error is "
    f"`{classes[true]}` classified as `{classes[predicted]}`, {wrong.max()} times."
)

# %% [markdown]
# ## The errors
#
# These are the six wrong predictions with the highest confidence:

# %%
predictions = pd.read_csv(report_folder / "predictions.csv")
predictions["confidence"] = predictions[[f"p_{name}" for name in classes]].max(axis=1)
errors = predictions[predictions["label"] != predictions["predicted"]]
worst = errors.sort_values("confidence", ascending=False).head(6)


def lens_of(file):
    """Return the parameters of a test image, such as axion/axion_sim_00000007.npy."""
    path = Path(file)
    return test.request.lens(path.parent.name, int(path.stem[-8:]))


dl.figures.image_grid(
    [dl.simulation.render_image(lens_of(file))[16:48, 16:48] for file in worst["file"]],
    [f"{row.label} as\n{row.predicted} ({row.confidence:.0%})" for row in worst.itertuples()],
    columns=3,
    title="Errors of highest confidence",
    pixel_scale_arcsec=dl.simulation.pixel_scale_arcsec("model_ii"),
)

# %% [markdown]
# Can you see the substructure? In a simulation we can measure what no observer could: how strong
# the effect of the substructure is, in the images that were classified correctly and in the others.
# As in tutorial 1, we render each lens with and without its substructure. A substructure can be
# misclassified in two ways, as no substructure or as the other kind. We keep these apart.

# %%
from tutorial_figures import residual_rms_percent


def residual_percent(file):
    """Return the rms of the residual in the central crop, in % of the brightest pixel."""
    lens = lens_of(file)
    image, smooth = dl.simulation.render_image(lens), dl.simulation.render_smooth(lens)
    return residual_rms_percent(image, smooth, side=32)


lumpy = predictions[predictions["label"] != "no_sub"].copy()
lumpy["residual"] = [residual_percent(file) for file in lumpy["file"]]
lumpy["classified as"] = np.where(lumpy["predicted"] == "no_sub", "no_sub", "the other kind")
lumpy.loc[lumpy["predicted"] == lumpy["label"], "classified as"] = "the true class"

# %%
generator = np.random.default_rng(seed)


def median_and_interval(values):
    """Return number and median of values, with the 95 % bootstrap interval of the median."""
    resamples = generator.choice(values, (1000, len(values)))
    low, high = np.percentile(np.median(resamples, axis=1), [2.5, 97.5])
    return {"images": len(values), "median": np.median(values), "low": low, "high": high}


groups = lumpy.groupby(["label", "classified as"])["residual"]
residuals = pd.DataFrame({key: median_and_interval(group.to_numpy()) for key, group in groups}).T
residuals = residuals.astype({"images": int}).rename_axis(["true class", "classified as"])
print("rms of the residual in % of the brightest pixel, with the 95 % interval of its median")
residuals.round(2)


# %%
def against_correct(group, correct):
    """Return how the interval of a median compares with that of the correct images, in words."""
    if group["high"] < correct["low"]:
        return "**weaker** than"
    return "**stronger** than" if group["low"] > correct["high"] else "not clearly different from"


sentences = [
    f"- `{name}` classified as {found}, {group['images']:.0f} images: the median residual, "
    f"{group['median']:.2f} %, is {against_correct(group, residuals.loc[name, 'the true class'])} "
    f"that of the correct ones ({residuals.loc[name, 'the true class']['median']:.2f} %)."
    for (name, found), group in residuals.iterrows()
    if found != "the true class"
]
Markdown("\n".join(sentences))

# %% [markdown]
# (Do not trust the interval of a handful of images.) Where the intervals show it, a weak residual
# is one reason for an error. It is not a limit of what can be learned from these images: they
# contain no noise, so even a weak residual is present in full, and a network that is trained with
# more images for more epochs detects more of them.
#
# Next: [5. Regression of the axion mass](05_regression_of_the_axion_mass.ipynb).
