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
# **What you learn.** How to predict a number together with its uncertainty; how to read a plot of
# predicted against true values; for which masses the prediction fails, and why.
#
# **What it costs.** Two to three minutes on two cores.

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
SETTINGS = {"images": 2000, "test_images": 400, "epochs": 30, "candidates": 200, "seed": 0}
# Full size, that of the published data:
# SETTINGS = {"images": 30_000, "test_images": 5000, "epochs": 30, "candidates": 200, "seed": 0}

# %% [markdown]
# ## Images and their masses
#
# We only need lenses of the class `axion`. Their masses are uniform in $\log_{10} m$ between
# $10^{-24}$ and $10^{-22}$ eV. The network predicts $\log_{10} m$;
# [tutorial 1](01_data_and_pretexts.ipynb) explains why.

# %%
seed = SETTINGS["seed"]
axions = {"classes": ["axion"], "seed": seed, "jobs": 2}
dl.simulation.simulate("data/axions", SETTINGS["images"], **axions)
test = dl.simulation.simulate("data/axions", SETTINGS["test_images"], split="test", **axions)

data = dl.data.open_folder("data/axions", image_size=32, fit="crop", seed=seed)
masses_ev = {split: data.index(split)["mass_ev"] for split in ("train", "validation", "test")}
pd.DataFrame(masses_ev).agg(["count", "min", "median", "max"])

# %% [markdown]
# ## What an image can tell
#
# The mass affects an image only through the length of the vortex, from the centre to one end:
#
# $$\lambda = \frac{0.06}{2\,m}\cdot 10^{-22}\ \text{arcsec}\qquad (m \text{ in eV}).$$
#
# From this we can predict, before any training, where the regression may fail:
#
# - **Heavy axions.** If the complete vortex, of length $2\lambda$, is shorter than a pixel, it acts
#   almost like a point mass in the centre. Its total mass is the same for all axions, so these
#   images hardly differ.
# - **Light axions.** If $\lambda$ is larger than the radius of the ring, both ends of the vortex
#   are outside the ring, where there is less light to deflect.

# %%
pixel_arcsec = dl.simulation.pixel_scale_arcsec("model_ii")
# The Einstein radius of the main halo, as the images show it; see tutorial 1.
ring_arcsec = dl.simulation.einstein_radius_arcsec(1e12) * dl.simulation.deflection_scale(
    "model_ii"
)
vortex_length_arcsec = dl.simulation.vortex_length_arcsec
# The length is inversely proportional to the mass, so their product is a constant.
length_times_mass = vortex_length_arcsec(1.0)
limits_ev = {
    "reaches the ring": length_times_mass / ring_arcsec,
    "one pixel long": length_times_mass / (pixel_arcsec / 2),
}
for name, mass_ev in limits_ev.items():
    print(f"vortex {name}: m = {mass_ev:.2e} eV, log10 = {np.log10(mass_ev):.2f}")

# %%
from tutorial_figures import substructure_figure

candidates = [test.request.lens("axion", i) for i in range(SETTINGS["candidates"])]
lengths = np.array([vortex_length_arcsec(lens.axion_mass_ev) for lens in candidates])
chosen = [np.abs(np.log(lengths / length)).argmin() for length in (2.0, 0.4, 0.04)]
shown = [candidates[k] for k in chosen]
substructure_figure(
    [dl.simulation.render_image(lens) for lens in shown],
    [dl.simulation.render_smooth(lens) for lens in shown],
    [f"{candidates[k].axion_mass_ev:.1e} eV\n±{lengths[k]:.2f} arcsec" for k in chosen],
    pixel_arcsec,
    half_side_arcsec=2.2,
    title="A light, an intermediate and a heavy axion",
)

# %% [markdown]
# How much does an image change with the mass? We render twenty lenses with a given mass, and again
# with 1.5 times this mass and the vortex in the same direction.

# %%
from dataclasses import replace

from tutorial_figures import residual_rms_percent


def render_with_mass(lens, mass_ev):
    """Render a lens with another axion mass."""
    vortex = dl.simulation.vortex(mass_ev, lens.vortex_angle_rad)
    return dl.simulation.render_image(replace(lens, substructure=vortex))


