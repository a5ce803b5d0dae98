"""Training on several devices or machines."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, {"connect_replicas": "keras_replicas"})
