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
# **What you learn.** To fine-tune a pretrained encoder; to judge it beside the *baseline* (the same
# network and labels, random start) and the *control* (probe of the untrained network); to read ROC
# curves and a confusion matrix; and to look at the mistakes.
#
# **What it costs.** About three minutes on two cores.

# %%
# %matplotlib inline
import json
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
    "pretraining_epochs": 5,
    "share_of_labels": 1.0,
    "finetuning_epochs": 10,
    "seed": 0,
}
# Full size, that of the published data:
# SETTINGS = {
#     "images_per_class": 30_000,
#     "test_images_per_class": 5000,
#     "pretraining_epochs": 30,
#     "share_of_labels": 1.0,
#     "finetuning_epochs": 30,
#     "seed": 0,
# }

# %%
from deeplens_tf.config import load_config
from deeplens_tf.data.batches import open_data
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.simulation.generation import simulate
from deeplens_tf.simulation.request import SimulationRequest

lenses, prepared = Path("data/lenses"), Path("data/lenses_32")
seed = SETTINGS["seed"]
simulate(SimulationRequest("model_ii", SETTINGS["images_per_class"], lenses, seed), jobs=2)
test_request = SimulationRequest(
    "model_ii", SETTINGS["test_images_per_class"], lenses, seed, split="test"
)
simulate(test_request, jobs=2)
prepare_folder(lenses, prepared, image_size=32, fit="crop", validation_fraction=0.1, seed=seed)

ZOOM = ["data.image_size=32", "data.fit=crop", "encoder.patch_size=4", f"seed={seed}"]
words = [*ZOOM, f"train.epochs={SETTINGS['pretraining_epochs']}"]
pretraining = load_config("contrastive", words, data=str(prepared))
data = open_data(pretraining)
print({split: data.count(split) for split in ("train", "validation", "test")})

# %% [markdown]
# ## Pretraining, without labels
#
# As in [tutorial 2](02_contrastive_pretraining.ipynb).

# %%
from deeplens_tf.training.pretraining import pretrain

# %%
# %%capture pretraining_log
encoder_run = pretrain(pretraining, "contrastive", "runs/contrastive")

# %% [markdown]
# ## Fine-tuning, with labels
#
# `finetune` puts a head on the encoder, one layer with a probability for each class, and trains
# both. The **baseline** is the same in everything but the start: `finetune.encoder=none` means
# random weights. `finetune.fraction` is the share of the labels that is used, the same share of
# each class. Few labels are where a pretraining should help most, and take more epochs; try it.

# %%
from deeplens_tf.training.finetuning import finetune


def finetuning_config(encoder):
    """Return the configuration of a fine-tuning from this encoder; "none" for random weights."""
    words = [
        *ZOOM,
        f"train.epochs={SETTINGS['finetuning_epochs']}",
        "train.batch_size=32",
        f"finetune.fraction={SETTINGS['share_of_labels']}",
        f"finetune.encoder={encoder}",
    ]
    return load_config("finetune", words, data=str(prepared))


configs = {
    "fine-tuned": finetuning_config(encoder_run.folder),
    "baseline": finetuning_config("none"),
}

# %%
# %%capture finetuning_log
runs = {name: finetune(config, name, f"runs/{name}") for name, config in configs.items()}

# %%
from deeplens_tf.figures.training_curves import training_curves

histories = {name: pd.read_csv(run.history) for name, run in runs.items()}
quantities = ["epoch", "loss", "val_loss", "auc", "val_auc"]
training_curves({k: h[quantities] for k, h in histories.items()}, "With and without pretraining")

# %% [markdown]
# With few images a network can learn each of them by heart. One sees it where the validation loss
# (dashed) stops following the training loss. `model.keras` is the model of the epoch that was best
# on validation.
#
# ## On the test set
#
# `evaluate` scores every test image exactly once. The second reference, the **control**, is the
# linear probe on the untrained encoder, with all labels of the training set.

# %%
from deeplens_tf.evaluation.comparison import QUANTITIES, compare, read_entries
from deeplens_tf.evaluation.comparison_figure import comparison_figure
from deeplens_tf.evaluation.model_report import evaluate
from deeplens_tf.evaluation.probe_report import evaluate_probe

metrics = {name: evaluate(run, configs[name])[1] for name, run in runs.items()}
probe_folder, probe_metrics = evaluate_probe(encoder_run, pretraining, "classification", "linear")

scores = compare(read_entries([run.folder for run in (encoder_run, *runs.values())]))
comparison_figure(scores, QUANTITIES["classification"], "One test set, with 95 % intervals")

# %%
tuned, baseline = metrics["fine-tuned"], metrics["baseline"]
(low, high), control = tuned["intervals_95"]["macro_auc"], probe_metrics["control"]
labels_used = json.loads((runs["baseline"].folder / "environment.json").read_text())["labels_used"]


def against(reference):
    """Say on which side of a reference the interval of the fine-tuned model lies."""
    return "below" if high < reference else "above" if low > reference else "not clearly apart from"


Markdown(
    f"With {labels_used} labels, fine-tuning reaches a macro AUC of "
    f"**{tuned['macro_auc']:.3f}** (95 % interval {low:.3f} to {high:.3f}). That is "
    f"**{against(baseline['macro_auc'])}** the baseline from random weights with the same labels "
    f"({baseline['macro_auc']:.3f}), and **{against(control['macro_auc'])}** the control, which "
    f"had {control['n_train']} labels ({control['macro_auc']:.3f}). A pretraining has proved "
    f"useful where it is above both. The interval is that of the test images; another seed of the "
    f"training moves the numbers too."
)

