"""DiT: sizes, initial values, conditions, latents of other sizes, and that it learns."""

import pytest
import torch
from sklearn.datasets import load_digits

from ldm.conditioning import ClassVector
from ldm.diffusion import PARAMETERIZATIONS, DiffusionObjective, RectifiedFlow
from ldm.diffusion.process import LogitNormal
from ldm.first_stage import IdentityFirstStage
from ldm.model import LatentDiffusion
from ldm.networks import DiT
from ldm.networks.dit import SIZES

TINY = {"patch": 2, "width": 32, "depth": 2, "heads": 2, "size": 8}
EVERYTHING = {"qk_norm": True, "swiglu": True, "rms_norm": True, "rotary": True, "shift": False, "learn_sigma": True}


def inputs(batch: int = 2, h: int = 8, w: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(batch, 4, h, w), torch.rand(batch)


def randomised(net: DiT) -> DiT:
    """Weights that are nowhere 0, so that everything counts."""
    torch.manual_seed(2)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return net


@pytest.mark.parametrize("size,published", [("S", 32_865_056), ("B", 130_315_808), ("L", 457_840_672), ("XL", 674_834_720)])
def test_the_sizes_of_the_paper(size: str, published: int) -> None:
    with torch.device("meta"):
        width = SIZES[size]["width"]
        parts = DiT(4, 4, patch=2, size=32, vector_channels=width, learn_sigma=True, **SIZES[size]), ClassVector(1000, width)
        deep = DiT(4, 4, patch=8, size=32, vector_channels=width, learn_sigma=True, **SIZES[size])
    assert sum(p.numel() for part in parts for p in part.parameters()) == published
    assert len(deep.blocks) == SIZES[size]["depth"] and deep.positions.shape == (16, width)


@pytest.mark.parametrize("options", [{}, EVERYTHING, {"context_channels": 5, "vector_channels": 7}])
def test_it_begins_with_zero_and_everything_learns_after_the_first_steps(options: dict) -> None:
    net = DiT(4, 4, **TINY, **options)
    z, t = inputs()
    given = {
        name: torch.randn(2, *([3] if name == "context" else []), n)
        for name in ("context", "vector")
        if (n := options.get(f"{name}_channels"))
    }
    assert net(z, t, **given).shape == z.shape and not net(z, t, **given).any()
    optimizer = torch.optim.SGD(net.parameters(), 0.5)
    moved = []
    for _ in range(4):
        optimizer.zero_grad()
        (net.with_variances(z, t, **given) - 1.0).square().mean().backward()
        moved.append({name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()})
        optimizer.step()
    assert moved[0] == {"final.linear.weight", "final.linear.bias"}
    assert moved[-1] == {name for name, _ in net.named_parameters()}


def test_latents_of_other_sizes_have_positions_of_their_own() -> None:
    small, large = randomised(DiT(4, 4, **TINY, rotary=True)), randomised(DiT(4, 4, **{**TINY, "size": 12}, rotary=True))
    z, t = inputs(h=12, w=12)
    assert torch.equal(small(z, t), large(z, t))
    z, t = inputs(h=4, w=10)
    assert small(z, t).shape == z.shape
    assert not torch.allclose(small(z, t), small(z.transpose(2, 3), t).transpose(2, 3), atol=1e-3)
    with pytest.raises(ValueError, match="multiple"):
        small(inputs(h=7)[0], t)


def test_conditions_count_and_checkpointing_does_not() -> None:
    torch.manual_seed(3)
    context, vector = torch.randn(2, 3, 5), torch.randn(2, 32)
    options = {"context_channels": 5, "vector_channels": 32}
    net, z_t = randomised(DiT(4, 4, **TINY, **options)), inputs()
    y = net(*z_t, context, vector)
    for other in (net(*z_t, context + 1, vector), net(*z_t, context, vector + 1), net(z_t[0], z_t[1] + 0.5, context, vector)):
        assert not torch.allclose(y, other, atol=1e-4)
    again = randomised(DiT(4, 4, **TINY, **options, checkpointing=True)).train()
    assert torch.equal(again(*z_t, context, vector), y)
    for one in (net, again):
        one(*z_t, context, vector).sum().backward()
    assert all(torch.allclose(p.grad, q.grad) for p, q in zip(net.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="vector_channels"):
        net(*z_t, context)


@pytest.mark.parametrize("wrong", [{"width": 30}, {"heads": 3}, {"size": 9}, {"width": 36, "heads": 6, "rotary": True}])
def test_shapes_that_do_not_fit_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="DiT: .* must be a multiple"):
        DiT(4, 4, **{**TINY, **wrong})


@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_learns_digits_as_a_flow(bf16: bool) -> None:
    torch.manual_seed(4)
    digits, labels = load_digits(return_X_y=True)
    images, label = torch.tensor(digits).float().view(-1, 1, 8, 8) / 8.0 - 1.0, torch.tensor(labels)
    net = DiT(1, 1, patch=2, width=64, depth=2, heads=4, size=8, vector_channels=64, **{**EVERYTHING, "learn_sigma": False})
    model = LatentDiffusion(IdentityFirstStage(1), net, RectifiedFlow(LogitNormal()), ClassVector(10, 64, 0.1), "velocity").train()
    optimizer, losses = torch.optim.AdamW(model.parameters(), 2e-3), []
    for _ in range(60):
        rows = torch.randint(len(images), (64,))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model.loss({"image": images[rows], "label": label[rows]})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10]), losses


def test_the_cosine_in_the_loss_does_not_explode_where_the_output_is_still_zero() -> None:
    z, t = inputs()
    largest = []
    for weight in (0.0, 1.0):
        output = torch.zeros(2, 4, 8, 8, requires_grad=True)
        objective = DiffusionObjective(cosine_weight=weight)
        errors = objective.errors(lambda z_t, t, o=output: o, z, t, torch.randn_like(z), RectifiedFlow(), PARAMETERIZATIONS["velocity"])
        errors.mean().backward()
        largest.append(float(output.grad.abs().max()))
    assert largest[0] < largest[1] < 1000 * largest[0]
