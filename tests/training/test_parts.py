import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ldm.errors import UserError
from ldm.evaluation.runs import read_lines, read_series
from ldm.first_stage.health import balance_warnings
from ldm.system.progress import clock
from ldm.training import Muon, TrainerSettings, warmup_cosine, warmup_linear
from ldm.training.callbacks.checkpoints import Checkpoints
from ldm.training.callbacks.failures import description
from ldm.training.callbacks.incidents import Incidents
from ldm.training.callbacks.metrics import MetricLogger, MetricsTable
from ldm.training.callbacks.stopping import TimeLimit
from ldm.training.datamodule import DataModule
from ldm.training.ema import EMA
from ldm.training.optim.muon import orthogonalise


def test_ema_follows_its_formula_and_swaps_back() -> None:
    p = nn.Parameter(torch.zeros(3))
    ema = EMA({"p": p}, 0.5)
    expected = torch.zeros(3)
    for n in range(1, 8):
        with torch.no_grad():
            p.add_(1.0)
        ema.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * p.detach()
    torch.testing.assert_close(ema.shadow["p"], expected)
    with ema.applied():
        torch.testing.assert_close(p.detach(), expected)
    torch.testing.assert_close(p.detach(), torch.full((3,), 7.0))
    other = EMA({"p": nn.Parameter(torch.zeros(3))}, 0.5)
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.shadow["p"], ema.shadow["p"]) and other.updates == 7


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    for shape in ((2, 8, 20), (3, 20, 8)):
        s = torch.linalg.svdvals(orthogonalise(torch.randn(*shape, generator=torch.Generator().manual_seed(0))).float())
        assert float(s.min()) > 0.5 and float(s.max()) < 1.4


