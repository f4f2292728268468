"""Data sets, one file each: folders, downloads in their original layout, shards, data of packages, procedural scenes."""
