"""The measures of the demos, on pictures that answer what was asked and on pictures that do not; no model is trained."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from demos import conditions, restoration, run, text
from demos.caption_checker import share_right
from demos.measured import of_another, rounded, standard_error
from demos.restoration import enlarge, fill_mean
from demos.tasks import LONGER, TASKS
from ldm.config.load import load
from ldm.data.sources.scenes import PLACED, Scenes
from ldm.evaluation.scenes import find_all
from ldm.evaluation.small_extractor import SmallExtractor, Trained, train_extractor

N = 48
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "demo"


def model_of(task: str) -> Any:
    """Stands in for a loaded model: the measures read its config only, where sampling is replaced."""
    return SimpleNamespace(config=load([CONFIGS / f"{task}.yaml"]).data)


def answers(task: str, right: bool):
    """Replaces sampling: the scene of each condition itself, or of the next one."""

    def sample(loaded: Any, condition: dict[str, Any], count: int, size: int, seed: int) -> torch.Tensor:
        if task == "class":  # a scene of each asked class
            pool = Scenes(4000, split="train", seed=9, two_objects=0.0, give=["label"], label_classes="shape_colour_place")
            place = {pool[i]["label"]: i for i in range(1500)}
            images = torch.stack([pool[place[label]]["image"] for label in condition["label"].tolist()])
        elif task == "text":
            fresh = Scenes(6 * (N // 3) + 100, split="validation", seed=1)
            place = {fresh.caption(i): i for i in range(len(fresh))}
            images = torch.stack([fresh[place[words]]["image"] for words in condition["caption"]])
        else:
            images = condition["image"]
        return images if right else images.roll(1, 0)

    return sample


@pytest.mark.parametrize("task", ["class", "text", "layout", "semantic"])
def test_the_right_pictures_score_high_and_those_of_another_condition_score_as_the_baseline(task: str, tmp_path: Path, monkeypatch) -> None:
    for module in (conditions, text):
        monkeypatch.setattr(module, "reconstructed", lambda loaded, images: images)
    found = {}
    for right in (True, False):
        for module in (conditions, text):
            monkeypatch.setattr(module, "sample", answers(task, right))
        found[right] = TASKS[task].measure(model_of(task), tmp_path, N).record()
    good, bad = found[True], found[False]
    assert good["higher_is_better"] and good["value"] > 0.95 > 0.88 > good["baseline"] > bad["baseline"] - 0.2
    assert bad["value"] < good["value"] - 0.1 and bad["value"] <= good["baseline"] + 0.1
    assert good["others"]["checker_real"] > 0.95 and good["others"]["samples"] >= N and 0 <= good["others"]["standard_error"] < 0.1
    for name in good["pictures"].values():
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("task", ["superres", pytest.param("inpaint", marks=pytest.mark.slow)])
def test_restorations_are_ranked_by_how_near_they_are(task: str, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("skimage")
    torch.manual_seed(0)
    trained = Trained(SmallExtractor(7), 0.5, 1 / 7)
    monkeypatch.setattr(restoration, "extractor", lambda: trained)
    monkeypatch.setattr(restoration, "reconstructed", lambda loaded, images: images)
    g = torch.Generator().manual_seed(0)

    def noisy(loaded: Any, batch: dict[str, Any], count: int, size: int, seed: int) -> torch.Tensor:
        return (batch["image"] + 0.02 * torch.randn(batch["image"].shape, generator=g)).clamp(-1, 1)

    def simple(loaded: Any, batch: dict[str, Any], count: int, size: int, seed: int) -> torch.Tensor:
        return enlarge(batch["low_res"], 4) if "low_res" in batch else fill_mean(batch["image"], batch["mask"])

    monkeypatch.setattr(restoration, "sample", noisy)
    good = TASKS[task].measure(model_of(task), tmp_path, N).record()
    monkeypatch.setattr(restoration, "sample", simple)
    same = TASKS[task].measure(model_of(task), tmp_path, N).record()
    assert not good["higher_is_better"] and good["value"] < 0.5 * good["baseline"], task
    assert same["value"] >= same["baseline"] * 0.999, task
    for name in ("photographs", "scenes"):
        own = good["others"][name]
        if task == "superres":
            assert own["mean_of_samples"]["psnr_db"] > own["sample"]["psnr_db"] > own["bicubic"]["psnr_db"]
            assert own["first_stage"]["perceptual"] == 0.0 and own["mean_of_samples"]["ssim"] > own["bicubic"]["ssim"]
            assert same["others"][name]["sample"] == pytest.approx(same["others"][name]["bicubic"], abs=1e-4)
        else:
            assert own["sample"]["frechet"] < own["blur"]["frechet"] and own["sample"]["l1_error"] < own["blur"]["l1_error"]
            assert same["others"][name]["sample"] == pytest.approx(same["others"][name]["mean_fill"], abs=1e-4)
    if task == "inpaint":
        longer = LONGER["inpaint-long"].measure(model_of("inpaint"), tmp_path, N).record()
        assert not set(longer["pictures"].items()) & set(good["pictures"].items()), "one page holds both"


def test_sampling_and_measuring_show_how_far_they_are(monkeypatch) -> None:
    images, device = torch.zeros(2, 3, 32, 32), torch.device("cpu")
    model = SimpleNamespace(conditioner=None, device=device)
    monkeypatch.setattr(run, "generate", lambda model, batch, numbers, *settings: images[: len(numbers)])
    for name, long in {
        "sampling": lambda: run.sample(SimpleNamespace(model=model, config={"sampling": {}}), {}, 2, 32, 0),  # type: ignore[arg-type]
        "checking": lambda: share_right(images, ["a red cross at top"] * 2),
        "checking ": lambda: find_all(images),
        "extractor": lambda: train_extractor(images, torch.tensor([0, 1]), images, torch.tensor([0, 1]), steps=1),
    }.items():
        terminal = io.StringIO()
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", terminal)
            long()
        assert f"{name.strip()}:   0%" in terminal.getvalue(), name


def test_small_helpers() -> None:
    assert of_another(3).tolist() == [1, 2, 0]
    assert standard_error(torch.tensor([0.0, 1.0, 0.0, 1.0])) == pytest.approx(0.5774 / 2, abs=1e-4)
    assert rounded({"a": [0.123456789], "b": "x", "c": 3}) == {"a": [0.12346], "b": "x", "c": 3}
    assert conditions.caption_of(PLACED.index("red cross, top")) == "a red cross at top"
