"""Models on disk: load them from any supported format, start training from them, convert them."""
