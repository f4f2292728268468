"""Structure without values."""

import torch
from torch import nn

from ldm.nn.meta import on_meta


def build() -> list[torch.Tensor]:
    layers = [nn.Linear(3, 4), nn.Conv2d(2, 4, 3), nn.Embedding(5, 4), nn.MultiheadAttention(8, 2), nn.GroupNorm(2, 4)]
    own = [nn.init.trunc_normal_(torch.empty(2, 3)), nn.init.xavier_uniform_(tensor=torch.empty(3, 2)), torch.empty(3).normal_(std=2.0)]
    return [*own, *(parameter for layer in layers for parameter in layer.parameters())]


def test_values_elsewhere_are_drawn() -> None:
    with on_meta():
        drawn = torch.full((100,), 7.0, device="cpu").normal_(), nn.init.uniform_(torch.full((100,), 7.0, device="cpu"))
    assert all(values.std() > 0.1 for values in drawn)


def test_shapes_are_those_of_values() -> None:
    state = torch.get_rng_state()
    with on_meta():
        found = build()
    assert all(one.device.type == "meta" for one in found) and torch.equal(torch.get_rng_state(), state)
    assert [one.shape for one in found] == [one.shape for one in build()]
