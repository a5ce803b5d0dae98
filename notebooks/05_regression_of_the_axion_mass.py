# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Regression of the axion mass
#
# **What you learn.** To predict a number with its uncertainty; to read predicted against true;
# where the prediction fails, and why the physics makes it fail just there.
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
SETTINGS = {"images": 2000, "test_images": 600, "epochs": 30, "seed": 0}
# Full size, that of the published data:
# SETTINGS = {"images": 30_000, "test_images": 5000, "epochs": 30, "seed": 0}

# %% [markdown]
# ## Images and their masses
#
# Lenses of the class `axion` alone. The masses are drawn evenly in $\log_{10}$ between $10^{-24}$
# and $10^{-22}$ eV, and $\log_{10}$ is what is predicted;
# [tutorial 1](01_data_and_pretexts.ipynb) says why.

# %%
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.prepare import summary
from deeplens_tf.simulation.dataset import simulate
from deeplens_tf.simulation.request import SimulationRequest

lenses, prepared = Path("data/axions"), Path("data/axions_32")
seed = SETTINGS["seed"]
simulate(
    SimulationRequest("model_ii", SETTINGS["images"], lenses, seed, classes=("axion",)), jobs=2
)
test_request = SimulationRequest(
    "model_ii", SETTINGS["test_images"], lenses, seed, split="test", classes=("axion",)
)
simulate(test_request, jobs=2)
manifest = prepare_folder(
    lenses, prepared, image_size=32, fit="crop", validation_fraction=0.1, seed=seed
)
print(summary(manifest, prepared))

# %% [markdown]
# ## What the image can tell
#
# The mass shows itself by the length of the vortex alone,
#
# $$\lambda = \frac{0.06}{2\,m}\cdot 10^{-22}\ \text{arcsec}\qquad (m \text{ in eV}),$$
#
# from the centre to one end. Before anything is trained we can say where it will go wrong:
#
# - **Heavy axions**: where the whole vortex, $2\lambda$, is shorter than a pixel, it is a point in
#   the centre. Its total mass is the same for all, so all these images are alike.
# - **Light axions**: where $\lambda$ exceeds the ring's radius, the ends lie outside of the arcs.
#   There is little light there to be bent.

# %%
from deeplens_tf.evaluation.tutorial_figures import substructure_figure
from deeplens_tf.simulation.priors import einstein_radius_arcsec, vortex_length_arcsec
from deeplens_tf.simulation.render import (
    deflection_scale,
    instrument_for,
    render_image,
    render_smooth,
)

pixel_arcsec = float(instrument_for("model_ii", 0).simulation.pixel_scale)
ring_arcsec = einstein_radius_arcsec(1e12) * deflection_scale("model_ii")
# vortex_length_arcsec is its own inverse up to a factor: length x mass is a constant.
length_times_mass = vortex_length_arcsec(1.0)
limits_ev = {
    "reaches the ring": length_times_mass / ring_arcsec,
    "one pixel long": length_times_mass / (pixel_arcsec / 2),
}
for name, mass_ev in limits_ev.items():
    print(f"vortex {name}: m = {mass_ev:.2e} eV, log10 = {np.log10(mass_ev):.2f}")

# %%
candidates = [test_request.lens("axion", i) for i in range(200)]
lengths = np.array([vortex_length_arcsec(lens.axion_mass_ev) for lens in candidates])
wanted = [2.0, 0.4, 0.04]
shown = [candidates[np.abs(np.log(lengths / length)).argmin()] for length in wanted]
substructure_figure(
    [render_image(lens) for lens in shown],
    [render_smooth(lens) for lens in shown],
    [
        f"{lens.axion_mass_ev:.1e} eV\n±{vortex_length_arcsec(lens.axion_mass_ev):.2f} arcsec"
        for lens in shown
    ],
    pixel_arcsec,
    half_side_arcsec=2.2,
    title="A light, a middling and a heavy axion",
)

# %% [markdown]
# ## Training
#
# The network starts from random weights (`finetune.encoder=none`; name a pretraining run instead to
# start from its encoder). With `finetune.likelihood=gaussian` the head has two outputs, the
# predicted $\mu$ and its standard deviation $\sigma$, and the loss is the negative logarithm of
# the Gaussian's density at the true value,
#
# $$\tfrac12\ln(2\pi\sigma^2) + \frac{(y-\mu)^2}{2\sigma^2}.$$
#
# A network that is unsure can say so by a large $\sigma$, and pays for it where it was right. The
# loss may be negative: it is a density, not a probability.