def change_percent(lens, mass_ev):
    """Return maximum and rms of the change of an image if its axion is 1.5 times as heavy."""
    before, after = render_with_mass(lens, mass_ev), render_with_mass(lens, 1.5 * mass_ev)
    maximum = 100 * np.abs(after - before).max() / after.max()
    return maximum, residual_rms_percent(after, before, side=32)


rows = {}
for mass_ev in (1e-24, 2e-24, 4e-24, 8e-24, 1.6e-23, 3e-23, 6e-23):
    changes = np.median([change_percent(lens, mass_ev) for lens in candidates[:20]], axis=0)
    rows[f"{mass_ev:.1e}"] = [2 * vortex_length_arcsec(mass_ev) / pixel_arcsec, *changes]
columns = ["vortex / pixels", "maximum change / %", "rms change / %"]
sensitivity = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
sensitivity.rename_axis("axion mass / eV").round(3)

# %%
rms = sensitivity["rms change / %"]
Markdown(
    f"Changes are in % of the brightest pixel, the rms is over the central crop, and each value is "
    f"the median of the twenty lenses. Images depend most strongly on the mass at "
    f"**{rms.idxmax()} eV**, with an rms change of {rms.max():.2f} %. At the light end, "
    f"{rms.index[0]} eV, the change is **{rms.max() / rms.iloc[0]:.1f} times** smaller. At the "
    f"heavy end, {rms.index[-1]} eV, where the vortex is about one pixel long, it is "
    f"**{rms.max() / rms.iloc[-1]:.0f} times** smaller. The images still differ, but by very "
    f"little. We expect the largest errors for heavy axions."
)

# %% [markdown]
# ## Training
#
# The network starts from random weights (`finetune.encoder=none`; the folder of a pretraining run
# would start from its encoder). With `finetune.likelihood=gaussian` the head has two outputs, the
# prediction $\mu$ and its standard deviation $\sigma$. The loss is the negative logarithm of the
# Gaussian density at the true value $y$:
#
# $$\tfrac12\ln(2\pi\sigma^2) + \frac{(y-\mu)^2}{2\sigma^2}.$$
#
# A large $\sigma$ reduces the loss of a wrong prediction and increases that of a correct one. The
# loss can be negative, because it contains a density, not a probability.

# %%
changes = [
    "data.image_size=32",
    "data.fit=crop",
    "encoder.patch_size=4",
    "finetune.head=regression",
    "finetune.likelihood=gaussian",
    "finetune.encoder=none",
    f"train.epochs={SETTINGS['epochs']}",
    f"seed={seed}",
]
config = dl.load_config("finetune", changes, data=str(data.folder))

# %%
# %%capture log
run = dl.training.finetune(config, "mass", "runs/mass")

# %%
dl.figures.training_curves({"mass": pd.read_csv(run.history)}, "Regression of the axion mass")

# %% [markdown]
# ## Predicted against true
#
# The report scores each test image once. The intervals are 95 % intervals over the test images.

# %%
folder, metrics = dl.evaluation.evaluate_run(run)
intervals = metrics["intervals_95"]
rows = {name: [metrics[name], *interval] for name, interval in intervals.items()}
pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"]).round(3)

# %% tags=["picture-mass"]
table = pd.read_csv(folder / "predictions.csv")
dl.figures.predicted_against_true(
    table["log10_mass_ev"],
    table["predicted"],
    table["std_dex"],
    marks={f"vortex {name}": np.log10(mass_ev) for name, mass_ev in limits_ev.items()},
)

# %% [markdown]
# Each point is one test image. The vertical lines are the two limits from above: to the left of the
# first the vortex extends beyond the ring, to the right of the second it is shorter than a pixel.
# In the lower panel, the band contains the middle 68 % of the residuals, and the dotted lines are
# the mean standard deviation that the network predicts.
#
# ## Where the prediction fails