def test_muon_adam_part_equals_torchs_adamw() -> None:
    torch.manual_seed(0)
    a, b = nn.Parameter(torch.randn(5)), None
    b = nn.Parameter(a.detach().clone())
    ours, theirs = Muon([("bias", a)], adam_lr=1e-2, weight_decay=0.1), torch.optim.AdamW([b], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    for i in range(5):
        for p in (a, b):
            p.grad = torch.sin(torch.arange(5.0) + i)
        ours.step()
        theirs.step()
    torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_muon_state_round_trip_and_groups() -> None:
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.LazyLinear(3))
    net(torch.zeros(1, 2, 5, 5))
    optimizer = Muon(net.named_parameters(), lr=0.1)
    assert [len(g["params"]) for g in optimizer.param_groups] == [2, 2]
    before = [p.detach().clone() for p in net.parameters()]
    net(torch.randn(4, 2, 5, 5)).square().mean().backward()
    optimizer.step()
    assert all(not torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    again = Muon(net.named_parameters(), lr=0.1)
    again.load_state_dict(optimizer.state_dict())
    assert torch.equal(again.state[net[0].weight]["momentum"], optimizer.state[net[0].weight]["momentum"])
    assert again.param_groups[1]["steps"] == 1


@pytest.mark.parametrize("make", [warmup_linear, warmup_cosine])
def test_rates_rise_and_fall(make) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimizer, warmup=10, total=100, end=0.1)
    rates = []
    for _ in range(120):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] < 0.2 and max(rates) == pytest.approx(1.0) and rates[100:] == pytest.approx([0.1] * 20)
    assert rates[:11] == sorted(rates[:11]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_metrics_table_widens_and_resumes(tmp_path) -> None:
    table = MetricsTable(tmp_path / "m.csv", 0)
    table.add({"step": 1, "loss": "2"})
    table.add({"step": 2, "loss": "1", "psnr": "20"})
    table.add({"step": 3, "loss": "0.5"})
    again = MetricsTable(tmp_path / "m.csv", 2)  # resumed from step 2: what came after is computed again
    again.add({"step": 3, "loss": "0.4"})
    assert (tmp_path / "m.csv").read_text().splitlines() == ["step,loss,psnr", "1,2,", "2,1,20", "3,0.4,"]


def test_a_table_that_was_cut_off_goes_on(tmp_path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("step,loss\n10,0.5\n12,0.2")  # 120,0.25 it would have been
    MetricsTable(path, 200).add({"step": 130, "loss": "0.1"})
    assert read_series(path) == {"loss": [(10, 0.5), (130, 0.1)]}


@pytest.mark.parametrize(
    ("text", "rows", "foreign"),
    [
        ("step,loss\n10,0.5\n11\n12,0.2\n", [(10, 0.5), (12, 0.2)], [3]),  # torn in the middle
        ("step,loss\n10,0.5\n110,0.4,7\n12,0.2\n", [(10, 0.5), (12, 0.2)], [3]),  # two that have run into one another
        ("step,loss\n10,0.5\n\0\0\0\nstep,loss\n12,x\n\n12,0.2\n", [(10, 0.5), (12, 0.2)], [3, 4, 5]),
        ("loss;step\n0.5;10\n", [], [1]),  # another program's
        ('step,loss\n10,0.5\n"11,0.4\n12,0.2\n', [(10, 0.5), (12, 0.2)], [3]),  # a quote that never ends
        ("step,loss\n10,0.5\n" + "\0" * 200_000 + "\n12,0.2\n", [(10, 0.5), (12, 0.2)], [3]),  # blocks that never reached the disk
        ("", [], []),
    ],
)
def test_a_table_with_foreign_lines_is_repaired(text: str, rows: list[tuple[int, float]], foreign: list[int], tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    table = MetricsTable(path, 100)
    assert table.damaged == foreign
    table.add({"step": 14, "loss": "0.1"})
    assert read_series(path) == {"loss": [*rows, (14, 0.1)]}
    assert (tmp_path / "metrics.csv.damaged").exists() == bool(foreign)
    if foreign:
        assert (tmp_path / "metrics.csv.damaged").read_text() == text


def test_incidents_of_a_run_that_was_cut_off_stay_apart(tmp_path) -> None:
    path = tmp_path / "incidents.jsonl"
    path.write_text('{"step": 7, "ki')
    Incidents(tmp_path).add(8, "resume", "continued")
    assert read_lines(path) == ([{"step": 8, "kind": "resume", "what": "continued"}], [1])


def reporting(folder: Path, first: bool = True, **scalars: float) -> MetricLogger:
    """Records that have just reported a step's scalars, on the first device or another."""
    records = MetricLogger(folder, 1, 0, 0.1)
    records.table = MetricsTable(folder / "metrics.csv", 0) if first else None
    records.sums, records.counts = {name: torch.tensor(value) for name, value in scalars.items()}, dict.fromkeys(scalars, 1)
    trainer = SimpleNamespace(world_size=1, loggers=[], is_global_zero=first)
    records.report(trainer, SimpleNamespace(step=3, seconds=1.0, rates=dict, device=torch.device("cpu")))  # type: ignore[arg-type]
    return records


def test_one_device_tells_of_numbers_that_are_not_finite(tmp_path) -> None:
    for first in (True, False, False):
        with pytest.raises(UserError, match="loss is not finite"):
            reporting(tmp_path, first, loss=math.nan, pixel=1.0)
    assert read_lines(tmp_path / "incidents.jsonl")[0] == [{"step": 3, "kind": "not finite", "what": "loss"}]


def test_training_scalars_stay_known_over_many_validations(tmp_path) -> None:
    """Whoever validates more often than he reports must not take the discriminator's victory for its end."""
    records = reporting(tmp_path, loss=1.0, discriminator_right=1.0)
    for step in range(4, 9):
        records.write(SimpleNamespace(loggers=[]), step, {"validation_psnr": 20.0})  # type: ignore[arg-type]
    assert balance_warnings(records.latest)


def test_no_images_since_a_pause_are_no_speed_of_zero(tmp_path) -> None:
    assert "images_per_second" not in reporting(tmp_path, loss=1.0).table.rows[-1]


def test_memory_that_does_not_suffice_is_told_in_words(tmp_path: Path) -> None:
    given: Any = (2, tmp_path, SimpleNamespace(step=7, accumulate=2), SimpleNamespace(batch_size=12))
    said = description(torch.OutOfMemoryError("CUDA out of memory"), *given)
    assert said.startswith("out of memory at step 7: set data.params.max_per_device below 3 (the global batch stays 12)")


@pytest.mark.parametrize(
    "batch,limit,world,expected", [(48, None, 1, 1), (48, 12, 1, 4), (48, 13, 1, 4), (48, 12, 4, 1), (680, 17, 8, 5), (7, 2, 1, 7)]
)
def test_accumulation_is_derived_from_the_global_batch(batch: int, limit: int | None, world: int, expected: int) -> None:
    assert DataModule(batch, [], max_per_device=limit).accumulate(world) == expected


def test_settings_count_devices() -> None:
    assert TrainerSettings(1, devices=[0, 1], num_nodes=2).world_size() == 4
    assert TrainerSettings(1, devices="0,1").device_count() == 2
    assert TrainerSettings(1, devices="auto", accelerator="cpu").device_count() == 1
    with pytest.raises(ValueError, match="steps"):
        TrainerSettings(0)
    for name in ("max_seconds", "checkpoint_seconds"):
        with pytest.raises(ValueError, match=f"{name} must be a number above 0"):
            TrainerSettings(1, **{name: 0})


def test_what_falls_due_by_the_clock(tmp_path: Path) -> None:
    metrics = MetricLogger(tmp_path, 1, 0, 1.0)
    checkpoints, module = Checkpoints(tmp_path, 1000, 2, {}, metrics, seconds=10.0), SimpleNamespace(seconds=0.0)

    def due(seconds: float) -> bool:
        module.seconds = seconds
        return checkpoints._due(module)

    assert not due(9.9) and due(10.0) and due(35.0)
    checkpoints.saved_at = 10.4
    assert not due(19.9) and due(20.0)
    module.seconds = 5.0
    assert TimeLimit(5.0).reached(module) and not TimeLimit(5.1).reached(module) and not TimeLimit(None).reached(module)
    assert not Checkpoints(tmp_path, 1000, 2, {}, metrics)._due(module)


def test_clock() -> None:
    assert clock(59.6) == "1:00" and clock(3723) == "1:02:03"
