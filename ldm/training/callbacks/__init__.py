"""What happens around training steps: checkpoints, validation, metrics, ends."""
