"""Modules that need files which are not part of a checkpoint, such as pretrained weights and vocabularies."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from ldm.errors import MissingFile


class NeedsFiles(nn.Module):
    """A module that can be built, counted and checked before its files are present."""

    def missing(self) -> "list[MissingFile]":
        """Files that must be fetched before use, as listed by `--check`."""
        return []

    def load(self) -> None:
        """Read the files, once.

        Raises:
            MissingFile: one is neither present nor downloadable.
        """
