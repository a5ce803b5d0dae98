"""Self-supervised learning for strong gravitational lensing, in Keras 3 on TensorFlow.

    import deeplens_tf as dl

Nothing heavy is imported before it is used: the modules below and their names load on first access.
"""

from deeplens_tf.lazy import lazy_names

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "augment": "augment",
        "data": "data",
        "distribution": "distribution",
        "evaluation": "evaluation",
        "figures": "figures",
        "inference": "inference",
        "losses": "losses",
        "models": "models",
        "simulation": "simulation",
        "training": "training",
        "import_tensorflow": "startup",
        "Bounds": "dataclass_parsing",
        "load_config": "config",
        "load_encoder": "saving.keras_files",
        "load_model": "saving.keras_files",
        "save_encoder": "saving.keras_files",
        "shipped_encoders": "files.shipped",
    },
)
