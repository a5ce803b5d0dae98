"""The course of a training: run folder, optimiser, callbacks."""
