"""Models on disk: read from whatever a user names, used to begin training with, converted."""
