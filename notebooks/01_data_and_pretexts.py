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
# **What you learn.** What the images are and what in them tells one kind of dark matter from
# another; why the axion's mass is learned as a logarithm; how two views are made of one image,
# and why the choice of the views decides what a network can learn.
#
# **What it costs.** Less than a minute on two cores. Nothing is trained here.
#
# The numbers in the text are computed by the cells: change a setting, run again, and the
# sentences follow.

# %%
# %matplotlib inline
import logging
from pathlib import Path

import numpy as np
from IPython.display import Markdown

from deeplens_tf.startup import import_tensorflow

import_tensorflow()  # without its start-up messages
logging.getLogger("tensorflow").setLevel(logging.ERROR)

# %%
SETTINGS = {"images_per_class": 60, "masses": 2000, "checked": 60, "image_size": 32, "seed": 0}
# Full size, that of the published data:
# SETTINGS = {"images_per_class": 30_000, "masses": 30_000, "checked": 1000, "image_size": 32,
#             "seed": 0}

# %% [markdown]
# ## The physics in two paragraphs
#
# Gravity bends light. A galaxy behind another one is therefore seen somewhere else than it is:
# with $\vec\beta$ where the source really is on the sky, $\vec\theta$ where it is seen and
# $\vec\alpha$ the deflection by the lens, the **lens equation** reads
#
# $$\vec\beta = \vec\theta - \vec\alpha(\vec\theta).$$
#
# For a source behind the very centre of a round lens the solution is a circle, the Einstein ring.
# With the mass $M$ inside of it, its radius is
#
# $$\theta_E = \sqrt{\frac{4GM}{c^2}\,\frac{D_{LS}}{D_L\,D_S}},$$
#
# with the angular-diameter distances $D_L$ to the lens, $D_S$ to the source and $D_{LS}$ from one
# to the other. Our lens is an isothermal ellipsoid of $10^{12}\,M_\odot$ at redshift 0.5 in a weak
# external shear, the source a small galaxy at redshift 1, up to 0.35 arcsec off the centre in each
# direction. Near the centre it is seen as a ring of uneven brightness, farther off as two arcs.
#
# Dark matter decides what lies in the halo besides the smooth ellipsoid. The three classes are
# **`no_sub`**, nothing; **`cdm`**, 25 subhalos of cold dark matter with masses drawn from
# $dN/dM \propto M^{-0.9}$ between $10^6$ and $10^{10}\,M_\odot$; and **`axion`**, a vortex of
# $3\cdot10^{10}\,M_\odot$ in a condensate of very light particles, a straight line of mass through
# the centre that reaches as far as the particle's de Broglie wavelength to both sides:
#
# $$\lambda = \frac{0.06}{2\,m}\cdot 10^{-22}\ \text{arcsec}\qquad (m \text{ in eV}).$$

# %%
from astropy import constants, units
from astropy.cosmology import FlatLambdaCDM

from deeplens_tf.simulation.priors import einstein_radius_arcsec
from deeplens_tf.simulation.render import deflection_scale

sky = FlatLambdaCDM(H0=70, Om0=0.3, Ob0=0.05)
to_lens, to_source = sky.angular_diameter_distance([0.5, 1.0])
# Space is flat: comoving distances may be subtracted.
between = (sky.comoving_distance(1.0) - sky.comoving_distance(0.5)) / (1 + 1.0)
length = 4 * constants.G * 1e12 * constants.M_sun / constants.c**2
by_formula = np.sqrt((length * between / (to_lens * to_source)).to_value("")) * units.rad
by_deeplense = einstein_radius_arcsec(1e12)
scale = deflection_scale("model_ii")
ring_arcsec = scale * by_deeplense
Markdown(
    f"For our lens the formula gives **{by_formula.to_value('arcsec'):.3f} arcsec**. DeepLenseSim, "
    f"which made the published images, puts *luminosity* distances into it and $D_S - D_L$ in "
    f"place of $D_{{LS}}$; that gives **{by_deeplense:.3f} arcsec**, and we repeat it so that our "
    f"images match the published ones. In Models II and III it also takes all deflections for "
    f"those of a source at redshift 2.5, and as the source is at 1 they are multiplied by the "
    f"ratio of $D_{{LS}}/D_S$ for the two, **{scale:.3f}**: the ring that we see has a radius of "
    f"**{ring_arcsec:.2f} arcsec**."
)

