"""Muon (Jordan et al., 2024): momentum with orthogonalised matrices, and AdamW for everything else.

With the demos' compute budgets it reaches in one minute what AdamW reaches in several. Unlike `torch.optim.Muon` it supports all
parameters of a model: convolution kernels are treated as matrices `(out, in * kh * kw)`, and matrices of the same shape are
orthogonalised in one batch.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from ldm.precision import narrowest
from ldm.ranges import number, share

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic iteration that pushes all singular values towards 1


def orthogonalise(x: Tensor, dtype: torch.dtype | None = None, steps: int = 5) -> Tensor:
    """Approximate U V^T of matrices `(n, rows, columns)` by Newton-Schulz iteration.

    Args:
        x: the matrices.
        dtype: dtype of the computation; that of x if None.
        steps: number of iterations.
    """
    tall = x.shape[1] > x.shape[2]
    y = (x.mT if tall else x).to(dtype or x.dtype)
    y = y / (y.norm(dim=(1, 2), keepdim=True) + 1e-7)
    y = by_gram(y, steps) if y.shape[2] > 1.5 * y.shape[1] and y.itemsize >= 4 else directly(y, steps)
    return (y.mT if tall else y).to(x.dtype)


def directly(y: Tensor, steps: int) -> Tensor:
    """The iteration Y <- (a + b G + c G^2) Y with G = Y Y^T."""
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = y @ y.mT
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y


def by_gram(y: Tensor, steps: int) -> Tensor:
    """The same with products of the small square matrices only: a step maps G to P G P and Y to P Y, with P = a + b G + c G^2.

    For wide matrices, such as a convolution's, this is a fraction of the work; it needs float32 precision.
    """
    a, b, c = COEFFICIENTS
    gram = y @ y.mT
    whole = None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        whole = factor if whole is None else factor @ whole
        if step < steps - 1:
            gram = factor @ gram @ factor
    return y if whole is None else whole @ y


class Muon(Optimizer):
    """Muon for weights with at least two dimensions, AdamW for the rest and for embeddings.

    Args:
        params: parameters, or `(name, parameter)` pairs; names ending in "tokens.weight", "positions.weight" or
            "embedding.weight" count as embeddings.
        lr: learning rate of Muon; a step changes a matrix by about lr * sqrt(max(1, rows / columns)) in spectral norm.
        adam_lr: learning rate of AdamW.
        momentum: Nesterov momentum of Muon.
        weight_decay: decoupled weight decay of both.
        betas: betas of AdamW.

    Raises:
        ValueError: a negative rate or decay, or a momentum outside [0, 1).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        adam_lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        number(0, lr=lr, adam_lr=adam_lr, weight_decay=weight_decay)
        share(momentum=momentum, **{f"betas[{i}]": beta for i, beta in enumerate(betas)})
        if max(momentum, *betas) == 1:
            raise ValueError(f"momentum and betas must be below 1, got {momentum} and {list(betas)}")
        named = [p if isinstance(p, tuple) else ("", p) for p in params]
        tables = ("tokens.weight", "positions.weight", "embedding.weight")
        matrices = [p for name, p in named if p.ndim >= 2 and not name.endswith(tables)]
        rest = [p for name, p in named if p.ndim < 2 or name.endswith(tables)]
        shared = {"momentum": momentum, "weight_decay": weight_decay, "betas": betas}
        groups = [{"params": matrices, "lr": lr, "muon": True}, {"params": rest, "lr": adam_lr, "muon": False}]
        super().__init__([group for group in groups if group["params"]], shared)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            if parameters:
                (self._muon if group["muon"] else self._adam)(parameters, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for p in parameters:
            by_shape[len(p), p[0].numel()].append(p)
        for (rows, columns), batch in by_shape.items():
            gradients = _gradients(batch)
            momenta = [self._state(p, "momentum") for p in batch]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, momenta, group["momentum"])
            stacked = orthogonalise(torch.stack([u.reshape(rows, columns) for u in updates]), self._dtype(group, batch[0]))
            stacked *= -group["lr"] * max(1.0, rows / columns) ** 0.5
            torch._foreach_add_(batch, [u.view_as(p) for u, p in zip(stacked, batch, strict=True)])

    def _dtype(self, group: dict[str, Any], like: Tensor) -> torch.dtype:
        """Dtype of the orthogonalisation: as when the run started, if the device multiplies it in hardware."""
        here = narrowest(like.device)
        if not group.setdefault("narrow", here.itemsize < like.itemsize):
            return like.dtype
        return min(here, like.dtype, key=lambda dtype: dtype.itemsize)

    def widened(self) -> bool:
        """Whether matrices are orthogonalised in higher precision than when the run started, because the device needs it."""
        groups = [group for group in self.param_groups if group["muon"] and group.get("narrow")]
        return any(self._dtype(group, group["params"][0]).itemsize >= group["params"][0].itemsize for group in groups)

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        gradients = _gradients(parameters)
        first, second = ([self._state(p, key) for p in parameters] for key in ("first", "second"))
        group["steps"] = group.get("steps", 0) + 1
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        scale = group["lr"] * (1 - beta2 ** group["steps"]) ** 0.5 / (1 - beta1 ** group["steps"])
        denominators = torch._foreach_sqrt(second)
        torch._foreach_add_(denominators, 1e-8)
        torch._foreach_addcdiv_(parameters, first, denominators, -scale)

    def _state(self, p: Tensor, key: str) -> Tensor:
        state = self.state[p]
        if key not in state:
            state[key] = torch.zeros_like(p)
        return state[key]  # type: ignore[no-any-return]


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]
