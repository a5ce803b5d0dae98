"""The original's pieces on the original's own stack: Keras 2 and TensorFlow Addons.

`make parity` runs this in an environment of its own, where `deeplens_tf` cannot be imported.
Nothing here shares code with the package: each piece is written afresh from its description.
"""
