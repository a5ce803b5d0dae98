"""Encoders and models to `.keras` files and back."""
