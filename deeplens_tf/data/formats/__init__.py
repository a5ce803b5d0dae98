"""Readers of image files, one module a format; `image_formats` says which one reads a file."""
