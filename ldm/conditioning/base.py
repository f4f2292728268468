"""The interface between a batch and the network's three conditioning inputs."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ldm.data.batch import Batch, Key
from ldm.networks.base import NARROW
from ldm.nn.files import NeedsFiles

Encode = Callable[[Tensor, bool], Tensor]  # (image, scaled) -> latent of the model's first stage


@dataclass(frozen=True)
class Conditioning:
    """Conditioning inputs of the network. All None: unconditional; several set: hybrid.

    Attributes:
        context: `(B, N, d)` tokens tau_theta(y) for cross-attention.
        concat: `(B, c', h, w)` channels concatenated to z_t.
        vector: `(B, d)` added to the time embedding.
    """

    context: Tensor | None = None
    concat: Tensor | None = None
    vector: Tensor | None = None

    def followed_by(self, other: "Conditioning") -> "Conditioning":
        """Both concatenated along the batch, for one call of the network."""

        def join(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return None if a is None or b is None else torch.cat([a, b])

        return Conditioning(*(join(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


class Conditioner(NeedsFiles):
    """y -> Conditioning. To add one, derive from this class, set its attributes and write `forward`.

    Attributes:
        keys: batch keys that it reads, each with its null value.
        concat_channels: channels that it concatenates to z_t.
        context_channels, vector_channels: widths of its tokens and its vector; None if it has none.
        length: number of its tokens.
        uncond_prob: share of training samples whose condition is replaced by the null condition, for guidance.
    """

    keys: Mapping[str, Key] = {}
    concat_channels: int = 0
    context_channels: int | None = None
    vector_channels: int | None = None
    length: int = 1
    uncond_prob: float = 0.0

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        raise NotImplementedError

    def begin_from(self, name: str, own: Tensor, value: Tensor, null: bool) -> str:
        """As `ldm.networks.base.Network.begin_from`; `null`: whether the other one's last class stands for no class."""
        return ""

    @staticmethod
    def narrow(params: dict[str, Any]) -> None:
        """Change constructor arguments, in place, to those of a small one of the same kind, with which `--check` runs one step."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Batch keys that it reads."""
        return tuple(self.keys)

    def leaves(self) -> "list[Conditioner]":
        """The conditioners that it consists of; itself if it is a single one."""
        return [self]

    def drop(self, batch: Batch, where: Sequence[bool]) -> Batch:
        """A copy of the batch in which the samples marked in `where` have the null condition.

        Raises:
            ValueError: there is no null condition.
        """
        for name, key in self.keys.items():
            if key.null is None:
                raise ValueError(f"{name} has no null value: this model cannot be guided: sample with --scale 1")
        return {**batch, **{name: key.dropped(batch[name], where) for name, key in self.keys.items()}}

    def null(self, batch: Batch, encode: Encode) -> Conditioning:
        """The null condition for every sample of the batch."""
        size = len(next(batch[key] for key in self.reads)) if self.reads else 0
        return self(self.drop(batch, [True] * size), encode)


class TextConditioner(Conditioner):
    """A conditioner that reads captions.

    Attributes:
        length: maximum number of tokens per caption.
    """

    keys = {"caption": Key(str, null="")}
    length: int

    def count(self, caption: str) -> int:
        """Number of tokens of a caption; those beyond `length` are truncated."""
        raise NotImplementedError

    def unknown(self, caption: str) -> list[str]:
        """Words of the caption that are not in the vocabulary and share one token."""
        return []

    def words(self) -> Sequence[str]:
        """A closed vocabulary; empty if there is none."""
        return ()


def narrow_transformer(params: dict[str, Any]) -> None:
    """Arguments of a narrow conditioner with its own transformer."""
    params.update(width=NARROW, depth=min(params.get("depth", 1), 2), heads=2, head_channels=16, logit_head=False)


def narrow_tokens(params: dict[str, Any]) -> None:
    """Arguments of a conditioner with narrow tokens."""
    params["width"] = NARROW


class Unconditional(Conditioner):
    """No condition."""

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        return Conditioning()


PART = re.compile(r"(?:parts\.[0-9]+\.)*")


def split_name(name: str) -> tuple[str, str]:
    """Name of an entry in a conditioner's `state_dict`: prefix of the part of a `Joint`, "" without one, and the name in that part."""
    end = PART.match(name).end()  # type: ignore[union-attr]
    return name[:end], name[end:]


class Joint(Conditioner):
    """Several conditioners at once: channels and tokens are concatenated, vectors are added.

    Args:
        parts: the conditioners; their conditions are dropped together, so they need the same `uncond_prob`.

    Raises:
        ValueError: no parts, or parts with different `uncond_prob`.
    """

    def __init__(self, parts: Sequence[Conditioner]) -> None:
        super().__init__()
        if len({part.uncond_prob for part in parts}) != 1:
            raise ValueError(f"Joint needs parts with the same uncond_prob, got {[part.uncond_prob for part in parts]}")
        self.parts = nn.ModuleList(parts)
        self.keys = {name: key for part in parts for name, key in part.keys.items()}
        self.concat_channels = sum(part.concat_channels for part in parts)
        self.context_channels = next((p.context_channels for p in parts if p.context_channels), None)
        self.vector_channels = next((p.vector_channels for p in parts if p.vector_channels), None)
        self.length = sum(part.length for part in parts if part.context_channels)
        self.uncond_prob = parts[0].uncond_prob

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        result = Conditioning()
        for part in self.parts:
            new = part(batch, encode)
            for name, merge in (("context", _along_dim_1), ("concat", _along_dim_1), ("vector", torch.add)):
                old, value = getattr(result, name), getattr(new, name)
                if value is not None:
                    result = replace(result, **{name: value if old is None else merge(old, value)})
        return result

    def leaves(self) -> list[Conditioner]:
        return [leaf for part in self.parts for leaf in part.leaves()]  # type: ignore[operator]

    def begin_from(self, name: str, own: Tensor, value: Tensor, null: bool) -> str:
        _, part, inside = name.split(".", 2)
        return self.parts[int(part)].begin_from(inside, own, value, null)  # type: ignore[no-any-return, operator]

    def drop(self, batch: Batch, where: Sequence[bool]) -> Batch:
        for part in self.parts:
            batch = part.drop(batch, where)  # type: ignore[operator]
        return batch


def _along_dim_1(a: Tensor, b: Tensor) -> Tensor:
    """Concatenate tokens `(B, N, d)` or channels `(B, c, h, w)`."""
    return torch.cat([a, b], dim=1)
