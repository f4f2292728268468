"""DiT: a transformer over patches of the latent (Peebles and Xie, 2023), with the options of LightningDiT (Yao et al., 2025)."""

from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ldm.networks.base import NARROW, Network, common_channels, common_classes
from ldm.nn.attention import CrossAttention, attend, merge_heads
from ldm.nn.embedding import timestep_embedding
from ldm.ranges import integer, positive

SIZES = {  # Table 1 of the paper; `DiT(..., patch=2, **SIZES["XL"])` is DiT-XL/2
    "S": {"width": 384, "depth": 12, "heads": 6},
    "B": {"width": 768, "depth": 12, "heads": 12},
    "L": {"width": 1024, "depth": 24, "heads": 16},
    "XL": {"width": 1152, "depth": 28, "heads": 16},
}
FREQUENCIES = 256  # sinusoidal features of t


def grid(h: int, w: int) -> tuple[Tensor, Tensor]:
    """Row and column of each of the h x w tokens, `(h w,)` float64."""
    # On the CPU even if the model is built on the meta device: some devices do not support float64, and the tables are kept.
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64, device="cpu") for n in (h, w)), indexing="ij")
    return rows.flatten(), columns.flatten()


@lru_cache(maxsize=8)
def position_table(width: int, h: int, w: int) -> Tensor:
    """Sine and cosine of the column in the first half of the channels, of the row in the second, `(h w, width)`."""
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width // 4))
    rows, columns = (position[:, None] * frequencies for position in grid(h, w))
    return torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=1).float()