# %%
edges = [-np.inf, *(np.log10(list(limits_ev.values()))), np.inf]
names = ["beyond the ring", "between the limits", "below a pixel"]
table["vortex"] = pd.cut(table["log10_mass_ev"], edges, labels=names)
table["error"] = table["predicted"] - table["log10_mass_ev"]


def errors_of(rows):
    """Return the errors in a range of masses, and those of always predicting its median."""
    true = rows["log10_mass_ev"]
    return pd.Series(
        {
            "images": len(rows),
            "error_dex": rows["error"].abs().mean(),
            "error_of_median_dex": (true - true.median()).abs().mean(),
            "mean_error_dex": rows["error"].mean(),
            "predicted_std_dex": rows["std_dex"].mean(),
            "slope": np.polyfit(true, rows["predicted"], 1)[0],
        }
    )


by_length = pd.DataFrame({name: errors_of(table[table["vortex"] == name]) for name in names}).T
by_length.astype({"images": int}).rename_axis("vortex").round(3)

# %% [markdown]
# `error_dex` is the mean absolute error. `error_of_median_dex` is the error of a constant
# prediction, the median mass of the range: in a narrow range even a constant is never far off.
# `slope` is the change of the prediction if the true value increases by 1 dex. It is 1 for a
# perfect measurement and 0 for a constant prediction.

# %%
error, constant, slope = (by_length[k] for k in ("error_dex", "error_of_median_dex", "slope"))
better = [name for name in names if error[name] < constant[name]]
worse = [name for name in names if error[name] >= constant[name]]
Markdown(
    f"The error is smallest for vortices **{error.idxmin()}** ({error.min():.3f} dex, a factor "
    f"of {10 ** error.min():.2f}) and largest for those **{error.idxmax()}** ({error.max():.3f} "
    f"dex, a factor of {10 ** error.max():.2f}). The network is better than a constant prediction "
    f"in the ranges: **{', '.join(better) or 'none'}**. It is not better in the ranges: "
    f"**{', '.join(worse) or 'none'}**. The slopes are "
    + ", ".join(f"**{value:.2f}** {name}" for name, value in slope.items())
    + "."
)

# %%
light, middle, heavy = "beyond the ring", "between the limits", slope["below a pixel"]
light_is_hard = error[light] > error[middle]
Markdown(
    f"**Heavy axions.** The table of changes explains the result. If the mass increases by a "
    f"factor of 1.5, the images change by {rms.iloc[-2]:.3f} % rms at {rms.index[-2]} eV and by "
    f"{rms.iloc[-1]:.4f} % at {rms.index[-1]} eV. After training with {SETTINGS['images']} images, "
    f"the predictions below a pixel "
    f"{'are nearly constant' if abs(heavy) < 0.3 else 'still depend on the mass'} "
    f"(slope {heavy:.2f}).\n\n**Light axions.** The error is "
    f"{'larger' if light_is_hard else 'not larger'} than between the limits "
    f"({error[light]:.3f} and {error[middle]:.3f} dex): the length of a vortex beyond the ring "
    f"{'hardly changes the image' if light_is_hard else 'still changes the image measurably'}. "
    f"The slope of {slope[light]:.2f} means that the predictions are "
    f"{'' if slope[light] < 0.9 else 'not '}biased towards the middle of the range."
)

# %% [markdown]
# Is this a limit of the images or of the network? These images contain no noise, so even a faint
# difference is present in full, and a network with more training images or a longer training may
# detect it. In images with instrumental noise (`simulate --noise`) the noise would hide it.
#
# ## Is the predicted uncertainty correct?

# %%
inside = metrics["coverage_68"], metrics["coverage_95"]
correlation = table["std_dex"].corr(table["error"].abs(), method="spearman")
Markdown(
    f"**{inside[0]:.0%}** of the true values are within the 68 % range of the network and "
    f"**{inside[1]:.0%}** are within its 95 % range. The rank correlation between the predicted "
    f"standard deviation and the absolute error is **{correlation:.2f}**. A positive correlation "
    f"means that larger errors tend to come with larger predicted uncertainties."
)

# %% [markdown]
# Next: [6. Your own images](06_your_own_images.ipynb).