# %% [markdown]
# Compare also the two rows of the pretrained encoder, under a probe and fine-tuned. A probe reads
# what the features hold; fine-tuning may change them, and can learn again what the pretext let go.
#
# ## ROC curves
#
# For each class: choose a threshold, call everything above it that class. The curve shows which
# share of the class is found (true positives) at which share of false alarms (false positives).

# %%
from deeplens_tf.figures.classifier_figures import confusion_matrix_figure, roc_curves

predictions = pd.read_csv(runs["fine-tuned"].folder / "evaluation/test/predictions.csv")
classes = list(data.classes)
labels = predictions["label"].map(classes.index)
probabilities = predictions[[f"p_{name}" for name in classes]]
roc_curves(labels, probabilities, classes, "Fine-tuned classifier")

# %% [markdown]
# ## Who is taken for whom

# %%
confusion_matrix_figure(tuned["confusion_matrix"], classes, "Fine-tuned classifier")

# %%
matrix = np.array(tuned["confusion_matrix"])
wrong = matrix - np.diag(np.diag(matrix))
true, predicted = np.unravel_index(wrong.argmax(), wrong.shape)
Markdown(
    f"**{tuned['accuracy']:.0%}** are right. The most common mistake: "
    f"`{classes[true]}` taken for `{classes[predicted]}`, {wrong.max()} times."
)

# %% [markdown]
# ## The mistakes, looked at
#
# The six mistakes of which the network was surest:

# %%
from deeplens_tf.data.image_files import read_image
from deeplens_tf.data.scaling import resize_and_scale
from deeplens_tf.figures.image_grids import image_grid
from deeplens_tf.simulation.render import instrument_for, render_image, render_smooth

predictions["confidence"] = probabilities.max(axis=1)
mistakes = predictions[predictions["label"] != predictions["predicted"]]
worst = mistakes.sort_values("confidence", ascending=False).head(6)
image_grid(
    [
        resize_and_scale(read_image(test_request.folder / file)[0], 32, "crop")
        for file in worst["file"]
    ],
    [f"{r.label}, called\n{r.predicted} ({r.confidence:.0%})" for r in worst.itertuples()],
    columns=3,
    title="The surest mistakes",
    pixel_scale_arcsec=float(instrument_for("model_ii", 0).simulation.pixel_scale),
)

# %% [markdown]
# Can you see what the network missed? Since the lenses are simulated we can ask what no observer
# could: how strong is the trace of the substructure in the images that were missed, and in those
# that were found? We draw the same lenses again, without it, and subtract. There are two ways to
# miss a substructure, not to see any and to take it for the other kind, and we keep them apart.

# %%
from tutorial_figures import residual_rms_percent


def trace_percent(file):
    """Return the trace of the substructure in the part of the image that the network was given."""
    name, index = Path(file).parent.name, int(Path(file).stem.split("_")[-1])
    lens = test_request.lens(name, index)
    return residual_rms_percent(render_image(lens), render_smooth(lens), side=32)


lumpy = predictions[predictions["label"] != "no_sub"].copy()
lumpy["trace"] = [trace_percent(file) for file in lumpy["file"]]
lumpy["called"] = np.where(lumpy["predicted"] == "no_sub", "no_sub", "the other kind")
lumpy.loc[lumpy["predicted"] == lumpy["label"], "called"] = "what it is"

# %%
generator = np.random.default_rng(seed)


def summary(traces):
    """Return number and median of traces, with the median's 95 % interval by resampling."""
    resamples = generator.choice(traces, (1000, len(traces)))
    low, high = np.percentile(np.median(resamples, axis=1), [2.5, 97.5])
    return {"images": len(traces), "median": np.median(traces), "low": low, "high": high}


traces = pd.DataFrame(
    {key: summary(group.to_numpy()) for key, group in lumpy.groupby(["label", "called"])["trace"]}
).T
traces = traces.astype({"images": int}).rename_axis(["true class", "called"])
print("trace: rms in % of the brightest pixel, with its 95 % interval")
traces.round(2)


# %%
def against_found(missed, found):
    """Say on which side of another median's interval the interval of this median lies."""
    if missed["high"] < found["low"]:
        return "**weaker** than"
    return "**stronger** than" if missed["low"] > found["high"] else "not clearly different from"


sentences = [
    f"- `{name}` called {called}, {missed['images']:.0f} images: median trace "
    f"{missed['median']:.2f} %, {against_found(missed, traces.loc[name, 'what it is'])} in those "
    f"that were found ({traces.loc[name, 'what it is']['median']:.2f} %)."
    for (name, called), missed in traces.iterrows()
    if called != "what it is"
]
Markdown("\n".join(sentences))

# %% [markdown]
# (An interval of a handful of images is not to be trusted.) A weak trace is one reason for a
# mistake, where the intervals say so, and in this run the confusions of the kinds went with it too:
# vortices of a weak trace were taken for subhalos, subhalos of a strong one for a vortex. None of
# this is the limit of what can be known: these images carry no noise, so the trace is there in
# full, however weak, and a network with more images and more epochs finds more of it.
#
# Next: [5. Regression of the axion mass](05_regression_of_the_axion_mass.ipynb).
