"""Callbacks of training: checkpoints, validation, metrics, and the end of a run."""
