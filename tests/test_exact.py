"""What decides by a smallest distance is exact: whatever is set around it, training and use find the same."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from demos import digits
from ldm.evaluation import nearest
from ldm.evaluation.distances import precision_recall
from ldm.evaluation.features import of_batch
from ldm.first_stage import VQAutoencoder
from ldm.first_stage.vq import Codebook

PRODUCTS = {"matmul", "__matmul__", "mm", "bmm", "addmm", "linear", "conv2d", "cdist", "argmin", "topk"}


class Spy(TorchFunctionMode):
    """Notes every product of numbers that are not float64 and in what it was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.inexact = 0, []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in PRODUCTS:
            self.seen += 1
            tensors = [value for value in args if isinstance(value, torch.Tensor) and value.is_floating_point()]
            fast = torch.get_float32_matmul_precision() != "highest" or torch.is_autocast_enabled("cpu")
            if any(t.dtype != torch.float64 and (fast or torch.backends.cudnn.allow_tf32 or t.dtype != torch.float32) for t in tensors):
                self.inexact.append(function.__name__)
        return function(*args, **(kwargs or {}))


class Products(nn.Module):
    """An extractor."""

    name, software, resize = "products", (), "none"

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        flat = x.float().flatten(1)
        return {"features": flat @ torch.ones(flat.shape[1], 4)}


@pytest.fixture
def hurried() -> Iterator[None]:
    """What a training in bf16 on a GPU sets."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


DECISIONS: dict[str, Callable[[], Any]] = {
    "nearest code": lambda: Codebook(8, 4).codes(draw(2, 4, 3, 3)),
    "nearest code of a straight-through gradient": lambda: Codebook(8, 4)(draw(2, 4, 3, 3))[2],
    "nearest image": lambda: nearest.nearest(draw(5, 6), draw(7, 6), 2),
    "nearest digit": lambda: digits.nearest(draw(5, 1, 4, 4), draw(7, 1, 4, 4)),
    "precision and recall": lambda: precision_recall(draw(9, 6), draw(8, 6), few=True),
    "features": lambda: of_batch(Products(), torch.ones(2, 3, 4, 4, dtype=torch.uint8), torch.device("cpu")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", DECISIONS)
def test_decisions_are_exact_whatever_is_set_around_them(what: str, hurried: None) -> None:
    with Spy() as spy:
        DECISIONS[what]()
    assert spy.seen and not spy.inexact
    assert torch.get_float32_matmul_precision() == "high" and torch.is_autocast_enabled("cpu")


def test_the_spy_sees_what_is_not_exact(hurried: None) -> None:
    with Spy() as spy:
        draw(2, 3) @ draw(3, 2)
    assert spy.inexact


def test_training_and_use_find_the_same_codes(hurried: None) -> None:
    """In training the codes are those that decoding finds, in a setting where bf16 products would confuse neighbours."""
    net = VQAutoencoder(4, 512, 32, [1], 1, middle_attention=False)
    z = draw(2, 4, 8, 8) / 512
    trained = net.codebook(z)[2]
    flat, e = z.double().permute(0, 2, 3, 1).reshape(-1, 1, 4), net.codebook.embedding.weight.double()
    assert torch.equal(trained.flatten(), (flat - e).square().sum(2).argmin(1))
    assert torch.equal(trained, net.codebook.codes(z))


def test_the_nearest_of_a_copy_is_the_copy_at_no_distance() -> None:
    images = draw(40, 1, 8, 8) * 1e-3 + 1
    distance, index = digits.nearest(images, images)
    assert torch.equal(index, torch.arange(40)) and float(distance.max()) < 1e-6
