"""`--resume RUN key=value`: what is changed takes effect, or is refused by name."""

from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adafactor, Adagrad, AdamW, RMSprop, Rprop
from torch.optim.lr_scheduler import ExponentialLR, OneCycleLR, StepLR

from ldm.cli.main import main
from ldm.config import AllowedTargets, Config, load
from ldm.errors import UserError
from ldm.system.run_folder import newest_checkpoint
from ldm.system.weights import read_checkpoint
from ldm.training import Muon, warmup_cosine, warmup_linear
from ldm.training.optim.factories import scheduled
from ldm.training.optim.restore import restore
from ldm.training.resuming import Changes, changes

OPT, SCHED = "model.params.optimizer.params", "model.params.scheduler.params"
QUIET = ["trainer.params.log_every=1", "trainer.params.validate_every=0", "trainer.params.images_every=0", "trainer.params.accelerator=cpu"]
TINY = [*QUIET, "model.params.autoencoder.params.width=32", "data.params.batch_size=4", "trainer.params.precision=32-true"]
ADAM = "model.params.optimizer={target: torch.optim.AdamW, partial: true, params: {lr: 0.001, weight_decay: 0.01}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first stage after two steps of AdamW."""
    logs = tmp_path_factory.mktemp("logs")
    assert main(["-b", "configs/demo/digits-first-stage.yaml", "-t", "-l", str(logs), *TINY, ADAM, "trainer.params.steps=2"]) == 0
    (found,) = logs.iterdir()
    return found


def resumed(run: Path, folder: Path, *words: str) -> dict[str, Any]:
    """The state after one more step of a copy of the run."""
    copy = folder / "copy"
    (copy / "checkpoints").mkdir(parents=True)
    (copy / "checkpoints" / "step-2.ckpt").write_bytes((run / "checkpoints" / "step-2.ckpt").read_bytes())
    assert main(["--resume", str(copy / "checkpoints" / "step-2.ckpt"), "trainer.params.steps=3", *words]) == 0
    return read_checkpoint(newest_checkpoint(copy))


def weights(state: dict[str, Any]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in state["model"].values()])


def test_optimizer_settings_of_a_resumed_run_are_the_configs(run: Path, tmp_path: Path) -> None:
    plain = resumed(run, tmp_path / "plain")
    words = [f"{OPT}.weight_decay=0.5", f"{OPT}.betas=[0.5, 0.6]", f"{OPT}.eps=0.001", f"{OPT}.lr=0.002"]
    changed = resumed(run, tmp_path / "changed", *words)
    (group,), (before,) = changed["optimizers"][0]["param_groups"], plain["optimizers"][0]["param_groups"]
    assert (group["weight_decay"], list(group["betas"]), group["eps"]) == (0.5, [0.5, 0.6], 0.001)
    assert group["lr"] == pytest.approx(2 * before["lr"]) and group["initial_lr"] == 0.002
    assert before["weight_decay"] == 0.01 and not torch.equal(weights(plain), weights(changed))


EFFECTS = [
    f"{OPT}.weight_decay=0.9",
    f"{OPT}.lr=0.01",
    f"{SCHED}.warmup=1",
    "model.params.loss.params.pixel.params.l2=0.0",
    "model.params.autoencoder.params.dropout=0.5",
    "data.params.batch_size=3",
    "trainer.params.gradient_clip=0.001",
]


@pytest.mark.slow
@pytest.mark.parametrize("word", EFFECTS)
def test_what_may_be_changed_changes_the_next_step(word: str, run: Path, tmp_path: Path) -> None:
    assert not torch.equal(weights(resumed(run, tmp_path / "a")), weights(resumed(run, tmp_path / "b", word)))


