"""The label of an image without one, in files, tables and batches."""

UNLABELLED = -1
