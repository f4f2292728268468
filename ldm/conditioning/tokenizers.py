"""Tokenizers: a word-level one for closed grammars, word pieces learned from the data, and BERT's word pieces as in the paper."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
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


class WordPieces(Tokenizer):
    """Word pieces learned from captions, uncased (the model of BERT's tokenizer, through the tokenizers library).

    Args:
        vocabulary: the pieces, separated by spaces and saved with the run; the first two are padding and unknown characters. "data" in a
            config: learned from the captions of the training set.
        size: number of pieces to learn at most.

    Raises:
        ValueError: a vocabulary without the two special pieces, or with repeated ones.
    """

    special = ("[PAD]", "[UNK]")

    def __init__(self, vocabulary: str, size: int = 4096) -> None:
        integer(64, size=size)
        pieces = vocabulary.split()
        if tuple(pieces[:2]) != self.special or len(set(pieces)) != len(pieces):
            raise ValueError(f"vocabulary: expected distinct pieces that begin with {' '.join(self.special)}, or data")
        self.pieces, self.vocabulary_size = {piece: i for i, piece in enumerate(pieces)}, len(pieces)

    @staticmethod
    def from_data(params: dict[str, Any], data: Any) -> None:
        """See `ldm.check.from_data`."""
        captions = list(data.captions())
        if not any(captions):
            raise ValueError("vocabulary: data: the training set has no captions")
        params["vocabulary"] = " ".join(learned_pieces(captions, params.get("size", 4096)))

    def __call__(self, captions: Sequence[str], length: int) -> Tensor:
        rows = torch.zeros(len(captions), length, dtype=torch.int64)
        for row, encoded in zip(rows, self._model.encode_batch(list(captions)), strict=True):
            ids = encoded.ids[:length]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
        return rows

    def count(self, caption: str) -> int:
        return len(self._model.encode(caption).ids)

    def unknown(self, caption: str) -> list[str]:
        return [word for word in _words(caption) if 1 in self._model.encode(word).ids]

    @cached_property
    def _model(self) -> Any:
        from tokenizers.models import WordPiece

        return _uncased(WordPiece(self.pieces, unk_token=self.special[1]))


def learned_pieces(captions: Sequence[str], size: int) -> list[str]:
    """The pieces of a vocabulary in the order of their ids, learned from captions: the same for the same captions."""
    from tokenizers.models import WordPiece
    from tokenizers.trainers import WordPieceTrainer

    model = _uncased(WordPiece(unk_token=WordPieces.special[1]))
    texts = [_split(model, caption) for caption in captions]
    characters = Counter(character for words in texts for word in words for character in word)
    alphabet = sorted(sorted(characters), key=characters.__getitem__, reverse=True)[: size // 4]
    known = set(alphabet)
    # The trainer breaks ties by id, and numbers characters in the order of a hash table unless they are special.
    fixed = [*WordPieces.special, *alphabet, *("##" + character for character in alphabet)]
    trainer = WordPieceTrainer(vocab_size=size, special_tokens=fixed, show_progress=False)
    model.train_from_iterator((" ".join(word for word in words if known.issuperset(word)) for words in texts), trainer)
    return sorted(model.get_vocab(), key=model.get_vocab().__getitem__)


def _split(model: Any, caption: str) -> list[str]:
    """The words of a caption, in lower case."""
    return [word for word, _ in model.pre_tokenizer.pre_tokenize_str(model.normalizer.normalize_str(caption))]


def _uncased(model: Any) -> Any:
    """A tokenizer that lowers case and strips accents, and separates words at spaces and punctuation."""
    from tokenizers import Tokenizer as Pieces
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    pieces = Pieces(model)
    pieces.normalizer, pieces.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    return pieces


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
