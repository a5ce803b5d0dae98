"""Figures: arrays in, a matplotlib Figure out."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "IMAGE_COLOURS": "style",
        "MATRIX_COLOURS": "style",
        "PALETTE": "style",
        "confusion_matrix_figure": "classifier_figures",
        "image_grid": "image_grids",
        "in_house_style": "style",
        "inpainting_grid": "image_grids",
        "line_colours": "style",
        "name_axes": "style",
        "predicted_against_true": "mass_figures",
        "reliability_figure": "classifier_figures",
        "roc_curves": "classifier_figures",
        "save_figure": "picture_files",
        "training_curves": "history_figures",
        "views_grid": "image_grids",
    },
)
