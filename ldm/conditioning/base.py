"""The interface between a batch and the UNet's three inlets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from ldm.data.batch import Batch

Encode = Callable[[Tensor, bool], Tensor]  # (image, scaled) -> latent, through the model's own first stage


@dataclass(frozen=True)
class Conditioning:
    """What reaches the network. None set: unconditional; several set: hybrid.

    Attributes:
        context: `(B, N, d)` tokens tau_theta(y) for cross-attention.
        concat: `(B, c', h, w)` channels beside z_t.
        vector: `(B, d)` added to the time embedding.
    """

    context: Tensor | None = None
    concat: Tensor | None = None
    vector: Tensor | None = None

    def followed_by(self, other: "Conditioning") -> "Conditioning":
        """Both batches behind one another, for one call of the network."""

        def join(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return None if a is None or b is None else torch.cat([a, b])

        return Conditioning(*(join(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


class Conditioner(nn.Module):
    """y -> Conditioning.

    Attributes:
        reads: batch keys it needs.
        concat_channels: channels it puts beside z_t.
        context_channels, vector_channels: widths of its tokens and its vector; none if it gives none.
        drop_rate: share of training samples whose condition is replaced by the null condition, for guidance.
    """

    reads: tuple[str, ...] = ()
    concat_channels: int = 0
    context_channels: int | None = None
    vector_channels: int | None = None
    drop_rate: float = 0.0

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        raise NotImplementedError

    def drop(self, batch: Batch, where: Sequence[bool]) -> Batch:
        """A batch in which the samples marked in `where` have the null condition."""
        raise NotImplementedError

    def null(self, batch: Batch, encode: Encode) -> Conditioning:
        """The null condition for every sample of the batch."""
        size = len(next(batch[key] for key in self.reads)) if self.reads else 0
        return self(self.drop(batch, [True] * size), encode)


class Unconditional(Conditioner):
    """No condition."""

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        return Conditioning()

    def drop(self, batch: Batch, where: Sequence[bool]) -> Batch:
        return batch


class Joint(Conditioner):
    """Several conditioners at once: channels are concatenated, tokens follow one another, vectors add up.

    Args:
        parts: the conditioners; their conditions are dropped together, so they have one drop rate.

    Raises:
        ValueError: no parts, or parts with different drop rates.
    """

    def __init__(self, parts: Sequence[Conditioner]) -> None:
        super().__init__()
        if len({part.drop_rate for part in parts}) != 1:
            raise ValueError(f"Joint needs parts of one drop rate, got {[part.drop_rate for part in parts]}")
        self.parts = nn.ModuleList(parts)
        self.reads = tuple(dict.fromkeys(key for part in parts for key in part.reads))
        self.concat_channels = sum(part.concat_channels for part in parts)
        self.context_channels = next((p.context_channels for p in parts if p.context_channels), None)
        self.vector_channels = next((p.vector_channels for p in parts if p.vector_channels), None)
        self.drop_rate = parts[0].drop_rate

    def forward(self, batch: Batch, encode: Encode) -> Conditioning:
        result = Conditioning()
        for part in self.parts:
            new = part(batch, encode)
            for name, merge in (("context", _along_dim_1), ("concat", _along_dim_1), ("vector", torch.add)):
                old, value = getattr(result, name), getattr(new, name)
                if value is not None:
                    result = replace(result, **{name: value if old is None else merge(old, value)})
        return result

    def drop(self, batch: Batch, where: Sequence[bool]) -> Batch:
        for part in self.parts:
            batch = part.drop(batch, where)  # type: ignore[operator]
        return batch


def _along_dim_1(a: Tensor, b: Tensor) -> Tensor:
    """Tokens `(B, N, d)` behind one another, or channels `(B, c, h, w)` beside one another."""
    return torch.cat([a, b], dim=1)
