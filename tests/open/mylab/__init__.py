"""Parts that this project has never heard of: what docs/extending.md shows, used from YAML in tests/open/test_open.py."""