STEPS = "{target: torch.optim.lr_scheduler.StepLR, partial: true, params: {step_size: 2}}"
REFUSED = [  # override, what the message names
    ("name=other", "name: a resumed run keeps"),
    ("seed=7", "this run has seed 23"),
    ("model.params.autoencoder.params.initial_log_variance=-3", "model.params.autoencoder.params.initial_log_variance: only has an effect"),
    ("model.params.start={target: ldm.checkpoint.load.starting_weights, params: {checkpoint: x}}", "model.params.start: a resumed run has"),
    ("model.params.optimizer.target=torch.optim.SGD", "model.params.optimizer: the optimizer's state"),
    ("model.params.optimizer.partial=false", "model.params.optimizer.partial"),
    (f"{OPT}.amsgrad=true", f"{OPT}.amsgrad: the optimizer's state in the checkpoint is incompatible"),
    (
        "model.params.scheduler={target: torch.optim.lr_scheduler.StepLR, partial: true, params: {step_size: 2}}",
        "resuming: model.params.scheduler: only ldm",
    ),
    ("model.params.autoencoder.params.width=64", "changed on resuming: model.params.autoencoder.params.width"),
    ("model.params.unheard_of=1", "model.params.unheard_of: not known to have an effect"),
    ("trainer.params.strategy=fsdp", "strategy 'fsdp' is not supported"),
]


@pytest.mark.parametrize(("word", "said"), REFUSED, ids=[word.partition("=")[0] for word, _ in REFUSED])
def test_what_would_be_ignored_is_refused_by_name(word: str, said: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "config.yaml").read_bytes()
    assert main(["--resume", str(run), "trainer.params.steps=3", word]) == 2
    assert said in capsys.readouterr().err
    assert (run / "config.yaml").read_bytes() == before and newest_checkpoint(run).name == "step-2.ckpt"


@pytest.mark.parametrize("words", [["--logdir", "elsewhere"], ["--name", "other"]])
def test_flags_that_would_be_ignored_are_refused(words: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--resume", str(run), *words]) == 2
    assert f"{words[0]}: a resumed run keeps its folder and its name" in capsys.readouterr().err


def test_check_refuses_it_as_well(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--resume", str(run), "--check", "name=other"]) == 2
    assert "name: a resumed run keeps" in capsys.readouterr().err


CYCLE, STEP = partial(OneCycleLR, max_lr=0.1, total_steps=30), partial(StepLR, step_size=100)
LINEAR, COSINE = partial(warmup_linear, warmup=4, total=40), partial(warmup_cosine, warmup=4, total=40)


def stepped(factory: Any, scheduler: Any, steps: int) -> tuple[Any, Any, list[tuple[str, nn.Parameter]]]:
    """An optimizer of a matrix and a bias after some steps."""
    named = [("weight", nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3))), ("bias", nn.Parameter(torch.ones(2)))]
    optimizer, schedule = scheduled(factory, scheduler, named)
    for i in range(steps):
        for _, p in named:
            p.grad = torch.sin(p.detach() + i)
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return optimizer, schedule, named


def after(old: tuple[Any, Any], new: tuple[Any, Any], steps: int = 6) -> tuple[Any, Any]:
    """What goes on with other settings after some steps."""
    optimizer, schedule, _ = stepped(*old, steps)
    _, _, named = stepped(*new, 0)
    made = scheduled(*new, named)
    path = f"{OPT if old[1] is new[1] else SCHED}.x"
    changed = Changes([path], old, new, {path: old})
    restore(made, optimizer.state_dict(), None if schedule is None else schedule.state_dict(), named, steps, changed)
    return made


