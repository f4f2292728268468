"""Averages made after the run agree with those that a run of that length would have kept."""

import pytest
import torch

from ldm.system.run_folder import newest_weights
from ldm.system.weights import read_weights
from ldm.training.posthoc import PowerEMA, coefficients, exponent


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.25])
def test_the_exponent_has_the_asked_length(length: float) -> None:
    gamma = exponent(length)
    assert (gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5) == pytest.approx(length)
    tau = (torch.arange(100000, dtype=torch.float64) + 0.5) / 100000
    weight = tau**gamma / (tau**gamma).sum()
    mean = (weight * tau).sum()
    assert float((weight * (tau - mean) ** 2).sum().sqrt()) == pytest.approx(length, rel=1e-3)


@pytest.mark.parametrize("length", [0.0, 0.3, -1.0])
def test_impossible_lengths_are_refused(length: float) -> None:
    with pytest.raises(ValueError, match="relative length"):
        exponent(length)


def path(step: int) -> torch.Tensor:
    """Where a parameter is at a step: it settles, and wanders."""
    t = step / 1000
    return torch.tensor([t, (-5 * torch.tensor(t)).exp(), torch.sin(torch.tensor(20 * t)), float(step % 7) / 7])


@pytest.mark.parametrize("length,step", [(0.05, 1000), (0.07, 1000), (0.1, 1000), (0.15, 1000), (0.08, 500)])
def test_a_made_average_is_the_kept_one(length: float, step: int) -> None:
    p = torch.zeros(4)
    two, direct = PowerEMA({"p": p}), PowerEMA({"p": p}, [length])
    snapshots, values = [], []
    for i in range(1, step + 1):
        p.copy_(path(i))
        two.update()
        direct.update()
        if i % 50 == 0:
            for k, kept in enumerate(two.sigma_rels):
                snapshots.append((i, kept))
                values.append(two.shadows[k]["p"].double().clone())
    made = sum(float(c) * v for c, v in zip(coefficients(snapshots, step, length), values, strict=True))
    assert float((torch.as_tensor(made) - direct.shadows[0]["p"]).abs().max()) < 5e-3
    plain = two.shadows[0]["p"] - direct.shadows[0]["p"]  # a made one is nearer than either snapshot, unless it is one
    assert length == 0.05 or float((torch.as_tensor(made) - direct.shadows[0]["p"]).abs().max()) < 0.2 * float(plain.abs().max())


@pytest.mark.parametrize("steps", [[500, 750], [100], list(range(50, 1001, 50))])
@pytest.mark.parametrize("length", [0.02, 0.08, 0.2, 0.25])
def test_weights_add_up_to_one_however_few_the_snapshots(steps: list[int], length: float) -> None:
    snapshots = [(step, kept) for step in steps for kept in (0.05, 0.1)]
    assert float(coefficients(snapshots, steps[-1], length).sum()) == pytest.approx(1.0)


def test_averages_of_other_lengths_are_not_continued() -> None:
    p = {"p": torch.zeros(2)}
    state = PowerEMA(p, [0.05, 0.1]).state_dict()
    with pytest.raises(ValueError, match="those of the checkpoint are"):
        PowerEMA(p, [0.1, 0.2]).load_state_dict(state)
    for lengths in ([], [0.1, 0.1]):
        with pytest.raises(ValueError, match="different numbers"):
            PowerEMA(p, lengths)


def test_from_a_run(script, run, tmp_path) -> None:
    words = ["trainer.params.steps=8", "trainer.params.checkpoint_every=2", "data.params.batch_size=4", "trainer.params.images_every=0"]
    stage = "{target: ldm.first_stage.IdentityFirstStage, params: {channels: 1}}"
    net = (
        "{target: ldm.networks.UNet, params: {in_channels: 1, out_channels: 1, width: 32, width_mult: [1], blocks_per_level: 1, heads: 1}}"
    )
    model = "model.params.model.params"
    done = run(
        "main.py", "--base", "configs/demo/digits.yaml", "--train", "-l", tmp_path, *words, "trainer.params.validate_every=0",
        f"{model}.first_stage={stage}", f"{model}.network={net}", f"{model}.scale=1.0", f"{model}.conditioner=null",
        "model.params.posthoc_sigma_rels=[0.05, 0.1]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = next(tmp_path.iterdir())
    made = script("scripts/posthoc_ema.py", folder, tmp_path / "made.safetensors", "--sigma-rel", "0.08")
    assert made.returncode == 0 and "4 snapshots" in made.stdout, made.stderr
    weights, metadata = read_weights(tmp_path / "made.safetensors")
    base, _ = read_weights(newest_weights(folder))
    assert weights.keys() == base.keys() and metadata["posthoc_length"] == 0.08
    assert any(not torch.equal(weights[name], base[name]) for name in base)
    assert all(torch.isfinite(value).all() for value in weights.values())
    old = script("scripts/posthoc_ema.py", folder, tmp_path / "old.safetensors", "--length", "0.08")  # its name before
    assert old.returncode == 0
    same, _ = read_weights(tmp_path / "old.safetensors")
    assert all(torch.equal(same[name], value) for name, value in weights.items())
    again = script("scripts/posthoc_ema.py", folder, tmp_path / "x.safetensors", "--sigma-rel", "0.4")
    assert again.returncode == 2 and "--sigma-rel" in again.stderr
