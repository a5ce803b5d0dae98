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
# where the prediction fails, and what the images have to do with it.
#
# **What it costs.** Two to three minutes on two cores.

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
SETTINGS = {"images": 2000, "test_images": 400, "epochs": 30, "candidates": 200, "seed": 0}
# Full size, that of the published data:
# SETTINGS = {"images": 30_000, "test_images": 5000, "epochs": 30, "candidates": 200, "seed": 0}

# %% [markdown]
# ## Images and their masses
#
# Lenses of the class `axion` alone. The masses are drawn evenly in $\log_{10}$ between $10^{-24}$
# and $10^{-22}$ eV, and $\log_{10}$ is what is predicted;
# [tutorial 1](01_data_and_pretexts.ipynb) says why.

# %%
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.prepare import summary
from deeplens_tf.simulation.generation import simulate
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
# from the centre to one end. Before anything is trained we can say where it may go wrong:
#
# - **Heavy axions**: where the whole vortex, $2\lambda$, is shorter than a pixel, it acts almost
#   like a point in the centre. Its total mass is the same for all, so these images differ little.
# - **Light axions**: where $\lambda$ exceeds the ring's radius, the ends lie outside of the ring.
#   There is less light there to be bent.

# %%
from tutorial_figures import substructure_figure

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
candidates = [test_request.lens("axion", i) for i in range(SETTINGS["candidates"])]
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
# How much does an image change with the mass? We draw twenty lenses at one mass and again, with
# the vortex in the same direction, at 1.5 times this mass.

# %%
from dataclasses import replace

from tutorial_figures import residual_rms_percent

from deeplens_tf.simulation.priors import vortex


def render_at(lens, mass_ev):
    """Draw a lens as if its axion had another mass."""
    return render_image(replace(lens, substructure=vortex(mass_ev, lens.vortex_angle_rad)))


def change(lens, mass_ev):
    """Return how much heavier axions by a half change the image: largest and rms, in %."""
    before, after = render_at(lens, mass_ev), render_at(lens, 1.5 * mass_ev)
    largest = 100 * np.abs(after - before).max() / after.max()
    return largest, residual_rms_percent(after, before, side=32)


rows = {}
for mass_ev in (1e-24, 2e-24, 4e-24, 8e-24, 1.6e-23, 3e-23, 6e-23):
    changes = np.median([change(lens, mass_ev) for lens in candidates[:20]], axis=0)
    rows[f"{mass_ev:.1e}"] = [2 * vortex_length_arcsec(mass_ev) / pixel_arcsec, *changes]
columns = ["vortex / pixels", "largest change / % of maximum", "rms change / % of maximum"]
sensitivity = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
sensitivity.rename_axis("axion mass / eV").round(3)

# %%
rms = sensitivity["rms change / % of maximum"]
Markdown(
    f"The mass is written largest into images at **{rms.idxmax()} eV**, {rms.max():.2f} % rms. At "
    f"the light end, {rms.index[0]} eV, it is **{rms.max() / rms.iloc[0]:.1f} times** less. At the "
    f"heavy end, {rms.index[-1]} eV, where the vortex is about as long as a pixel, it is "
    f"**{rms.max() / rms.iloc[-1]:.0f} times** less: the images are not the same, but what tells "
    f"them apart is this faint. So expect trouble with heavy axions first."
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
from deeplens_tf.figures.training_curves import training_curves

training_curves({"mass": pd.read_csv(run.history)}, "Regression of the axion mass")

# %% [markdown]
# ## Predicted against true
#
# Every test image once; each point is one image, its prediction over its own truth.

# %%
from deeplens_tf.evaluation.model_report import evaluate
from deeplens_tf.evaluation.report_folder import summary_table

folder, metrics = evaluate(run, config)
print(summary_table(metrics))

# %% tags=["picture-mass"]
from deeplens_tf.figures.mass_figures import predicted_against_true

table = pd.read_csv(folder / "predictions.csv")
predicted_against_true(
    table["log10_mass_ev"],
    table["predicted"],
    table["std_dex"],
    marks={f"vortex {name}": np.log10(mass_ev) for name, mass_ev in limits_ev.items()},
)

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


def summarise(rows):
    """Return the errors of a range of masses, beside those of guessing the middle of the range."""
    true = rows["log10_mass_ev"]
    return pd.Series(
        {
            "images": len(rows),
            "error_dex": rows["error"].abs().mean(),
            "error_of_guess_dex": (true - true.median()).abs().mean(),
            "mean_of_error_dex": rows["error"].mean(),
            "predicted_std_dex": rows["std_dex"].mean(),
            "slope": np.polyfit(true, rows["predicted"], 1)[0],
        }
    )


by_length = pd.DataFrame({name: summarise(table[table["vortex"] == name]) for name in names}).T
by_length.astype({"images": int}).rename_axis("vortex").round(3)

# %% [markdown]
# `error_dex` is the mean absolute error. `error_of_guess_dex` would be that of always saying the
# median mass of the range, for a range may be so narrow that even a guess is never far off.
# `slope` is by how much the prediction rises where the truth rises by 1 dex: 1 is a measurement,
# and 0 says the same of all.

# %%
error, guess, slope = (by_length[k] for k in ("error_dex", "error_of_guess_dex", "slope"))
better = [name for name in names if error[name] < guess[name]]
worse = [name for name in names if error[name] >= guess[name]]
Markdown(
    f"The error is smallest for vortices **{error.idxmin()}** ({error.min():.3f} dex, a factor "
    f"of {10 ** error.min():.2f}) and largest **{error.idxmax()}** ({error.max():.3f} dex, a "
    f"factor of {10 ** error.max():.2f}). It is below that of a guess for: "
    f"**{', '.join(better) or 'none'}**; not so for: **{', '.join(worse) or 'none'}**. The "
    f"prediction follows the truth with a slope of "
    + ", ".join(f"**{value:.2f}** {name}" for name, value in slope.items())
    + "."
)

# %%
light, middle, heavy = "beyond the ring", "between the limits", slope["below a pixel"]
Markdown(
    f"At the **heavy** end the table above has the explanation: the images of {rms.index[-2]} and "
    f"of 1.5 times as many eV differ by {rms.iloc[-2]:.3f} % rms, those of {rms.index[-1]} by "
    f"{rms.iloc[-1]:.4f} %. With {SETTINGS['images']} images to learn from, the network "
    f"{'says nearly the same of all' if abs(heavy) < 0.3 else 'sees a part of what is this faint'} "
    f"that is below a pixel (slope {heavy:.2f}). At the **light** end the error "
    f"is {'not larger' if error[light] <= error[middle] else 'larger'} than between the limits "
    f"({error[light]:.3f} against {error[middle]:.3f} dex): the length beyond the ring still "
    f"changes the image well. The slope of {slope[light]:.2f} there says that the predictions are "
    f"{'drawn towards the middle' if slope[light] < 0.9 else 'not drawn towards the middle'}."
)

# %% [markdown]
# How much of this is the images' and how much the network's? These images carry no noise, so a
# difference that is faint is there all the same, and a network with more images or a longer
# training may see more of it. In an image with the noise of an instrument (`simulate --noise`) it
# would have to be seen through the noise.
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
