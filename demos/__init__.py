"""The demos: both stages trained with main.py as a user would, sampled, measured and shown on a page."""
