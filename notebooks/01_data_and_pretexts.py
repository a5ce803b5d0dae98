# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. Data and pretexts
#
# **What you learn.** What the images show, and how the three kinds of dark matter differ in them;
# why the axion mass is predicted as a logarithm; how augmentations make two views of an image for
# a self-supervised pretext task, and why the choice of augmentations decides what a network can
# learn.
#
# **What it costs.** Less than a minute on two cores. Nothing is trained here.
#
# The numbers in the text are computed by the cells. If you change a setting and run the notebook
# again, the sentences change too.

# %%
# %matplotlib inline
import logging

import numpy as np
from IPython.display import Markdown

import deeplens_tf as dl

dl.import_tensorflow()  # without its start-up messages
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# %%
SETTINGS = {"images_per_class": 60, "masses": 2000, "residuals": 60, "image_size": 32, "seed": 0}
# Full size, that of the published data:
# SETTINGS = {"images_per_class": 30_000, "masses": 30_000, "residuals": 1000, "image_size": 32,
#             "seed": 0}

# %% [markdown]
# ## The physics in two paragraphs
#
# Gravity deflects light, so a galaxy behind another galaxy appears at a different position on the
# sky. With the true position of the source $\vec\beta$, its apparent position $\vec\theta$ and the
# deflection by the lens $\vec\alpha$, the **lens equation** is
#
# $$\vec\beta = \vec\theta - \vec\alpha(\vec\theta).$$
#
# For a source exactly behind the centre of a round lens, the solution is a circle, the Einstein
# ring. Its radius follows from the mass $M$ inside it:
#
# $$\theta_E = \sqrt{\frac{4GM}{c^2}\,\frac{D_{LS}}{D_L\,D_S}},$$
#
# where $D_L$, $D_S$ and $D_{LS}$ are the angular diameter distances to the lens, to the source and
# from the lens to the source. Our lens is an isothermal ellipsoid of $10^{12}\,M_\odot$ at redshift
# 0.5 in a weak external shear. The source is a small galaxy at redshift 1, offset from the centre
# by up to 0.35 arcsec in each direction. With a small offset it appears as a ring of uneven
# brightness, with a larger one as two arcs.
#
# The type of dark matter determines the substructure of the halo, in addition to the smooth
# ellipsoid. There are three classes. **`no_sub`** has no substructure. **`cdm`** has 25 subhalos of
# cold dark matter, with masses drawn from $dN/dM \propto M^{-0.9}$ between $10^6$ and
# $10^{10}\,M_\odot$. **`axion`** has a vortex of $3\cdot10^{10}\,M_\odot$ in a condensate of very
# light particles. The vortex is a straight line of mass through the centre. It extends to both
# sides by the de Broglie wavelength of the particle,
#
# $$\lambda = \frac{0.06}{2\,m}\cdot 10^{-22}\ \text{arcsec}\qquad (m \text{ in eV}).$$

# %%
from astropy import constants, units
from astropy.cosmology import FlatLambdaCDM

sky = FlatLambdaCDM(H0=70, Om0=0.3, Ob0=0.05)
to_lens, to_source = sky.angular_diameter_distance([0.5, 1.0])
# In a flat universe comoving distances can be subtracted.
between = (sky.comoving_distance(1.0) - sky.comoving_distance(0.5)) / (1 + 1.0)
length = 4 * constants.G * 1e12 * constants.M_sun / constants.c**2
by_formula = np.sqrt((length * between / (to_lens * to_source)).to_value("")) * units.rad
by_deeplense = dl.simulation.einstein_radius_arcsec(1e12)
scale = dl.simulation.deflection_scale("model_ii")
ring_arcsec = scale * by_deeplense
Markdown(
    f"For our lens the formula gives **{by_formula.to_value('arcsec'):.3f} arcsec**. DeepLenseSim, "
    f"the program that made the published images, uses *luminosity* distances instead, and "
    f"$D_S - D_L$ instead of $D_{{LS}}$. This gives **{by_deeplense:.3f} arcsec**. We do the same, "
    f"so that our images agree with the published ones. In Models II and III, DeepLenseSim also "
    f"defines all deflections for a source at redshift 2.5. Since the source is at redshift 1, "
    f"they are multiplied by the ratio of $D_{{LS}}/D_S$ for these two redshifts, **{scale:.3f}**. "
    f"The ring in the images therefore has a radius of **{ring_arcsec:.2f} arcsec**."
)

# %% [markdown]
# ## One lens of each class
#
# `simulate` writes images in the layout of the published data: one folder per class, and a table
# of the axion masses. (The same command in a terminal is `python -m deeplens_tf.simulate`.)

# %%
lenses_folder = "data/lenses"
count, seed = SETTINGS["images_per_class"], SETTINGS["seed"]
outcome = dl.simulation.simulate(lenses_folder, count, preset="model_ii", seed=seed, jobs=2)
axion_folder = outcome.folder / "axion"
print(outcome.written, "images, for example", min(axion_folder.glob("*.npy")))
print(*(axion_folder / "masses.csv").read_text().splitlines()[:3], sep="\n")

