"""Other projects' files, in and out. Nothing below this layer knows where a model came from."""
