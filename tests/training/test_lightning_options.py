"""Every argument of Lightning's Trainer and every strategy: it works with our counting, or is refused by name."""

import csv
import inspect
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.strategies import StrategyRegistry

import main as program
from ldm.training import TrainerSettings
from ldm.training.settings import INSTEAD, LIGHTNING, STRATEGIES

ARGUMENTS = [name for name in inspect.signature(pl.Trainer).parameters]
# A value each with which it would do something.
VALUES: dict[str, Any] = {
    "fast_dev_run": True,
    "limit_train_batches": 1,
    "limit_val_batches": 1,
    "max_time": "00:00:00:01",
    "overfit_batches": 1,
    "accumulate_grad_batches": 2,
    "gradient_clip_val": 0.1,
    "val_check_interval": 1,
    "reload_dataloaders_every_n_epochs": 1,
    "barebones": True,
    "plugins": [],
}
WORK = [(name, value) for name, values in LIGHTNING.items() for value in values]


def test_the_table_is_of_arguments_that_exist() -> None:
    assert set(LIGHTNING) | set(INSTEAD) <= set(ARGUMENTS) and not set(LIGHTNING) & set(INSTEAD)


@pytest.mark.parametrize("name", [name for name in ARGUMENTS if name not in LIGHTNING])
def test_what_breaks_our_counting_is_refused_with_what_to_use(name: str) -> None:
    with pytest.raises(ValueError, match=f"lightning: '{name}' is set by this project") as raised:
        TrainerSettings(1, lightning={name: VALUES.get(name, 1)})
    assert INSTEAD.get(name, "is set by this project") in str(raised.value)


@pytest.mark.parametrize("strategy", [*StrategyRegistry.available_strategies(), "ddp_bogus", "bogus"])
def test_every_strategy_is_one_of_ours_or_refused(strategy: str) -> None:
    if strategy in STRATEGIES:
        assert TrainerSettings(1, strategy=strategy).strategy == strategy
    else:
        with pytest.raises(ValueError, match=f"strategy '{strategy}' is (unknown|not supported)"):
            TrainerSettings(1, strategy=strategy)


@pytest.mark.parametrize(("devices", "count"), [("2", 2), ("0,", 1), ("0,2", 2), ("0", 0), ("1,1", 0), ("a,b", 0), ("", 0)])
def test_devices_as_text(devices: str, count: int) -> None:
    """As a config may quote them."""
    if count:
        assert TrainerSettings(1, devices=devices, accelerator="cpu").device_count() == count
    else:
        with pytest.raises(ValueError, match="devices: expected a number of at least 1"):
            TrainerSettings(1, devices=devices, accelerator="cpu")


def test_check_refuses_them_by_name(capsys, monkeypatch, root: Path) -> None:
    monkeypatch.chdir(root)
    for override, says in (
        ("trainer.params.lightning.fast_dev_run=true", "'fast_dev_run' is set by this project: use steps"),
        ("trainer.params.strategy=ddp_spawn", "strategy 'ddp_spawn' is not supported"),
        ("trainer.params.lightning.profiler=simpel", "profiler expects one of simple"),
    ):
        assert program.main(["-b", "configs/demo/digits-first-stage.yaml", "--check", override]) == 2
        assert says in capsys.readouterr().out


@pytest.mark.parametrize(("name", "value"), WORK)
def test_what_is_accepted_trains_and_counts_as_without(name: str, value: Any, monkeypatch, capsys, tmp_path: Path, root: Path) -> None:
    monkeypatch.chdir(root)
    words = ["-b", "configs/demo/digits-first-stage.yaml", "-t", "--no-check", "-l", str(tmp_path), "data.params.batch_size=4"]
    words += ["model.params.autoencoder.params.width=32", "model.params.scheduler=null", "data.params.max_per_device=2"]
    text = "null" if value is None else str(value).lower()
    words += [f"trainer.params={{steps: 3, accelerator: cpu, log_every: 1, images_every: 0, lightning: {{{name}: {text}}}}}"]
    assert program.main(words) == 0, capsys.readouterr().err
    (run,) = tmp_path.iterdir()
    assert (run / "checkpoints" / "step-3.ckpt").is_file()
    assert [row["step"] for row in csv.DictReader((run / "metrics.csv").read_text().splitlines())] == ["1", "2", "3"]