# %% [markdown]
# All random numbers of image $i$ follow from (preset, split, seed, class, $i$). The parameters of
# any lens can therefore be drawn again, without its file:

# %%
request = outcome.request
pixel_arcsec = dl.simulation.pixel_scale_arcsec("model_ii")
lenses = [request.lens(name, i) for i in range(2) for name in request.classes]
dl.figures.image_grid(
    [dl.simulation.render_image(lens) for lens in lenses],
    [lens.class_name for lens in lenses],
    columns=3,
    title="Simulated lenses, Model II (Euclid VIS)",
    pixel_scale_arcsec=pixel_arcsec,
)

# %% [markdown]
# Most of the differences between these images come from the position of the source. The class of
# an image is not visible at a glance. This is what makes the problem hard.
#
# ## The effect of substructure
#
# In a simulation we can remove the substructure, render the same lens again and subtract. (For a
# real image one would first fit a smooth lens, which absorbs part of the difference.)

# %% tags=["picture-substructure"]
from tutorial_figures import substructure_figure

one_of_each = [request.lens(name, 0) for name in request.classes]
substructure_figure(
    [dl.simulation.render_image(lens) for lens in one_of_each],
    [dl.simulation.render_smooth(lens) for lens in one_of_each],
    request.classes,
    pixel_arcsec,
    half_side_arcsec=1.7,
)

# %% [markdown]
# Top: the image. Bottom: the image minus the same lens without substructure, in per cent of the
# brightest pixel. Each residual has its own colour scale. How large is the residual in many lenses?
# Its root mean square depends on how much empty sky is included. We use the central part of the
# image, on which the networks of the tutorials are trained.

# %%
from tutorial_figures import residual_rms_percent

side, checked = SETTINGS["image_size"], SETTINGS["residuals"]
residuals = {}
for name in request.classes:
    drawn = [request.lens(name, i) for i in range(checked)]
    pairs = [(dl.simulation.render_image(k), dl.simulation.render_smooth(k)) for k in drawn]
    residuals[name] = np.median([residual_rms_percent(*pair, side) for pair in pairs])
Markdown(
    f"Median rms of the residual over {checked} lenses, in the central {side} x {side} pixels, in "
    f"% of the maximum: "
    + ", ".join(f"`{name}` **{value:.2f}**" for name, value in residuals.items())
    + "."
)

# %% [markdown]
# ## The axion mass, and why we use its logarithm
#
# Masses are drawn between $10^{-24}$ and $10^{-22}$ eV, uniformly in $\log_{10} m$: every factor
# of ten is equally likely. On a linear axis almost the whole range belongs to the heavy axions:

# %%
from tutorial_figures import histograms

axions = [request.lens("axion", i) for i in range(SETTINGS["masses"])]
masses_ev = np.array([lens.axion_mass_ev for lens in axions])
histograms(
    {"axion mass / eV": masses_ev, "log10(axion mass / eV)": np.log10(masses_ev)},
    title="The same masses in eV and as logarithms",
)

# %% [markdown]
# There are three reasons to predict $\log_{10}(m/\mathrm{eV})$ instead of $m$:
#
# - Networks are trained with numbers of order one. A mean squared error of masses near $10^{-23}$
#   eV is about $10^{-46}$, but the smallest normal number in single precision is about $10^{-38}$.
# - The quantity of interest is the factor by which a prediction is wrong. A difference of
#   logarithms measures this factor, in *dex*: 0.3 dex is a factor of two, for a light axion and
#   for a heavy one.
# - In eV, the heaviest axions alone would determine the error, as the next cell shows.

# %%
light = masses_ev < np.median(masses_ev)
squared_error = (2 * masses_ev - masses_ev) ** 2  # every prediction is too high by a factor of two
tiny = np.finfo(np.float32).tiny
squared_error_dex = (np.log10(2 * masses_ev) - np.log10(masses_ev)) ** 2
Markdown(
    f"Suppose that every prediction is twice the true mass. In eV, the lighter half of the axions "
    f"contributes **{squared_error[light].sum() / squared_error.sum():.2%}** of the total squared "
    f"error; in dex it contributes "
    f"**{squared_error_dex[light].sum() / squared_error_dex.sum():.0%}**. Moreover, "
    f"**{np.mean(squared_error < tiny):.0%}** of the squared errors in eV are below {tiny:.1e}, "
    f"the smallest normal number in single precision. Hardware may round such numbers to zero."
)

# %% [markdown]
# ## The length of a vortex
#
# The mass affects the image only through the length of the vortex. Two other lengths determine
# whether it can be measured: the size of a pixel and the radius of the ring.

# %%
from tutorial_figures import vortex_figure

grid_ev = np.logspace(-24, -22, 50)
limits = {"half a pixel": pixel_arcsec / 2, "radius of the ring": ring_arcsec}
vortex_figure(grid_ev, dl.simulation.vortex_length_arcsec(grid_ev), limits)

