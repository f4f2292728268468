"""Modules that need files which are not part of a checkpoint: weights of others, vocabularies."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from ldm.errors import MissingFile


class NeedsFiles(nn.Module):
    """A module that can be built, counted and checked without the files that it needs."""

    def missing(self) -> "list[MissingFile]":
        """What has to be fetched before use, as `--check` lists it."""
        return []

    def load(self) -> None:
        """Read the files, once.

        Raises:
            MissingFile: one is neither here nor to be downloaded.
        """
