"""Encoders and models to `.keras` files and back; which content a file may have."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    dict.fromkeys(("load_encoder", "load_model", "save_encoder", "save_model"), "keras_files"),
)
