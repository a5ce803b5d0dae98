"""Maps of the test images by their features, before and after the pretraining of `object`.

    python -m results.maps

takes the shipped encoder and the noise-free test images, and writes the place of each image in the
order of the store to results/predictions/clean/map.npz. A map is a t-SNE (van der Maaten and Hinton
2008) that starts from the first two principal components. It sees no class and no mass.
"""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

import deeplens_tf as dl
from results import store
from results.row_steps import TEST_IMAGES, TEST_SEED
from results.rows import SKIES

SKY, SEED = SKIES[0], 0
ENCODER = "vit_nano_same_lens"
STAGES = ("before", "after")  # the pretraining
FILE = store.FOLDER / SKY.name / "map.npz"
Floats = NDArray[np.floating]


def write_maps() -> None:
    """Store the map of the shipped encoder's features, and that of the untrained network."""
    trained = dl.load_encoder(ENCODER)
    keras.utils.set_random_seed(SEED)
    untrained = dl.models.build_encoder("vit_nano", trained.image_shape, patch_size=4)
    untrained.preprocessing = trained.preprocessing
    images = _test_images()
    places = (_places(network.features(images)) for network in (untrained, trained))
    np.savez_compressed(FILE, **dict(zip(STAGES, places, strict=True)))  # type: ignore[arg-type]


def read_maps() -> dict[str, Floats]:
    """Return the stage of an encoder -> the places of the images, shape (images, 2)."""
    with np.load(FILE) as found:
        return {stage: found[stage].astype(float) for stage in STAGES}


def _test_images() -> list[Floats]:
    folder = SKY.folder()
    dl.simulation.simulate(str(folder), TEST_IMAGES, split="test", seed=TEST_SEED)
    files = pd.read_csv(store.FOLDER / SKY.name / "classes.csv")["file"]
    return [dl.data.read_image(Path(f"{folder}_test") / file)[0] for file in files]


def _places(features: Floats) -> Floats:
    standardised = StandardScaler().fit_transform(features)
    return TSNE(init="pca", random_state=0).fit_transform(standardised).astype("float16")


if __name__ == "__main__":
    write_maps()