# %%
lengths_arcsec = dl.simulation.vortex_length_arcsec(masses_ev)
below_pixel = np.mean(lengths_arcsec < limits["half a pixel"])
beyond_ring = np.mean(lengths_arcsec > limits["radius of the ring"])
pixel_ev, ring_ev = (dl.simulation.vortex_length_arcsec(1.0) / length for length in limits.values())
Markdown(
    f"**{below_pixel:.0%}** of the axions are heavier than **{pixel_ev:.1e} eV**. Their vortex is "
    f"shorter than a pixel from end to end and acts almost like a point mass in the centre, "
    f"whatever the mass of the axion. **{beyond_ring:.0%}** are lighter than **{ring_ev:.1e} eV**. "
    f"Their vortex extends beyond the ring, where there is little light to deflect. We therefore "
    f"expect both ends of the range to be harder than the middle. Tutorial 5 tests this."
)

# %% [markdown]
# ## From image files to a training set
#
# `open_folder` opens a folder of images for training. The first time, it reads every file, brings
# all images to one size, scales each to $[0, 1]$, sets a tenth of each class aside for validation
# and stores the result in a cache. The command `python -m deeplens_tf.prepare` does this as a
# separate step; see [tutorial 6](06_your_own_images.ipynb).

# %%
data = dl.data.open_folder(lenses_folder, image_size=side, fit="crop", seed=seed)
print("image shape:", data.image_shape, "classes:", data.classes)
print("images:", {split: data.count(split) for split in ("train", "validation")})

# %% [markdown]
# `fit="crop"` keeps the central 32 x 32 of the 64 x 64 pixels, which contain the lens. The rest is
# empty sky. A Vision Transformer with patches of 4 pixels needs as much computing time for the
# central crop as for the full image with patches of 8, but each of its patches covers a quarter of
# the area. `fit="resize"` scales the full image down instead. The pixels are then twice as large,
# which blurs the effect of the substructure.

# %%
image = dl.simulation.render_image(one_of_each[1])[..., np.newaxis]  # one band
fitted = [dl.data.resize_and_scale(image, side, fit) for fit in ("crop", "resize")]
dl.figures.image_grid(
    [image, *fitted],
    ["as simulated", "crop", "resize"],
    title="One lens, cropped and resized",
    pixel_scale_arcsec=[pixel_arcsec, pixel_arcsec, pixel_arcsec * len(image) / side],
)

# %% [markdown]
# ## Two views of an image
#
# Self-supervised learning needs no labels. The network learns a *pretext task*, which is made from
# the images alone. In tutorials 2 and 3 the pretext task is to recognise that two *views* come from
# the same image. A view is a randomly changed copy of an image, and the random changes that make it
# are its *augmentations*. The features of the network become insensitive to the augmentations, so
# these must not change what we want to measure. The sky has no preferred direction. Flips and
# rotations are therefore safe.


# %%
def show_views(title, augmentations):
    """Show three images, each with two views of it."""
    augment = dl.augment.Augment(augmentations)
    batch = next(iter(dl.data.view_batches(data, augment, batch_size=3)))
    views = [batch[key].numpy() for key in ("image", "view_1", "view_2")]
    return dl.figures.views_grid(*views, title, pixel_scale_arcsec=pixel_arcsec)


show_views("Augmentations: flip, rotation", ["flip", "rotation"])

# %% [markdown]
# Rotations are by any angle, with bilinear interpolation. The whole image is rotated and then
# cropped, so that the corners show the sky around the crop.
# Rotations by multiples of 90 degrees (`rot90`) keep the value of every pixel. The other
# augmentation of the original project is Gaussian noise with a standard deviation of 0.1, for
# images between 0 and 1. An augmentation is given by its name, or as an object with settings of
# its own:

# %%
noise = dl.augment.GaussianNoise(stddev=0.1)
show_views("Augmentation: Gaussian noise", [noise])

# %%
Markdown(
    f"This noise has a standard deviation of **{100 * noise.stddev:.0f} %** of the maximum in "
    f"every pixel. In these pixels the residual of `cdm` substructure has an rms of "
    f"{residuals['cdm']:.2f} %. The noise is **{100 * noise.stddev / residuals['cdm']:.1f} times** "
    f"larger. A network that is trained to give the same features with and without this noise is "
    f"trained to ignore changes of this size, and the changes by substructure are smaller. To "
    f"choose augmentations is to state which differences between images are irrelevant."
)

# %% [markdown]
# ## Random, but reproducible
#
# The random numbers of a view follow from (seed, epoch, index of the image, number of the view).
# Every epoch has new views, and a run can still be repeated, or resumed at any step, exactly.

# %%
augment = dl.augment.Augment(["flip", "rotation"])
indices = np.arange(8)
images = np.random.default_rng(seed).random((8, side, side, 1), np.float32)
first, second = augment.two_views(images, indices, seed=0, epoch=0)
again, _ = augment.two_views(images, indices, seed=0, epoch=0)
later, _ = augment.two_views(images, indices, seed=0, epoch=1)
print("same seed and epoch, equal views:", np.array_equal(first, again))
print("view 1 equals view 2:            ", np.array_equal(first, second))
print("next epoch, equal views:         ", np.array_equal(first, later))

# %% [markdown]
# Next: [2. Contrastive pretraining](02_contrastive_pretraining.ipynb) trains a network to recognise
# the two views of an image, and measures what it has learned.
