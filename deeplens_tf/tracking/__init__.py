"""A run in services that people know: Weights & Biases and MLflow."""
