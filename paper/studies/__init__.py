"""The paper's main claim at small scale, and figure 2."""
