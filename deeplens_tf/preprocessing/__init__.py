"""From the pixels of a file to the pixels that a network takes: shared by data and models."""
