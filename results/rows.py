"""The rows of the table: what each pretrains on, and how."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeplens_tf.simulation.render import pixel_scale_arcsec
from deeplens_tf.simulation.survey_scenes import SURVEY_CLASSES

ALL = ("axion", "cdm", "no_sub")


@dataclass(frozen=True)
class Row:
    """A recipe of the table.

    Attributes:
        name: as the command line takes it.
        title: as the table shows it.
        config: file in results/configs of the pretraining; None for random weights.
        settings: of the pretraining that differ from the file; with `shipped`, of each use.
        classes: of the images that it pretrains on; empty for all of the sky.
        shipped: name of the encoder of the package that it takes instead of a pretraining.
        plugin: module with the method; None for the package's own.
        article: what the original published for it, fine-tuned on Model II with about 30,000
            labelled images a class: macro AUC of ResNet50 and of a Vision Transformer, R² of the
            mass. Other images and networks, so not to be compared closely.
    """

    name: str
    title: str
    config: str | None
    settings: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    shipped: str | None = None
    plugin: str | None = None
    article: str = "-"

    @property
    def from_scratch(self) -> bool:
        """Whether its network starts from random weights."""
        return self.config is None and self.shipped is None


PLAIN = {"pretrain.contrastive.projector": "plain"}
# New lenses in each epoch, from the encoder that has learned substructure behind one halo.
ONE_HALO = "vit_nano_same_lens"
WARM = {"pretrain.stream": "true", "pretrain.encoder": ONE_HALO}
# For short trainings the moving average has to follow faster than with the original's 0.99: the
# paper's authors take 0.97 for 40 epochs, and 0.99 for 100.
BYOL = {"pretrain.method": "byol", "pretrain.byol.beta": "0.97"}
TWIN, SIMSIAM = {"pretrain.method": "twin"}, {"pretrain.method": "simsiam"}
RESNET = {"encoder.name": "resnet50", "encoder.patch_size": "null"}
# Its patches have 32 pixels, so it takes the whole image of 64 x 64.
VIT_B32 = {
    "encoder.name": "vit_b32_original",
    "encoder.patch_size": "null",
    "data.image_size": "64",
}
OTHER_BANDS = {"data.other_bands": "true"}
ROWS = (
    Row("scratch", "supervised from random weights", None, article="AUC .959, .974; R² .68"),
    Row("image", "contrastive, two views of an image", "image"),
    Row("object", "contrastive, two images of a lens", "object"),
    Row("object_cdm", "the same, of `cdm` alone", "object", classes=("cdm",)),
    Row("object_axion_cdm", "the same, of `axion` and `cdm`", "object", classes=("axion", "cdm")),
    Row("object_known", "the same, without `axion`", "object", classes=("cdm", "no_sub")),
    Row("object_warm", "two images of a lens, from the encoder of one halo", "object", WARM),
    Row(
        "object_long",
        "two images of a lens, from the encoder of one halo, twice as long",
        "object",
        {**WARM, "train.epochs": "40", "optimizer.learning_rate": "0.0003"},
    ),
    Row(
        "supervised_contrastive",
        "supervised contrastive, all labels",
        "image",
        {"pretrain.method": "supervised_contrastive"},
        plugin="results.supervised_contrastive",
    ),
    Row("object_plain", "two images of a lens, head without BatchNorm", "object", PLAIN),
    Row("object_cdm_plain", "the same, of `cdm` alone", "object", PLAIN, ("cdm",)),
    Row(
        "rotation",
        "the original's rotation",
        "image",
        {**PLAIN, "augment.views": "[rotation]"},
        article="AUC .993, .989; R² .71",
    ),
    Row(
        "noise",
        "the original's Gaussian noise",
        "image",
        {**PLAIN, "augment.views": "[gaussian_noise]"},
        article="AUC .993, .990; R² .59",
    ),
    Row(
        "neighbours",
        "two views of an image, batches of neighbours",
        "image",
        {"pretrain.negatives": "neighbours"},
    ),
    Row("inpainting", "inpainting", "image", {"pretrain.method": "inpainting"}),
    Row("byol", "BYOL, two views of an image", "image", BYOL),
    Row("byol_object", "BYOL, two images of a lens", "object", BYOL),
    Row("twin", "Barlow Twins, two views of an image", "image", TWIN),
    Row("twin_object", "Barlow Twins, two images of a lens", "object", TWIN),
    Row("simsiam", "SimSiam, two views of an image", "image", SIMSIAM),
    Row("simsiam_object", "SimSiam, two images of a lens", "object", SIMSIAM),
    Row("resnet50", "two images of a lens, ResNet50", "object", RESNET),
    Row("vit_b32", "two images of a lens, the original's ViT-B/32", "object", VIT_B32),
    Row("shipped", "the shipped encoder `vit_nano_same_lens`", None, OTHER_BANDS, shipped=ONE_HALO),
)


TWO_IMAGES = ("--views-per-lens", "2")


@dataclass(frozen=True)
class Sky:
    """Simulated images, for example with noise, of a halo for each lens, or of another instrument.

    Attributes:
        name: as the command line takes it.
        title: as tables and figures show it.
        options: of the simulation.
        pairs: those of the simulation of training images alone, of which there are two of a lens.
        settings: of the preparation of the images, beside those of all skies.
        budgets: names of the skies whose budgets it takes, the first one that has them.
        classes: of the images, in sorted order.
    """

    name: str
    title: str = ""
    options: tuple[str, ...] = ()
    pairs: tuple[str, ...] = TWO_IMAGES
    settings: Mapping[str, Any] = field(default_factory=dict)
    budgets: tuple[str, ...] = ()
    classes: tuple[str, ...] = ALL

    @property
    def heads(self) -> tuple[str, ...]:
        """What is read out: the classes, and the mass of the axion."""
        return ("classification", "regression")[: 1 + ("axion" in self.classes)]

    def folder(self, classes: tuple[str, ...] = ()) -> Path:
        """Return the folder of the images of some classes; empty for all of them."""
        return Path("data/results") / "_".join((self.name, *classes))


AS_MODEL_II = {"data.resample_to_arcsec": pixel_scale_arcsec("model_ii")}
# With 1 % of the labels the rate of `clean` is too low for some encoders.
BUDGETS = ("noisy", "clean")
SKIES = (
    Sky("clean", "noise-free images"),
    Sky("noisy", "with the instrument's noise", ("--noise",)),
    # Pairs of one halo would tell the lenses apart by it.
    Sky(
        "wide",
        "a halo for each lens",
        ("--lens-prior", "wide"),
        (*TWO_IMAGES, "--shared", "substructure"),
    ),
    # To transfer to: at the pixel scale of Model II, with the budgets that were chosen there.
    Sky("model_iii", "Model III", ("--preset", "model_iii"), TWO_IMAGES, AS_MODEL_II, BUDGETS),
    Sky("model_i", "Model I", ("--preset", "model_i"), TWO_IMAGES, AS_MODEL_II, BUDGETS),
    Sky(
        "survey",
        "lenses of a survey among other galaxies",
        ("--preset", "sersic_survey", "--bands", "r"),
        (),
        AS_MODEL_II,
        BUDGETS,
        SURVEY_CLASSES,
    ),
)
