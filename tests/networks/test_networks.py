import pytest
import torch

from ldm.networks import Decoder, Encoder, PatchDiscriminator, UNet
from ldm.nn.attention import SHORT, attend


def nonzero(module: torch.nn.Module) -> torch.nn.Module:
    """Zero-started layers hide what lies behind them: give every parameter a value."""
    torch.manual_seed(0)
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return module


VARIANTS = [
    {"heads": 2},
    {"head_channels": 16, "attention_at": [1, 2]},
    {"heads": 2, "context_channels": 8, "transformer_depth": 2, "attention_at": [2]},
    {"heads": 2, "scale_shift": True, "resample": "residual"},
    {"heads": 2, "resample": "pool", "vector_channels": 5},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_unet_keeps_the_size_and_every_parameter_gets_a_gradient(options: dict) -> None:
    net = nonzero(UNet(3, 4, 64, [1, 2], 1, **options))
    context = torch.randn(2, 5, 8) if "context_channels" in options else None
    vector = torch.randn(2, 5) if "vector_channels" in options else None
    out = net(torch.randn(2, 3, 8, 12), torch.tensor([3, 700]), context, vector)
    assert out.shape == (2, 4, 8, 12)
    out.square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_unet_starts_at_zero_and_depends_on_time_and_context() -> None:
    net = UNet(3, 3, 64, [1, 2], 1, [1], heads=2, context_channels=8)
    z, c = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 8)
    assert float(net(z, torch.tensor([1, 2]), c).detach().abs().max()) == 0.0
    nonzero(net)
    base = net(z, torch.tensor([1, 2]), c)
    assert not torch.allclose(base, net(z, torch.tensor([900, 2]), c))
    assert not torch.allclose(base, net(z, torch.tensor([1, 2]), c + 1))


def test_checkpointing_changes_nothing() -> None:
    grads = []
    for flag in (False, True):
        net = nonzero(UNet(3, 3, 64, [1, 2], 1, [2], heads=2, checkpointing=flag))
        net.train()
        net(torch.ones(1, 3, 8, 8), torch.tensor([5])).square().mean().backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize(
    "call,message",
    [
        (lambda n: n(torch.zeros(1, 2, 8, 8), torch.zeros(1)), "takes 3 channels"),
        (lambda n: n(torch.zeros(1, 3, 9, 8), torch.zeros(1)), "multiples of 2"),
        (lambda n: n(torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(1, 1, 4)), "context"),
    ],
)
def test_wrong_calls_say_what_was_expected(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(UNet(3, 3, 32, [1, 2], 1, heads=1))


def test_wrong_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="exactly one of heads"):
        UNet(3, 3, 32, [1])
    with pytest.raises(ValueError, match="do not divide"):
        UNet(3, 3, 32, [1], head_channels=24)


@pytest.mark.parametrize("stem,mult,factor", [(1, [1], 1), (1, [1, 1], 2), (2, [1, 1], 4), (4, [1, 1, 1], 16)])
def test_autoencoder_halves_fit_each_other(stem: int, mult: list[int], factor: int) -> None:
    encoder, decoder = Encoder(3, 4, 32, mult, 1, stem=stem), Decoder(4, 3, 32, mult, 1, stem=stem)
    z = encoder(torch.randn(2, 3, 32, 48))
    assert z.shape == (2, 4, 32 // factor, 48 // factor)
    x = decoder(z)
    assert x.shape == (2, 3, 32, 48)
    x.square().mean().backward()
    parameters = [*encoder.named_parameters(), *decoder.named_parameters()]
    # A key's bias shifts all scores of a query alike, so its gradient is exactly zero in theory.
    assert [n for n, p in parameters if p.grad is None or (not p.grad.abs().sum() > 0 and not n.endswith("k.bias"))] == []


def test_discriminator_gives_one_logit_per_patch() -> None:
    assert PatchDiscriminator(3, 8)(torch.randn(2, 3, 64, 64)).shape == (2, 1, 6, 6)


def test_both_ways_of_attention_agree() -> None:
    torch.manual_seed(0)
    short, long = torch.randn(3, 2, 2, 16, 8), torch.randn(3, 2, 2, 96, 8)
    assert 16 * 16 <= SHORT < 96 * 96  # one on each side of the switch
    for q, k, v in (short, long):
        expected = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
        torch.testing.assert_close(attend(q, k, v).double(), expected, atol=1e-5, rtol=1e-4)