# %% [markdown]
# ## One lens of each class
#
# A *request* says which images we want. Everything random in image number $i$ of a class follows
# from (preset, split, seed, class, $i$), so a lens can be drawn without drawing the others.

# %%
from deeplens_tf.figures.image_grids import image_grid
from deeplens_tf.simulation.priors import CLASSES
from deeplens_tf.simulation.render import instrument_for, render_image, render_smooth
from deeplens_tf.simulation.request import SimulationRequest

request = SimulationRequest(
    preset="model_ii",
    count=SETTINGS["images_per_class"],
    out=Path("data/lenses"),
    seed=SETTINGS["seed"],
)
pixel_arcsec = float(instrument_for("model_ii", 0).simulation.pixel_scale)
lenses = [request.lens(name, i) for i in range(2) for name in CLASSES]
image_grid(
    [render_image(lens) for lens in lenses],
    [lens.class_name for lens in lenses],
    columns=3,
    title="Simulated lenses, Model II (Euclid VIS)",
    pixel_scale_arcsec=pixel_arcsec,
)

# %% [markdown]
# Most of what differs between these pictures is where the source is. Which class an image belongs
# to is not to be seen at a glance, and this is the difficulty of the whole problem.
#
# ## What the substructure does
#
# We can ask the simulation for the same lens with the substructure taken out, and subtract. (With
# a real image one would fit a smooth lens first, which takes up a part of the difference.)

# %% tags=["picture-substructure"]
from tutorial_figures import substructure_figure

one_of_each = [request.lens(name, 0) for name in CLASSES]
substructure_figure(
    [render_image(lens) for lens in one_of_each],
    [render_smooth(lens) for lens in one_of_each],
    CLASSES,
    pixel_arcsec,
    half_side_arcsec=1.7,
)

# %% [markdown]
# Above the image, below the image minus its smooth twin, in per cent of the image's brightest
# pixel. Mind that each has a scale of its own. How large is the residual in many lenses? Its root
# mean square depends on how much empty sky one counts in; we take the central part of the image,
# the one that the tutorials' networks are given.

# %%
from tutorial_figures import residual_rms_percent

side, checked = SETTINGS["image_size"], SETTINGS["checked"]
residuals = {}
for name in CLASSES:
    drawn = [request.lens(name, i) for i in range(checked)]
    pairs = [(render_image(lens), render_smooth(lens)) for lens in drawn]
    residuals[name] = np.median([residual_rms_percent(*pair, side) for pair in pairs])
Markdown(
    f"Median over {checked} lenses of the residual's rms in the central {side} by {side} pixels, "
    f"in % of the maximum: "
    + ", ".join(f"`{name}` **{value:.2f}**" for name, value in residuals.items())
    + "."
)

# %% [markdown]
# ## The mass of the axion, and why its logarithm
#
# Masses are drawn between $10^{-24}$ and $10^{-22}$ eV so that each factor of ten is as likely
# as any other. In eV nearly all of the range belongs to the heavy ones, in $\log_{10}$ all masses
# are treated alike:

# %%
from tutorial_figures import histograms

axions = [request.lens("axion", i) for i in range(SETTINGS["masses"])]
masses_ev = np.array([lens.axion_mass_ev for lens in axions])
histograms(
    {"axion mass / eV": masses_ev, "log10(axion mass / eV)": np.log10(masses_ev)},
    title="The same masses, plain and as logarithms",
)