SETTINGS = [  # factory, setting before, setting now, what the groups then hold
    (AdamW, {"lr": 0.1}, {"lr": 0.3}, [{"lr": 0.3}]),
    (AdamW, {"weight_decay": 0.1}, {"weight_decay": 0.0}, [{"weight_decay": 0.0}]),
    (AdamW, {}, {"betas": (0.5, 0.9)}, [{"betas": (0.5, 0.9)}]),
    (AdamW, {}, {"eps": 1e-3}, [{"eps": 1e-3}]),
    (AdamW, {}, {"maximize": True}, [{"maximize": True}]),
    (SGD, {"lr": 0.1}, {"lr": 0.1, "momentum": 0.9}, [{"momentum": 0.9}]),
    (SGD, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, [{"nesterov": True, "momentum": 0.9}]),
    (SGD, {"lr": 0.0}, {"lr": 0.1}, [{"lr": 0.1}]),
    (AdamW, {}, {"foreach": True}, [{"foreach": True}]),
    (Rprop, {}, {"etas": (0.2, 3.0)}, [{"etas": (0.2, 3.0)}]),
    (AdamW, {}, {"fused": True}, [{"fused": True}]),
    (Adagrad, {}, {"lr_decay": 0.5}, [{"lr_decay": 0.5}]),
    (Adafactor, {}, {"beta2_decay": -0.2}, [{"beta2_decay": -0.2}]),  # a number below 0 is right there
    (Muon, {}, {"lr": 0.5}, [{"lr": 0.5}, {"lr": 1e-3}]),
    (Muon, {}, {"adam_lr": 0.5}, [{"lr": 0.02}, {"lr": 0.5}]),
    (Muon, {}, {"momentum": 0.5, "weight_decay": 0.2}, [{"momentum": 0.5, "weight_decay": 0.2}] * 2),
    (Muon, {}, {"betas": [0.5, 0.6]}, [{"betas": [0.5, 0.6]}] * 2),
]


@pytest.mark.parametrize(("kind", "before", "now", "expected"), SETTINGS)
def test_every_setting_of_an_optimizer_takes_effect(kind: Any, before: dict, now: dict, expected: list[dict]) -> None:
    def make(settings: dict[str, Any]) -> Any:
        return lambda named: kind(named if kind is Muon else [p for _, p in named], **settings)

    optimizer, _ = after((make(before), None), (make(now), None))
    for group, values in zip(optimizer.param_groups, expected, strict=True):
        assert {key: group[key] for key in values} == values
    untouched, _, _ = stepped(make(before), None, 6)
    for group, old in zip(optimizer.param_groups, untouched.param_groups, strict=True):  # and nothing else has changed
        same = old.keys() - {"params", "initial_lr", *now} - ({"lr"} if "adam_lr" in now else set())
        assert {key: group[key] for key in same} == {key: old[key] for key in same}


def adam(lr: float = 0.1) -> Any:
    return lambda named: AdamW([p for _, p in named], lr=lr)


@pytest.mark.parametrize(
    ("old", "new", "rates"),
    [
        ((adam(), LINEAR), (adam(0.2), LINEAR), [0.2 * 34 / 36, 0.2 * 33 / 36]),
        ((adam(0.0), LINEAR), (adam(0.2), LINEAR), [0.2 * 34 / 36, 0.2 * 33 / 36]),
        ((adam(), LINEAR), (adam(), partial(warmup_linear, warmup=9)), [0.07, 0.08]),
        ((adam(), LINEAR), (adam(), COSINE), [0.1 * (1 + torch.cos(torch.tensor(torch.pi * n / 36)).item()) / 2 for n in (2, 3)]),
        ((adam(), None), (adam(), LINEAR), [0.1 * 34 / 36, 0.1 * 33 / 36]),
        ((adam(), LINEAR), (adam(), None), [0.1, 0.1]),
        ((adam(), STEP), (adam(0.2), STEP), [0.2, 0.2]),
        ((adam(), partial(StepLR, step_size=100)), (adam(), partial(StepLR, step_size=7)), [0.1, 0.01]),
        ((adam(), partial(ExponentialLR, gamma=1.0)), (adam(), partial(ExponentialLR, gamma=0.5)), [0.1, 0.05]),
    ],
)
def test_every_setting_of_a_schedule_takes_effect(old: Any, new: Any, rates: list[float]) -> None:
    optimizer, schedule = after(old, new)
    found = []
    for _ in rates:
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule is not None:
            schedule.step()
    assert found == pytest.approx(rates)


@pytest.mark.parametrize("scheduler", [None, LINEAR, partial(StepLR, step_size=4), CYCLE])
@pytest.mark.parametrize("factory", [adam(), Muon])
def test_without_changes_everything_goes_on_as_it_was(factory: Any, scheduler: Any) -> None:
    optimizer, schedule, _ = stepped(factory, scheduler, 6)
    _, _, named = stepped(factory, scheduler, 0)
    made = scheduled(factory, scheduler, named)
    restore(made, optimizer.state_dict(), None if schedule is None else schedule.state_dict(), named, 6, Changes())
    groups = [[{k: v for k, v in group.items() if k != "params"} for group in one.param_groups] for one in (optimizer, made[0])]
    assert groups[0] == groups[1]
    assert schedule is None or schedule.state_dict() == made[1].state_dict()


