"""Tokenizers: a word-level one for closed grammars, and BERT's word pieces as in the paper."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.errors import MissingFile, UserError
from ldm.ranges import integer


class Tokenizer(ABC):
    """Captions to ids.

    Attributes:
        vocabulary_size: number of ids.
        words: a closed vocabulary; empty if there is none.
    """

    vocabulary_size: int
    words: Sequence[str] = ()

    @abstractmethod
    def __call__(self, captions: Sequence[str], length: int) -> Tensor:
        """B captions -> ids `(B, length)` int64, padded or truncated."""

    @abstractmethod
    def count(self, caption: str) -> int:
        """Number of ids of a caption, without padding or truncation."""

    def unknown(self, caption: str) -> list[str]:
        """Words of the caption that are not in the vocabulary."""
        return []

    def missing(self) -> list[MissingFile]:
        """Files that must be fetched before use, as listed by `--check`."""
        return []


class WordTokenizer(Tokenizer):
    """One id per word of a fixed list. Case and punctuation are ignored.

    Args:
        words: the vocabulary, saved with the config; their ids start at 2 (0 is padding, 1 any other word).
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.ids = {word: i + 2 for i, word in enumerate(words)}
        self.words, self.vocabulary_size = list(words), len(words) + 2

    def __call__(self, captions: Sequence[str], length: int) -> Tensor:
        rows = torch.zeros(len(captions), length, dtype=torch.int64)
        for row, caption in zip(rows, captions, strict=True):
            ids = [self.ids.get(word, 1) for word in _words(caption)][:length]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return rows

    def count(self, caption: str) -> int:
        return len(_words(caption))

    def unknown(self, caption: str) -> list[str]:
        return [word for word in _words(caption) if word not in self.ids]


def _words(caption: str) -> list[str]:
    return re.findall(r"[\w'-]+", caption.lower())


class BertTokenizer(Tokenizer):
    """BERT's uncased word pieces through `transformers`; loaded at the first use, so that a model can be built without it.

    Args:
        source: name on the hub, or a local folder with `vocab.txt` (and `tokenizer.json`).
        vocabulary_size: of bert-base-uncased.
    """

    def __init__(self, source: str = "bert-base-uncased", vocabulary_size: int = 30522) -> None:
        integer(vocabulary_size=vocabulary_size)
        self.source, self.vocabulary_size = source, vocabulary_size
        self._tokenizer = None

    @staticmethod
    def without_files(params: dict[str, Any]) -> dict[str, Any]:
        """The node of another tokenizer for `--check`, whose narrow step does not depend on the words."""
        return {"target": "ldm.conditioning.WordTokenizer", "params": {"words": []}}

    def missing(self) -> list[MissingFile]:
        try:
            self._load(local=True)
        except MissingFile as error:
            return [error]
        return []

    def _load(self, local: bool = False) -> None:
        if self._tokenizer is not None:
            return
        from transformers import BertTokenizer as Wordpieces

        folder = self._folder(local)
        try:
            tokenizer = Wordpieces.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises many kinds for a damaged file
            raise UserError(f"tokenizer {self.source!r}: cannot be read ({str(error)[:200]})") from error
        if len(tokenizer) != self.vocabulary_size:
            raise UserError(f"tokenizer {self.source!r} has {len(tokenizer)} tokens, expected {self.vocabulary_size}")
        self._tokenizer = tokenizer

    def _folder(self, local: bool) -> Path:
        """The folder with vocab.txt: `source`, or the hub's cache, or a download into it."""
        if Path(self.source).is_dir():
            if not (Path(self.source) / "vocab.txt").is_file():
                raise MissingFile(f"{self.source}/vocab.txt: a BERT tokenizer folder needs it")
            return Path(self.source)
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.source, "vocab.txt", local_files_only=local)).parent
        except Exception as error:  # the hub's client raises many kinds; all mean that the file is not available
            raise MissingFile(
                f"tokenizer {self.source!r}: not on this machine"
                + ("" if local else f" and not downloadable ({type(error).__name__})")
                + "; fetch vocab.txt of bert-base-uncased into a folder and set source: to that folder"
                + " (--tokenizer DIR in the sampling scripts)"
            ) from error

    def __call__(self, captions: Sequence[str], length: int) -> Tensor:
        self._load()
        encoded = self._tokenizer(  # type: ignore[misc]
            list(captions), truncation=True, max_length=length, padding="max_length", return_tensors="pt"
        )
        return encoded["input_ids"]  # type: ignore[no-any-return]

    def count(self, caption: str) -> int:
        self._load()
        return len(self._tokenizer(caption)["input_ids"])  # type: ignore[misc]