# %% [markdown]
# There are three reasons to predict $\log_{10}(m/\mathrm{eV})$ and not $m$:
#
# - A network works with numbers near one. A mean squared error of masses near $10^{-23}$ is about
#   $10^{-46}$; the smallest number of full precision in single precision is $10^{-38}$.
# - What one wants to know is the factor by which a prediction is off. A difference of logarithms
#   is such a factor, counted in *dex*: 0.3 dex is a factor of two, for a light axion as for a
#   heavy one.
# - In eV the error would be that of the heaviest axions alone, as the next cell shows.

# %%
light = masses_ev < np.median(masses_ev)
squared_error = (2 * masses_ev - masses_ev) ** 2  # every guess too high by a factor of two
tiny = np.finfo(np.float32).tiny
squared_error_dex = (np.log10(2 * masses_ev) - np.log10(masses_ev)) ** 2
Markdown(
    f"Let every guess be twice the truth. In eV the lighter half of the axions has "
    f"**{squared_error[light].sum() / squared_error.sum():.2%}** of the total squared error; in "
    f"dex it has **{squared_error_dex[light].sum() / squared_error_dex.sum():.0%}**. "
    f"And **{np.mean(squared_error < tiny):.0%}** of the squared errors in eV are below "
    f"{tiny:.1e}, where single precision ends and a network's hardware may count them as zero."
)

# %% [markdown]
# ## How long is a vortex?
#
# What an image can tell about the mass is the length of the vortex. Two lengths set the limits:
# a pixel and the ring.

# %%
from tutorial_figures import vortex_figure

from deeplens_tf.simulation.priors import vortex_length_arcsec

grid_ev = np.logspace(-24, -22, 50)
limits = {"half a pixel": pixel_arcsec / 2, "the ring's radius": ring_arcsec}
vortex_figure(grid_ev, vortex_length_arcsec(grid_ev), limits)

# %%
lengths_arcsec = vortex_length_arcsec(masses_ev)
below_pixel = np.mean(lengths_arcsec < limits["half a pixel"])
beyond_ring = np.mean(lengths_arcsec > limits["the ring's radius"])
pixel_ev, ring_ev = (vortex_length_arcsec(1.0) / length for length in limits.values())
Markdown(
    f"Above **{pixel_ev:.1e} eV** are **{below_pixel:.0%}** of the axions. There half of the "
    f"vortex is shorter than half a pixel, the whole, from end to end, shorter than a pixel: it "
    f"acts almost like a point in the centre, whatever the mass. Below **{ring_ev:.1e} eV** are "
    f"**{beyond_ring:.0%}**, whose vortex reaches beyond the ring, where there is less and less "
    f"light to bend. So one expects both ends of the range to be harder than its middle; "
    f"tutorial 5 looks whether it is so."
)

# %% [markdown]
# ## From lenses to files to a training set
#
# `simulate` writes the images in the layout of the published data, one folder for each class and
# the axion's masses in a table. `prepare_folder` reads them once and writes what training reads:
# images of one size, scaled to $[0, 1]$, in shards. On the command line these two are
# `python -m deeplens_tf.simulate` and `python -m deeplens_tf.prepare`.

# %%
from deeplens_tf.simulation.generation import simulate

outcome = simulate(request)
axion_folder = outcome.folder / "axion"
print(outcome.written, "images, such as", min(axion_folder.glob("*.npy")).relative_to("data"))
print(*(axion_folder / "masses.csv").read_text().splitlines()[:3], sep="\n")

# %%
from deeplens_tf.data.preparing import prepare_folder
from deeplens_tf.prepare import summary

prepared = Path("data/lenses_32")
manifest = prepare_folder(
    outcome.folder, prepared, image_size=side, fit="crop", validation_fraction=0.1, seed=0
)
print(summary(manifest, prepared))

