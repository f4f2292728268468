"""Configs for a folder of one's own: what is in it, which tasks that allows, and numbers that fit the device."""
