"""Self-supervised learning for strong gravitational lensing, in Keras 3 on TensorFlow.

Importing the package imports nothing heavy: `load_encoder` and the subpackages do so when used.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_encoder"]


def __getattr__(name: str) -> Any:
    """Find `load_encoder` on first use, so that `--help` need not wait for TensorFlow."""
    if name == "load_encoder":
        from deeplens_tf.saving.keras_files import load_encoder

        return load_encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
