"""Tiny runs of every kind of process through main.py: trained, resumed bit by bit, sampled; old names on the way; and what is refused."""

from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from ldm.checkpoint.load import load_model
from ldm.cli import main as program
from ldm.errors import UserError
from ldm.system.weights import read_checkpoint, read_metadata

CONFIG = """
model:
  target: ldm.training.DiffusionTraining
  params:
    model:
      target: ldm.model.LatentDiffusion
      params:
        first_stage: {target: ldm.first_stage.IdentityFirstStage, params: {channels: 1}}
        network:
          target: ldm.networks.UNet
          params: {in_channels: 1, out_channels: 1, width: 32, width_mult: [1], blocks_per_level: 1, heads: 1, context_channels: 8}
        conditioner: {target: ldm.conditioning.ClassEmbedding, params: {num_classes: 10, width: 8, uncond_prob: 0.2}}
        parameterization: PARAMETERIZATION
        process: PROCESS
    optimizer: {target: torch.optim.AdamW, partial: true, params: {lr: 1.0e-3}}
    objective: {target: ldm.diffusion.DiffusionObjective, params: OBJECTIVE}
    preview: {target: ldm.sampling.generate.SamplerSettings, params: {sampler: heun, steps: 3}}
data: {params: {batch_size: 4, workers: 0, train: {target: ldm.data.Digits, params: {size: 8}}}}
trainer: {params: {steps: 4, checkpoint_every: 2, log_every: 1, accelerator: cpu, precision: 32-true, images_every: 4}}
sampling: {sampler: heun, steps: 4, scale: 1.5}
"""
KINDS = {
    "flow": (
        "{target: ldm.diffusion.RectifiedFlow, params: {shift: 2.0, times: {target: ldm.diffusion.process.LogitNormal}}}",
        "velocity",
        "{cosine_weight: 0.1}",
    ),
    "trigonometric": ("{target: ldm.diffusion.Trigonometric}", "velocity", "{}"),
    "edm": (
        "{target: ldm.diffusion.EDM, params: {times: {target: ldm.diffusion.process.LogNormal, params: {mean: -0.4, std: 1.0}}}}",
        "edm",
        "{weight: {target: ldm.diffusion.weighting.edm, params: {sigma_data: 0.5}}}",
    ),
    "discrete": ("{target: ldm.diffusion.cosine, params: {T: 100}}", "v", "{min_snr: 5.0}"),
}


def config_of(kind: str) -> str:
    process, parameterization, objective = KINDS[kind]
    return CONFIG.replace("PROCESS", process).replace("PARAMETERIZATION", parameterization).replace("OBJECTIVE", objective)


def main(*words: object) -> int:
    return program.main([*map(str, words)])


def trained(folder: Path, text: str, name: str, *more: str) -> Path:
    (folder / "c.yaml").write_text(text)
    assert main("-b", folder / "c.yaml", "-t", "-l", folder, "-n", name, *more) == 0
    (run,) = folder.glob(f"*_{name}")
    return run


def model_of(run: Path, step: int) -> dict[str, torch.Tensor]:
    return read_checkpoint(run / "checkpoints" / f"step-{step}.ckpt")["model"]


