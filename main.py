"""Train a latent diffusion model from YAML, or check a config before any device starts."""

import sys

from ldm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
