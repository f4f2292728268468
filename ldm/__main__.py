"""`python -m ldm` is the command `ldm`."""

import sys

from ldm.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
