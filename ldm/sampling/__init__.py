"""Sampling from a model: settings, options, and numbered image sets in a folder."""
