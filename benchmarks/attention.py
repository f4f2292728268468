"""Plain against fused attention, forward and backward, as a ratio of medians measured in turn.

    python benchmarks/attention.py

`ldm.nn.attention.SHORT` rests on it: on CPUs the fused kernel's backward pass is slow for short sequences.
"""

import statistics
import time

import torch
import torch.nn.functional as F

SHAPES = [(32, 2, 64, 64), (64, 4, 16, 16), (32, 2, 64, 16), (4, 8, 256, 256)]  # batch, heads, queries, keys


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Two matrix products and a softmax."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v


def seconds(function: object, tensors: list[torch.Tensor]) -> float:
    """Wall time of one forward and backward pass."""
    begun = time.perf_counter()
    function(*tensors).float().square().mean().backward()  # type: ignore[operator]
    return time.perf_counter() - begun


def main() -> None:
    """Print one row per shape and precision."""
    print(f"{'batch x heads x queries x keys':<34}{'precision':<12}fused / plain")
    for batch, heads, queries, keys in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            lengths = (queries, keys, keys)
            tensors = [torch.randn(batch, heads, n, 32, dtype=dtype, requires_grad=True) for n in lengths]
            pairs = [(seconds(F.scaled_dot_product_attention, tensors), seconds(plain, tensors)) for _ in range(25)][5:]
            fused, own = (statistics.median(column) for column in zip(*pairs, strict=True))
            shape = f"{batch} x {heads} x {queries} x {keys}"
            print(f"{shape:<34}{str(dtype).removeprefix('torch.'):<12}{fused / own:.2f}")


if __name__ == "__main__":
    main()
