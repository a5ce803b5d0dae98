"""From weights that the original's notebooks saved in Keras 2 to an encoder of this package."""