def plain(kind: Any, **more: Any) -> Any:
    return lambda named: kind([p for _, p in named], **more)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ((plain(RMSprop), None), (plain(RMSprop, centered=True), None), "is incompatible"),
        ((adam(), None), (adam(), partial(StepLR, step_size=4)), "only ldm.training's schedules"),
        ((adam(), LINEAR), (adam(), partial(StepLR, step_size=4)), "only ldm.training's schedules"),
        (
            (adam(), CYCLE),
            (adam(0.5), CYCLE),
            "no effect",
        ),
        ((adam(), partial(ExponentialLR, gamma=0.9)), (adam(), partial(StepLR, step_size=4)), "only ldm.training's schedules"),
        ((plain(Adagrad), None), (plain(Adagrad, initial_accumulator_value=3.0), None), "only has an effect at the start of training"),
        ((plain(Rprop), None), (plain(Rprop, lr=0.5), None), "only has an effect at the start of training"),
    ],
)
def test_what_the_old_state_does_not_bear_is_refused(old: Any, new: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"cannot be changed on resuming: .*{said}"):
        after(old, new)


def of_stage_two(*words: str) -> Config:
    objective = "model.params.objective={target: ldm.diffusion.DiffusionObjective}"
    return load(["configs/demo/digits.yaml"], ["paths.first_stage=x", objective, *words])


MODEL = "model.params.model.params"
STAGE_TWO = [  # override, what is said of it: nothing where it takes effect
    (f"{MODEL}.network.params.dropout=0.3", ""),
    (f"{MODEL}.conditioner.params.uncond_prob=0.3", ""),
    (f"{MODEL}.parameterization=eps", ""),
    (f"{MODEL}.process.params.T=500", ""),
    ("paths.first_stage=y", ""),
    ("model.params.ema_decay=0.9", ""),
    ("model.params.ema_decay=null", ""),
    ("model.params.preview.params.steps=3", ""),
    ("model.params.objective.params.min_snr=5", ""),
    ("data.params.batch_size=8", ""),
    ("sampling.steps=3", ""),
    (f"{OPT}.momentum=0.5", ""),
    (f"{SCHED}.warmup=7", ""),
    (f"{MODEL}.scale=0.5", "the latents' scale is part of the checkpoint"),
    ("model.params.objective.params.initial_log_variance=1", "only has an effect at the start of training"),
    ("model.params.ema_of=network", "the averages"),
    ("model.params.train_conditioner=false", "the optimizer's state"),
]


@pytest.mark.parametrize(("word", "said"), STAGE_TWO, ids=[word for word, _ in STAGE_TWO])
def test_what_a_second_stage_may_change(word: str, said: str) -> None:
    begun, now = of_stage_two(), of_stage_two(word)
    state = {"config": begun.data, "source": begun.source}
    if said:
        with pytest.raises(UserError, match=f"cannot be changed on resuming.*{said}"):
            changes(state, now, AllowedTargets())
    else:
        found = changes(state, now, AllowedTargets())
        assert word.partition("=")[0] in found.paths
        assert bool(found.without) == word.startswith(("model.params.optimizer", "model.params.scheduler"))


def test_a_run_that_was_fine_tuned_and_resumed_still_resumes() -> None:
    """Its config no longer names what it began with, its source does."""
    start = "model.params.start={target: ldm.checkpoint.load.starting_weights, params: {checkpoint: '${paths.first_stage}'}}"
    begun = of_stage_two(start)
    data = deepcopy(begun.data)
    del data["model"]["params"]["start"]
    assert changes({"config": data, "source": begun.source}, of_stage_two(start), AllowedTargets()).paths == []
    with pytest.raises(UserError, match="model.params.start: a resumed run has its own weights"):
        changes({"config": data, "source": begun.source}, of_stage_two(start.replace("${paths.first_stage}", "z")), AllowedTargets())