# %% [markdown]
# `fit="crop"` keeps the central 32 of the 64 pixels. The lens fills just these, so the crop loses
# only empty sky; with patches of 4 pixels it costs a Vision Transformer as much as the whole image
# in patches of 8, and each patch covers a quarter of the area. `fit="resize"` would shrink the
# picture instead, to pixels of twice the side, and blur what we are after.

# %%
from deeplens_tf.data.image_files import read_image
from deeplens_tf.data.scaling import resize_and_scale

image, mass_ev = read_image(request.image_path("cdm", 0))
image_grid(
    [image, resize_and_scale(image, side, "crop"), resize_and_scale(image, side, "resize")],
    ["as simulated", "crop", "resize"],
    title="One lens, cropped and resized",
    pixel_scale_arcsec=[pixel_arcsec, pixel_arcsec, pixel_arcsec * len(image) / side],
)

# %% [markdown]
# ## Two views of one image
#
# Self-supervised learning needs no labels. It needs a *pretext*: a change of the image that should
# not matter. The network is then taught that two changed copies, two *views*, are the same thing.
# The sky has no up and no left, so turning and mirroring is a change that really does not matter.

# %%
from deeplens_tf.config import load_config
from deeplens_tf.data.batches import open_data, pretraining_batches
from deeplens_tf.figures.image_grids import views_grid


def show_views(*pretexts):
    """Show three images with the views that these pretexts make of them."""
    words = ["data.image_size=32", "data.fit=crop", f"augment.views=[{','.join(pretexts)}]"]
    config = load_config("contrastive", words, data=str(prepared))
    data = open_data(config)
    batches = pretraining_batches(data, "train", config.augment, batch_size=3, epochs=None)
    views = [next(iter(batches))[key].numpy() for key in ("image", "view_1", "view_2")]
    title = f"Pretext: {', '.join(pretexts)}"
    return views_grid(*views, title, pixel_scale_arcsec=pixel_arcsec)


show_views("flip", "rotation")

# %% [markdown]
# Rotation is by any angle; the pixels between are interpolated and the corners filled by
# reflection. With quarter turns (`rot90`) every pixel keeps its value. The other pretext of the
# original project is Gaussian noise of a standard deviation of 0.1, where the image runs from 0
# to 1:

# %%
show_views("gaussian_noise")

# %%
noise = load_config("contrastive").augment.gaussian_noise.stddev
Markdown(
    f"That noise is **{100 * noise:.0f} %** of the maximum in every pixel. The trace of `cdm` "
    f"substructure had in these pixels an rms of {residuals['cdm']:.2f} %: the noise is "
    f"**{100 * noise / residuals['cdm']:.1f} times** larger. A network that is asked for the same "
    f"features with and without it is pushed to pass over changes of that size, and those that "
    f"substructure makes are smaller. So the choice of the pretext is a statement about physics."
)

# %% [markdown]
# ## Random, and the same every time
#
# A view's random numbers follow from (seed, epoch, index of the image, number of the view). So
# each epoch shows new views, and a run can be repeated, or resumed in the middle, exactly.

# %%
import tensorflow as tf

from deeplens_tf.augment import two_views

augment = load_config("contrastive").augment
indices = tf.range(8, dtype=tf.int64)
images = tf.random.stateless_uniform((8, 32, 32, 1), seed=(0, 1))
first, second = two_views(images, indices, seed=0, epoch=0, config=augment)
again, _ = two_views(images, indices, seed=0, epoch=0, config=augment)
later, _ = two_views(images, indices, seed=0, epoch=1, config=augment)
print("same seed and epoch, same view: ", bool(np.array_equal(first, again)))
print("view 1 and view 2 alike:        ", bool(np.array_equal(first, second)))
print("the next epoch's view alike:    ", bool(np.array_equal(first, later)))

# %% [markdown]
# Next: [2. Contrastive pretraining](02_contrastive_pretraining.ipynb) teaches a network that two
# views are one image, and asks what it has learned by that.
