"""Converts weights that the original's notebooks saved in Keras 2 to encoders of this package."""