def assert_same(one: Path, other: Path, step: int) -> None:
    a, b = model_of(one, step), model_of(other, step)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_trains_resumes_and_samples(kind: str, tmp_path: Path, script) -> None:
    whole = trained(tmp_path, config_of(kind), "whole")
    parted = trained(tmp_path, config_of(kind), "parted", "trainer.params.steps=2")
    assert main("-r", parted, "trainer.params.steps=4") == 0
    assert_same(whole, parted, 4)
    assert not all(torch.equal(a, b) for a, b in zip(model_of(whole, 2).values(), model_of(whole, 4).values(), strict=True))
    done = script("scripts/sample.py", whole, "--n", 2, "--classes", "3,5", "--device", "cpu", "--outdir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "out" / "00001.png").size == (8, 8)
    more = ["--sampler", "ddim", "--eta", 1, "--guidance-interval", 0.2, 0.8, "--init", tmp_path / "out" / "00001.png", "--strength", 0.5]
    done = script("scripts/sample.py", whole, "--n", 1, "--classes", 3, *more, "--device", "cpu", "--outdir", tmp_path / "more")
    assert done.returncode == 0, done.stderr


def test_a_run_of_before_goes_on_and_samples(tmp_path: Path, script) -> None:
    """As it was written when a process was called a schedule: in its checkpoint, its weights, its YAML, and in the words to change it."""
    new = trained(tmp_path, config_of("discrete"), "new", "trainer.params.steps=2")
    old = trained(tmp_path, config_of("discrete").replace("process:", "schedule:"), "old", "trainer.params.steps=2")
    checkpoint = old / "checkpoints" / "step-2.ckpt"
    state = torch.load(checkpoint, weights_only=True)
    for key in ("config", "source"):
        params = state[key]["model"]["params"]["model"]["params"]
        params["schedule"] = params.pop("process")
    torch.save(state, checkpoint)
    (old / "base.yaml").write_text((old / "base.yaml").read_text().replace("process:", "schedule:"))
    assert main("-r", old, "trainer.params.steps=4") == 0 and main("-r", new, "trainer.params.steps=4") == 0
    assert_same(old, new, 4)
    (weights,) = (old / "checkpoints").glob("step-4*.safetensors")
    assert "process" in read_metadata(weights)["config"]["model"]["params"]["model"]["params"]
    word = "model.params.model.params.schedule.params.T=90"
    assert main("-r", old, "trainer.params.steps=5", word) == 0
    assert load_model(str(old)).model.process.T == 90
    assert yaml.safe_load((old / "config.yaml").read_text())["model"]["params"]["model"]["params"]["process"]["params"]["T"] == 90


AT = "model.params.model.params"


@pytest.mark.parametrize(
    "kind,word,message",
    [
        ("flow", f"{AT}.parameterization=eps", "parameterization eps cannot work with RectifiedFlow: the process begins with pure noise"),
        ("discrete", f"{AT}.parameterization=velocity", "has no d_alpha and d_sigma; use one of eps, x0, v"),
        ("edm", f"{AT}.parameterization=v", "alpha^2 + sigma^2 is not 1; use one of eps, x0, velocity, edm"),
        ("flow", "model.params.objective.params.vlb_weight=0.1", "need discrete timesteps, unlike RectifiedFlow"),
        ("discrete", "model.params.objective.params.log_variances=10", "log_variances is 10, but the process has 100 timesteps"),
        ("flow", "sampling.sampler=plms", "sampling: sampler plms divides by alpha, which is 0 at the first time of this process"),
        ("flow", "model.params.preview.params.sampler=plms", "model.params.preview: sampler plms divides by alpha"),
        ("edm", "sampling.spacing=original_uniform", "sampling: spacing 'original_uniform' is unknown to EDM; there are uniform, karras"),
        ("edm", f"{AT}.process.params.times.target=ldm.diffusion.process.Normal", "has no 'Normal'; did you mean 'LogNormal'?"),
        ("edm", "model.params.objective.params.weight=5", "weight: expected a node with target and partial: true"),
        ("flow", "sampling.sampler=somebody.sampler", "sampler 'somebody.sampler' is not in a trusted package; --trust somebody allows it"),
        ("flow", f"{AT}.parameterization={{target: somebody.Mine}}", "'somebody.Mine' is not in an allowed package"),
        ("flow", f"{AT}.scale=[1.0, 2.0]", "scale must have a number for each of the 1 channels, got [1.0, 2.0]"),
    ],
)
def test_what_cannot_work_together_is_said_by_the_check(kind: str, word: str, message: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "c.yaml").write_text(config_of(kind))
    assert main("-b", tmp_path / "c.yaml", "--check", word) == 2
    assert message in capsys.readouterr().out


MINE = """
import torch
from ldm.diffusion import Parameterization, Prediction
from ldm.diffusion.sampling import Hooks, step_pairs


class Direction(Parameterization):
    '''eps - z_0.'''

    def target(self, z_0, eps, at):
        return eps - z_0

    def predict(self, output, z_t, at):
        z_0 = (z_t - at.sigma * output) / (at.alpha + at.sigma)
        return Prediction(z_0 + output, z_0)

    def to_z_0(self, at):
        return (at.sigma / (at.alpha + at.sigma)) ** 2


def leap(denoise, z_T, process, times, *, noise, hooks=Hooks()):
    z = z_T
    for t, s in step_pairs(times):
        eps, z_0 = denoise(hooks.before(z, t), t)
        z = hooks.after(z_0 if s == process.clean else process.add_noise(z_0, s, eps), z_0, t)
    return z


def early(at, parameterization):
    return torch.ones_like(at.alpha)
"""


def test_parts_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "my_parts.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    text = config_of("flow").replace("parameterization: velocity", "parameterization: {target: my_parts.Direction}")
    text = text.replace("sampler: heun", "sampler: my_parts.leap")
    text = text.replace("{cosine_weight: 0.1}", "{weight: {target: my_parts.early, partial: true}}")
    (tmp_path / "c.yaml").write_text(text)
    assert main("-b", tmp_path / "c.yaml", "--check") == 2 and "--trust my_parts allows it" in capsys.readouterr().out
    run = trained(tmp_path, text, "mine", "--trust", "my_parts")
    (pictures,) = (run / "images").glob("step-000004-*.png")
    assert pictures.stat().st_size > 0
    with pytest.raises(UserError, match="my_parts"):
        load_model(str(run))
