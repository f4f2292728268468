"""Text encoded by a frozen pretrained CLIP or T5 encoder, from a folder or the hub through `transformers`."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ldm.conditioning.base import Conditioning, Encode, TextConditioner
from ldm.data.batch import Batch
from ldm.errors import MissingFile, UserError
from ldm.networks.base import NARROW
from ldm.ranges import integer, share
from ldm.system.shell import quoted

ENCODERS = {"clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel", "t5": "T5EncoderModel"}  # by the config's model_type
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
HALF = ("model.fp16.safetensors", "model.safetensors.index.fp16.json")  # if the full precision is not present
TOKENIZERS = ("tokenizer.json", "vocab.json", "spiece.model")


class PretrainedText(TextConditioner):
    """caption (B strings) -> tokens `(B, length, width)` of a frozen text encoder; the null caption is "".

    The width is the encoder's. Its weights are loaded at the first use or move to a device, so that a model can be built and counted
    without them; they are not stored in checkpoints. Captions are padded or truncated to `length`. T5 masks padding; CLIP's attention
    is causal, as in its training. The network attends to all `length` tokens of both.

    Args:
        source: a folder with config.json, a tokenizer and model.safetensors, or a name on the hub.
        length: tokens per caption (77 for CLIP, which has no more positions).
        uncond_prob: share of training samples whose caption becomes "".
        stored: the weights are part of the model's own, as in Stable Diffusion's files; only config.json and the tokenizer are
            read from `source`.
        layers: number of CLIP's transformer blocks to use (Stable Diffusion 2 omits the last); all if None.
        pad: padding token, if it is not the tokenizer's.

    Raises:
        MissingFile: no config.json (the weights are needed later).
        UserError: neither CLIP nor T5, more tokens than the encoder has positions, or more blocks than it has.
    """

    def __init__(
        self,
        source: str,
        length: int = 77,
        uncond_prob: float = 0.0,
        stored: bool = False,
        layers: int | None = None,
        pad: int | None = None,
    ) -> None:
        super().__init__()
        integer(length=length)
        share(uncond_prob=uncond_prob)
        import transformers

        self.source, self.length, self.uncond_prob, self.stored, self.pad = source, length, uncond_prob, stored, pad
        self.config = self._fetch(transformers.AutoConfig.from_pretrained, ("config.json",), trust_remote_code=False)
        if self.config.model_type not in ENCODERS:
            raise UserError(f"text encoder {source!r} is a {self.config.model_type!r} model; expected CLIP or T5")
        self.config = getattr(self.config, "text_config", self.config)  # a CLIP config with an image encoder
        positions = getattr(self.config, "max_position_embeddings", None)
        if positions is not None and length > positions:
            raise UserError(f"text encoder {source!r} has {positions} positions, length is {length}")
        self.t5 = self.config.model_type == "t5"
        self.context_channels = int(self.config.d_model if self.t5 else self.config.hidden_size)
        self._kind = getattr(transformers, ENCODERS[self.config.model_type])
        if layers is not None:
            self._cut(layers)
        with nullcontext() if stored else torch.device("meta"):
            self.encoder: nn.Module = self._kind(self.config).requires_grad_(False).eval()
        self._tokenizer: Any = None
        if not stored:
            self.register_state_dict_post_hook(_without_encoder)
            self.register_load_state_dict_post_hook(_encoder_is_not_missing)

    @staticmethod
    def without_files(params: dict[str, Any]) -> dict[str, Any]:
        """The node of a small text encoder for `--check`: this one is frozen, and its weights may be missing."""
        words = {"target": "ldm.conditioning.WordTokenizer", "params": {"words": []}}
        small = {"tokenizer": words, "width": NARROW, "depth": 1, "heads": 2, "head_channels": 16}
        kept = {key: value for key, value in params.items() if key in ("length", "uncond_prob")}
        return {"target": "ldm.conditioning.TextTransformer", "params": {"length": 77, **kept, **small}}

    def _cut(self, layers: int) -> None:
        there = 0 if self.t5 else self.config.num_hidden_layers
        if not 1 <= layers <= there:
            raise UserError(f"text encoder {self.source!r} has {there} CLIP blocks, layers is {layers}")
        self.config.num_hidden_layers = layers

    @property
    def loaded(self) -> bool:
        """Whether the weights are loaded."""
        return not any(p.is_meta for p in self.encoder.parameters())

    def missing(self) -> list[MissingFile]:
        found = [self.stored or self._has((*WEIGHTS, *HALF)), self._has(TOKENIZERS)]
        return [] if all(found) else [self._absent(" or ".join((WEIGHTS, TOKENIZERS)[found.index(False)]))]

    def load(self) -> None:
        """Read the weights, once.

        Raises:
            MissingFile: they are neither present nor downloadable.
        """
        if not (self.loaded or self.stored):
            variant = "fp16" if self._has(HALF) and not self._has(WEIGHTS) else None
            options = {"use_safetensors": True, "dtype": torch.float32, "variant": variant, "config": self.config}
            read = self._fetch(self._kind.from_pretrained, (*WEIGHTS, *HALF), **options)
            self.encoder = read.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """The encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.load()  # before a move to a device: there is nothing else to move
        return super()._apply(fn, recurse)

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        self.load()
        words = self._words()(list(batch["caption"]), truncation=True, max_length=self.length, padding="max_length", return_tensors="pt")
        device = next(self.encoder.parameters()).device
        mask = words["attention_mask"].to(device) if self.t5 else None
        if self.pad is not None:
            words["input_ids"][words["attention_mask"] == 0] = self.pad
        with torch.no_grad():
            tokens = self.encoder(input_ids=words["input_ids"].to(device), attention_mask=mask).last_hidden_state
        return Conditioning(context=tokens)

    def count(self, caption: str) -> int:
        return len(self._words()(caption)["input_ids"])

    def _words(self) -> Any:
        """The tokenizer, read once."""
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            self._tokenizer = self._fetch(AutoTokenizer.from_pretrained, TOKENIZERS, trust_remote_code=False)
        return self._tokenizer

    def _has(self, names: Sequence[str]) -> bool:
        """Whether one of these files exists."""
        if Path(self.source).is_dir():
            return any((Path(self.source) / name).is_file() for name in names)
        from huggingface_hub import try_to_load_from_cache

        return any(isinstance(try_to_load_from_cache(self.source, name), str) for name in names)

    def _absent(self, name: str) -> MissingFile:
        if not Path(self.source).exists() and (self.source[:1] in "./~" or self.source.count("/") > 1):  # not a valid name on the hub
            return MissingFile(f"text encoder {self.source!r}: no such folder")
        where = "in that folder" if Path(self.source).is_dir() else "on this machine"
        advice = f"fetch it: {quoted('hf', 'download', self.source)} --local-dir DIR, and set source: to DIR (scripts: --tokenizer DIR)"
        advice = f"put it into {self.source}" if Path(self.source).is_dir() else advice
        return MissingFile(f"text encoder {self.source!r}: {name} is not {where}; {advice}")

    def _fetch(self, read: Callable[..., Any], names: Sequence[str], **options: Any) -> Any:
        """From the folder or the hub's cache, or by a download; `read` is a `from_pretrained` that needs one of these files."""
        for local in (True, False):
            try:
                return read(self.source, local_files_only=local, **options)
            except Exception as error:  # transformers raises many kinds; each means that the file is not available
                if Path(self.source).is_dir() and self._has(names):
                    name = next(name for name in names if self._has([name]))
                    raise UserError(f"text encoder {self.source!r}: {name} cannot be read ({str(error).splitlines()[0][:200]})") from error
                reason = error
        raise self._absent(names[0]) from reason


def _without_encoder(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}encoder.")]:
        del state[name]


def _encoder_is_not_missing(module: nn.Module, incompatible: Any) -> None:
    own = {f".encoder.{name}" for name in module.encoder.state_dict()}  # type: ignore[operator,union-attr]  # with the names of shared weights
    for name in [name for name in incompatible.missing_keys if f".encoder.{f'.{name}'.partition('.encoder.')[2]}" in own]:
        incompatible.missing_keys.remove(name)
