"""Train a latent diffusion model from YAML, or check a config before any device starts."""

import sys

from ldm.system.threads import choose_waiting

choose_waiting()

from ldm.cli.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
