"""Data sets, one file each: folders, downloads as they are, shards, what packages ship, procedural scenes."""
