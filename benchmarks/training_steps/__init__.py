"""Training steps of this package and of PyTorch, side by side."""
