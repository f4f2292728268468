"""Train a latent diffusion model from YAML, or check a config before any device starts."""

import sys

from ldm.threads import choose_waiting

choose_waiting()

from ldm.program.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
