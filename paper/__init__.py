"""Reproduction of the paper: its tables and figures, its main claim at small scale, the user study."""
