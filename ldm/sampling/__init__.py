"""From a model to images: sampling, its options, and numbered sets in a folder."""
