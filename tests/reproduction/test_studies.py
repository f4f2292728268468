"""The compression study and figure 2, in as small as the real command can be asked for."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from PIL import Image

from ldm.check import Report, build_on_meta, without_checkpoints
from ldm.config import AllowedTargets, load
from ldm.errors import UserError
from ldm.evaluation.extractors import Demo
from ldm.evaluation.small_extractor import SmallExtractor
from paper.chart import Axis, draw_chart
from paper.studies import compression
from paper.studies.distortion import shares
from paper.studies.settings import FACTORS, Study, claim, estimates
from paper.studies.stages import changes, record_file, stage_names, train_stage

TINY = [
    "trainer.params.accelerator=cpu",
    "trainer.params.precision=32-true",
    "trainer.params.validate_every=0",
    "data.params.batch_size=2",
    "data.params.train.params.length=8",
]
SMALL_UNET = "model.params.model.params.network.params={in_channels: 3, out_channels: 3, width: 32, width_mult: [1], blocks_per_level: 1, "
SMALL_UNET += "head_channels: 32, context_channels: 64}"


def built(root: Path, name: str):
    config = load([root / "configs" / "demo" / "compression" / f"{name}.yaml"])
    report = Report()
    node = without_checkpoints(config.data["model"], "model", report)
    return config.data, build_on_meta(node, config, AllowedTargets(), report)


def test_the_networks_are_of_equal_size_and_their_trainings_alike(root: Path) -> None:
    sizes, rest = {}, []
    for factor in FACTORS:
        config, module = built(root, f"ldm-{factor}")
        sizes[factor] = sum(p.numel() for p in module.model.network.parameters())
        assert module.model.first_stage.factor == factor
        model = {key: value for key, value in config["model"]["params"]["model"]["params"].items() if key not in ("network", "first_stage")}
        training = {key: value for key, value in config["model"]["params"].items() if key != "model"}
        rest.append((config["data"], config["trainer"], config["sampling"], model, training))
    assert max(sizes.values()) < 1.05 * min(sizes.values()), sizes
    assert all(one == rest[0] for one in rest)
    assert rest[0][4]["scheduler"]["params"]["total"] is None  # time ends it, so the rate must not fall with the steps
    trainers = [built(root, f"first-stage-{factor}")[0]["trainer"] for factor in FACTORS[1:]]
    assert all(trainer == trainers[0] for trainer in trainers)


def study(script, outdir: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return script("scripts/reproduce.py", "--study", "compression", "--scale", "demo", "--outdir", outdir, *words)


@pytest.mark.slow
def test_the_study_end_to_end_in_small_goes_on_after_a_kill(script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LDM-1 alone: one training, the first attempt of which is cut off before anything was saved."""
    import paper.studies.quality as quality

    torch.manual_seed(0)
    extractor = Demo(SmallExtractor(4, width=8))
    monkeypatch.setattr(quality, "load_demo", lambda file: extractor)
    monkeypatch.setattr(quality, "REFERENCE", 40)
    monkeypatch.setattr(quality, "STEPS", 1)
    monkeypatch.setattr(quality, "SPEEDS", (1, 2))
    monkeypatch.setattr(compression, "STEPS", 1)
    monkeypatch.setattr(compression, "CODED", 2)
    monkeypatch.setattr(compression, "CODE_STEPS", 3)
    words = ["--factors", "1", "--seconds", "0.5", "--samples", "24", *TINY, SMALL_UNET]
    (tmp_path / "logs" / "2026-01-01T00-00-00_ldm-1").mkdir(parents=True)  # stopped before its first checkpoint
    done = study(script, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    model = summary["models"]["1"]
    measured = model["measured"]
    assert {m["steps"] for m in measured} == {1, 2} and measured[-1]["training_seconds"] >= 0.5
    assert all(m["fd"] > summary["floor"]["fd"] >= 0 and m["images_per_second"] > 0 and m["scale"] == 1.0 for m in map(flat, measured))
    assert model["first_stage"]["r_fd"] == pytest.approx(summary["floor"]["fd"], rel=1e-4)  # pixels: nothing is lost
    assert "FID" in summary["protocol"]["metric"] and "not FID" in summary["protocol"]["metric"]
    points = summary["rate_distortion"]["points"]
    assert [p["t"] for p in points] == [999, 500, 0] and points[0]["bits_per_dim"] < points[-1]["bits_per_dim"]
    for name in ("figure-2", "figure-6", "figure-7"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
    assert (tmp_path / "index.html").read_text().count("data:image/png") == 4

    last = tmp_path / "measured" / f"ldm-1-step-{measured[-1]['step']}-ddim-2.json"
    last.unlink()  # killed between two measurements: nothing is trained again, and the others are read
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = study(script, tmp_path, *words)
    assert again.returncode == 0 and last.is_file() and "ldm-1: done before" in again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    other = study(script, tmp_path, *words[:2], "--seconds", "9", *words[4:])
    assert other.returncode == 2 and "seconds 0.5, not 9.0" in other.stderr

    found = script("scripts/reproduce.py", "--study", "rate-distortion", "--model", tmp_path / summary_run(model),
                   "--code-images", 2, "--code-steps", 3, "--outdir", tmp_path / "two", "--device", "cpu")  # fmt: skip
    assert found.returncode == 0, found.stderr
    alone = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert [p["bits_per_dim"] for p in alone["points"]] == pytest.approx([p["bits_per_dim"] for p in points], rel=1e-3)
    assert (tmp_path / "two" / "figure-2.png").is_file()


def flat(record: dict) -> dict:
    return {**record, **record["sampling"]}


def summary_run(model: dict) -> str:
    return model["run"]


def test_a_stage_that_was_cut_off_is_resumed_and_a_finished_one_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr("demos.run.run_main", lambda words, what: started.append(words) or 1.0)
    run = tmp_path / "logs" / "2026-01-01T00-00-00_first-stage-2" / "checkpoints"
    run.mkdir(parents=True)
    (run / "step-3.ckpt").write_bytes(b"")
    small = Study(factors=(1, 2), seconds=60)
    train_stage(tmp_path, "first-stage-2", small)
    assert started == [["--resume", str(run.parent.resolve())]]
    train_stage(tmp_path, "first-stage-2", small)
    assert len(started) == 1 and json.loads(record_file(tmp_path, "first-stage-2").read_text())["run"].startswith("logs/")
    said = changes(tmp_path, "ldm-2", small)
    assert f"paths.first_stage={run.parent.resolve()}" in said and "trainer.params.max_seconds=60" in said
    assert "trainer.params.checkpoint_seconds=10.0" in said and not any("steps" in word for word in said)
    with pytest.raises(UserError, match=r"first-stage-4.json"):
        changes(tmp_path, "ldm-4", small)


def test_the_plan_does_nothing_and_fits_into_its_time(script, tmp_path: Path) -> None:
    done = study(script, tmp_path / "new", "--plan")
    assert done.returncode == 0 and not (tmp_path / "new").exists()
    for name in ("f=8", "LDM-1, time limit", "in all"):
        assert name in done.stdout
    assert sum(seconds for _, seconds in estimates(Study())) < 45 * 60
    assert stage_names(Study()) == ["first-stage-2", "first-stage-4", "first-stage-8", "ldm-1", "ldm-2", "ldm-4", "ldm-8"]


def test_wrong_input_is_one_line(script, tmp_path: Path) -> None:
    for words, text in (
        (["--study", "compression", "--factors", "3"], "there are configs for 1, 2, 4, 8"),
        (["--study", "compression", "--factors", "x"], "expected numbers"),
        (["--study", "compression", "--seconds", "0"], "more than 0"),
        (["--study", "compression", "--samples", "1"], "at least 2"),
        (["--study", "compression", "--table", "1"], "--study cannot be combined"),
        (["--study", "rate-distortion"], "needs --model"),
        (["--study", "rate-distortion", "--model", "nowhere"], "nowhere"),
    ):
        done = script("scripts/reproduce.py", *words, "--outdir", tmp_path / "wrong")
        assert done.returncode in (2, 3) and text in done.stderr and done.stderr.count("\n") == 1, done.stderr
    claim(tmp_path, Study(samples=96))
    claim(tmp_path, Study(samples=96))
    with pytest.raises(UserError, match="samples 96, not 192"):
        claim(tmp_path, Study(samples=192))


def test_bits_until_an_error_is_reached() -> None:
    points = [{"bits_per_dim": bits, "rmse": rmse} for bits, rmse in ((0.0, 60.0), (0.2, 15.0), (1.0, 7.0))]
    assert shares(points) == {"rmse_20": 0.2, "rmse_10": 1.0, "rmse_5": None, "all": 1.0}


def test_a_chart_shows_its_lines_and_refuses_what_cannot_be_drawn(tmp_path: Path) -> None:
    line = {"a": [(1.0, 2.0), (10.0, 20.0)]}
    draw_chart(tmp_path / "a.png", line, Axis("x", log=True), Axis("y", log=True), "t", {"level": 1.0})
    draw_chart(tmp_path / "b.png", {"a": [(1.0, 20.0), (10.0, 2.0)]}, Axis("x", log=True), Axis("y", log=True), "t", {"level": 1.0})
    with Image.open(tmp_path / "a.png") as a, Image.open(tmp_path / "b.png") as b:
        assert a.tobytes() != b.tobytes()
    with pytest.raises(ValueError, match="must be above 0"):
        draw_chart(tmp_path / "c.png", {"a": [(0.0, 1.0)]}, Axis("x", log=True), Axis("y"), "t")
    with pytest.raises(ValueError, match="no finite"):
        draw_chart(tmp_path / "c.png", {"a": [(float("nan"), 1.0)]}, Axis("x"), Axis("y"), "t")
    assert not (tmp_path / "c.png").exists()