# %%
from deeplens_tf.config import load_config
from deeplens_tf.training.finetuning import finetune

words = [
    "data.image_size=32",
    "data.fit=crop",
    "encoder.patch_size=4",
    "finetune.head=regression",
    "finetune.likelihood=gaussian",
    "finetune.encoder=none",
    f"train.epochs={SETTINGS['epochs']}",
    f"seed={seed}",
]
config = load_config("finetune", words, data=str(prepared))

# %%
# %%capture log
run = finetune(config, "mass", "runs/mass")

# %%
from deeplens_tf.evaluation.training_curves import training_curves

training_curves({"mass": pd.read_csv(run.history)}, "Regression of the axion mass")

# %% [markdown]
# ## Predicted against true
#
# Every test image once; each point is one image, its prediction over its own truth.

# %%
from deeplens_tf.evaluation.report import summary_table
from deeplens_tf.evaluation.scoring import evaluate

folder, metrics = evaluate(run, config)
print(summary_table(metrics))

# %% tags=["picture-mass"]
from deeplens_tf.evaluation.figures import predicted_against_true
from deeplens_tf.evaluation.style import GREY

table = pd.read_csv(folder / "predictions.csv")
figure = predicted_against_true(table["log10_mass_ev"], table["predicted"], table["std_dex"])
for axes in figure.axes:
    for mass_ev in limits_ev.values():
        axes.axvline(np.log10(mass_ev), color=GREY, linestyle="-.", linewidth=1.2)
figure

# %% [markdown]
# The two vertical lines are the two limits from above: left of the first the vortex reaches beyond
# the ring, right of the second it is shorter than a pixel. In the lower panel the band holds the
# middle 68 % of the residuals, the dotted lines are what the network itself says of its error.
#
# ## Where it fails

# %%
edges = [-np.inf, *(np.log10(list(limits_ev.values()))), np.inf]
names = ["beyond the ring", "between the limits", "below a pixel"]
table["vortex"] = pd.cut(table["log10_mass_ev"], edges, labels=names)
table["error"] = table["predicted"] - table["log10_mass_ev"]
by_length = table.groupby("vortex", observed=False).agg(
    images=("error", "size"),
    mean_absolute_error_dex=("error", lambda error: error.abs().mean()),
    mean_error_dex=("error", "mean"),
    mean_predicted_std_dex=("std_dex", "mean"),
)
by_length.round(3)


# %%
def slope(rows):
    """Return by how much the prediction rises where the truth rises by 1 dex."""
    return np.polyfit(rows["log10_mass_ev"], rows["predicted"], 1)[0]


slopes = {name: slope(table[table["vortex"] == name]) for name in names}
error = by_length["mean_absolute_error_dex"]
best, worst = error.idxmin(), error.idxmax()
Markdown(
    f"The mean absolute error is smallest for vortices **{best}** ({error[best]:.3f} dex, a factor "
    f"of {10 ** error[best]:.2f}) and largest **{worst}** ({error[worst]:.3f} dex, a factor of "
    f"{10 ** error[worst]:.2f}). How much of a change of the mass is seen at all? Where the truth "
    f"rises by 1 dex, the prediction rises by "
    + ", ".join(f"**{value:.2f}** dex {name}" for name, value in slopes.items())
    + "."
)

# %% [markdown]
# A slope of 1 is a measurement, a slope of 0 a guess. Below a pixel all images are alike, and the
# best that a network can do is to say the same for all of them: *heavier than the limit*. In the
# picture the points turn flat even before the line, for the telescope's blur is wider than a pixel.
# Towards light axions the vortex leaves the ring, changes of its length change less and less light,
# and the predictions are drawn towards the middle.
#
# Mind that the error alone can mislead: in a narrow range of masses a network that always says the
# middle is never far off. The slope cannot be had by guessing.
#
# No larger network will change this much. A sharper instrument would.
#
# ## Does the network know?

# %%
inside = metrics["coverage_68"], metrics["coverage_95"]
correlation = table["std_dex"].corr(table["error"].abs(), method="spearman")
Markdown(
    f"Of the true values **{inside[0]:.0%}** lie within the network's 68 % range and "
    f"**{inside[1]:.0%}** within its 95 % range. The rank correlation of predicted uncertainty "
    f"and actual error is **{correlation:.2f}**: above 0 means that the network is less sure where "
    f"it errs more."
)

# %% [markdown]
# Next: [6. Your own images](06_your_own_images.ipynb).
