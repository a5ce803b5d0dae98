"""What a trained model says of new images."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__, {"export": "exporting", "predict": "predicting"}
)
