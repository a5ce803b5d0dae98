"""The components of the original on its own stack: Keras 2 and TensorFlow Addons.

`make parity` runs this in a separate environment, where `deeplens_tf` cannot be imported. Nothing
here shares code with the package: each component is written independently from its description.
"""