@lru_cache(maxsize=8)
def rotary_table(width: int, h: int, w: int) -> Tensor:
    """Cosine and sine of rotary positions (Su et al., 2021), `(2, h w, width)`: of the row in the first half of a head's channels."""
    frequencies = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64, device="cpu") / (width // 4))
    angles = torch.cat([position[:, None] * frequencies for position in grid(h, w)], dim=1).repeat_interleave(2, dim=1)
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate each pair of neighbouring channels of `(B, heads, T, d)` by the angle of its token, table `(2, T, d)`."""
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)
    return (x.float() * table[0] + turned.float() * table[1]).to(x.dtype)


def norm(width: int, rms: bool) -> nn.Module:
    """Norm over the channels, without weights because modulation follows; RMSNorm has a scale."""
    return nn.RMSNorm(width, eps=1e-6) if rms else nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)


class Attention(nn.Module):
    """Multi-head self-attention over `(B, T, d)`, with optional normalisation and rotary positions of queries and keys."""

    def __init__(self, width: int, heads: int, qk_norm: bool = False, rms_norm: bool = False) -> None:
        super().__init__()
        self.heads, self.qk_norm = heads, qk_norm
        self.qkv = nn.Linear(width, 3 * width)
        make = partial(nn.RMSNorm, eps=1e-6) if rms_norm else nn.LayerNorm
        self.norm_q, self.norm_k = (make(width // heads) if qk_norm else nn.Identity() for _ in range(2))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotary: Tensor | None = None) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b t (three heads d) -> three b heads t d", three=3, heads=self.heads)
        if self.qk_norm:
            q, k = self.norm_q(q.float()).to(v.dtype), self.norm_k(k.float()).to(v.dtype)
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        return self.out(merge_heads(attend(q, k, v)))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """(silu(gate) * value) W (Shazeer, 2020), 2/3 as wide inside as an MLP of width `hidden`, which keeps the number of weights."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        hidden = int(2 / 3 * hidden)
        self.inner = nn.Linear(width, 2 * hidden)  # gate and value
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.inner(x).chunk(2, dim=-1)
        return self.out(F.silu(gate) * value)  # type: ignore[no-any-return]


class DiTBlock(nn.Module):
    """Attention and MLP, each modulated and gated by the condition (adaLN-Zero, Fig. 3); with a context, cross-attention in between."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float = 4.0,
        *,
        context_channels: int | None = None,
        qk_norm: bool = False,
        swiglu: bool = False,
        rms_norm: bool = False,
        shift: bool = True,
    ) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.norm1, self.norm2 = norm(width, rms_norm), norm(width, rms_norm)
        self.attention = Attention(width, heads, qk_norm, rms_norm)
        self.norm_context = norm(width, rms_norm) if context_channels else None
        self.cross_attention = CrossAttention(width, heads, width // heads, context_channels) if context_channels else None
        mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.mlp = SwiGLU(width, hidden) if swiglu else mlp
        self.shift = shift
        self.modulation = nn.Linear(width, (6 if shift else 4) * width)

    def forward(self, x: Tensor, c: Tensor, rotary: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """x `(B, T, d)`, c = silu(condition) `(B, d)`, rotary `(2, T, d / heads)`, context `(B, N, context_channels)`."""
        parts = self.modulation(c)[:, None].chunk(6 if self.shift else 4, dim=-1)
        beta1, gamma1, alpha1, beta2, gamma2, alpha2 = parts if self.shift else (0.0, *parts[:2], 0.0, *parts[2:])
        x = x + alpha1 * self.attention(self.norm1(x) * (1.0 + gamma1) + beta1, rotary)
        if self.cross_attention is not None and self.norm_context is not None:
            x = x + self.cross_attention(self.norm_context(x), context)
        return x + alpha2 * self.mlp(self.norm2(x) * (1.0 + gamma2) + beta2)


class FinalLayer(nn.Module):
    """Modulated norm and a linear map from each token `(B, T, d)` to its patch of the output."""

    def __init__(self, width: int, out: int, rms_norm: bool = False) -> None:
        super().__init__()
        self.norm, self.linear, self.modulation = norm(width, rms_norm), nn.Linear(width, out), nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        beta, gamma = self.modulation(c)[:, None].chunk(2, dim=-1)
        return self.linear(self.norm(x) * (1.0 + gamma) + beta)  # type: ignore[no-any-return]


class DiT(Network):
    """network(z, t, context, vector) -> output of the same size as z.

    Args:
        in_channels: channels of z_t, plus those of any concatenated condition.
        out_channels: channels of the output.
        patch: side p of a patch, in latent pixels.
        width, depth, heads: of the transformer, see `SIZES`.
        size: side of the latents it is built for; other multiples of the patch are supported, with their own position table.
        mlp_ratio: width of the MLP relative to that of the tokens.
        vector_channels: width of a vector condition added to the time embedding, directly if it equals `width`, else through a
            linear map.
        context_channels: width of the tokens tau_theta(y) for the cross-attention between attention and MLP.
        learn_sigma: the final layer has twice the channels, as in released models that also predict variances; the output is the
            first half (`with_variances` returns all).
        qk_norm: normalise queries and keys.
        swiglu: `SwiGLU` instead of an MLP with GELU.
        rms_norm: RMSNorm instead of LayerNorm.
        rotary: rotary positions, in addition to those added to the tokens.
        shift: false removes the blocks' beta.
        checkpointing: recompute activations in the backward pass: less memory, about a third slower.

    Raises:
        ValueError: a width that is not divisible by `heads` and by 4 (by 4 * heads with `rotary`), or a size not divisible by `patch`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        size: int,
        mlp_ratio: float = 4.0,
        *,
        vector_channels: int | None = None,
        context_channels: int | None = None,
        learn_sigma: bool = False,
        qk_norm: bool = False,
        swiglu: bool = False,
        rms_norm: bool = False,
        rotary: bool = False,
        shift: bool = True,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        integer(in_channels=in_channels, out_channels=out_channels, patch=patch, width=width, depth=depth, heads=heads, size=size)
        integer(vector_channels=vector_channels, context_channels=context_channels)
        positive(mlp_ratio=mlp_ratio)
        if width % heads or width % 4 or (rotary and width // heads % 4):
            raise ValueError(f"DiT: width must be a multiple of heads and of 4, of 4 heads with rotary; got width={width}, heads={heads}")
        if size % patch:
            raise ValueError(f"DiT: size must be a multiple of patch, got size={size}, patch={patch}")
        self.in_channels, self.out_channels, self.multiple = in_channels, out_channels, patch
        self.vector_channels, self.context_channels = vector_channels, context_channels
        self.width, self.heads, self.side, self.checkpointing = width, heads, size // patch, checkpointing
        self.patches = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.vector = nn.Identity() if vector_channels in (None, width) else nn.Linear(vector_channels, width)  # type: ignore[arg-type]
        options = {"qk_norm": qk_norm, "swiglu": swiglu, "rms_norm": rms_norm, "shift": shift}
        self.blocks = nn.ModuleList(DiTBlock(width, heads, mlp_ratio, context_channels=context_channels, **options) for _ in range(depth))
        self.final = FinalLayer(width, patch**2 * out_channels * (2 if learn_sigma else 1), rms_norm)
        # In the state dict, so that the tables of released models are kept bit for bit.
        self.register_buffer("positions", position_table(width, self.side, self.side).clone())
        self.register_buffer("rotary", rotary_table(width // heads, self.side, self.side).clone() if rotary else None)
        self.positions: Tensor
        self.rotary: Tensor | None
        self._initialise()

    def _initialise(self) -> None:
        """Every block is the identity and the output is 0 (adaLN-Zero)."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.data.flatten(1))
                if name.startswith("time."):
                    nn.init.normal_(module.weight, std=0.02)
                if name.endswith(("modulation", "final.linear", "cross_attention.out")):
                    nn.init.zeros_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @staticmethod
    def narrow(params: dict[str, Any]) -> None:
        params.update(width=NARROW, heads=2, depth=min(params["depth"], 2))
        if params.get("context_channels"):
            params["context_channels"] = NARROW

    def begin_from(self, name: str, own: Tensor, value: Tensor) -> str:
        if name == "patches.weight":
            return common_channels(own, value)
        return common_classes(own, value) if name == "vector.weight" else ""

    def forward(self, z: Tensor, t: Tensor, context: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        return self.with_variances(z, t, context, vector)[:, : self.out_channels]

    def with_variances(self, z: Tensor, t: Tensor, context: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        """The same with all outputs of the final layer, `(B, 2 out_channels, h, w)` with `learn_sigma`."""
        self.check_input(z, context, vector)
        h, w = z.shape[2] // self.multiple, z.shape[3] // self.multiple
        positions, rotary = self.positions, self.rotary
        if (h, w) != (self.side, self.side):
            positions = position_table(self.width, h, w)
            rotary = None if rotary is None else rotary_table(self.width // self.heads, h, w)
        x = self.patches(z).flatten(2).transpose(1, 2) + positions.to(z.device)
        rotary = None if rotary is None else rotary.to(z.device)
        c = self.time(timestep_embedding(t, FREQUENCIES).to(self.patches.weight.dtype))
        c = F.silu(c if vector is None else c + self.vector(vector))
        for block in self.blocks:
            recompute = self.checkpointing and self.training and torch.is_grad_enabled()
            x = checkpoint(block, x, c, rotary, context, use_reentrant=False) if recompute else block(x, c, rotary, context)
        return rearrange(self.final(x, c), "b (h w) (p q c) -> b c (h p) (w q)", h=h, w=w, p=self.multiple, q=self.multiple)
