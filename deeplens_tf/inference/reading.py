"""How a new image becomes one that a network takes: which part of its file, and which pixels."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deeplens_tf.data.folders import SourceFile
from deeplens_tf.data.header_scales import stated_scale
from deeplens_tf.data.image_files import read_source
from deeplens_tf.data.image_sizes import ImageSizes
from deeplens_tf.errors import UnusableFile
from deeplens_tf.preprocessing.framing import same_scale
from deeplens_tf.preprocessing.preprocessing import Preprocessing
from deeplens_tf.preprocessing.selection import Selection


@dataclass(frozen=True)
class Reading:
    """How the images of a folder are read and preprocessed.

    Attributes:
        preprocessing: for the network. Its `source_scale_arcsec` is that of images for which no
            other one is stated.
        selection: which part of a file is its image.
        stated_arcsec: pixel scale of the images that the folder or the caller states; None for
            none.
    """

    preprocessing: Preprocessing
    selection: Selection = field(default_factory=Selection)
    stated_arcsec: float | None = None

    def image(
        self, file: SourceFile, sizes: ImageSizes | None = None
    ) -> tuple[NDArray[np.float32], int]:
        """Return an image as the network takes it, and how many of its pixels were NaN.

        Args:
            file: of the image.
            sizes: compares the image with others where their pixel scales are unknown.

        Raises:
            UnusableFile: the file cannot be used.
            DataError: `sizes` refuses the image.
        """
        how = self._preprocessing_of(file)
        image, _ = read_source(file, how.bands + len(how.bands_left_out), self.selection)
        # Where the pixel scales are known, `apply` compares them.
        if sizes and not (how.pixel_scale_arcsec and how.source_scale_arcsec):
            sizes.check(image.shape, file.name)
        try:
            prepared = how.apply([image])[0]
        except ValueError as error:
            reason = str(error).removeprefix("images[0] cannot be used: ")
            raise UnusableFile(reason) from error
        return prepared, how.nan_pixels(image)

    def _preprocessing_of(self, file: SourceFile) -> Preprocessing:
        """Return the preprocessing with the pixel scale that is stated for an image, if any."""
        found, of_all = stated_scale(file, self.selection), self.stated_arcsec
        resampled = self.preprocessing.resampled
        if found and of_all and not resampled and not same_scale(found, of_all):
            raise UnusableFile(
                f"its header or its row in the catalogue states pixels of {found:.4g} arcsec, and "
                f"its folder or --pixel-scale-arcsec {of_all:.4g}: correct one of them"
            )
        return self.preprocessing.for_stated(found)
