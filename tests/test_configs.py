"""Every YAML that the project ships validates, builds at full size on the meta device, and has the published size."""

from pathlib import Path

import pytest

from ldm.check import Report, build_on_meta, count_parameters, without_checkpoints
from ldm.config import Trust, load, validate

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RUNNABLE = sorted(p for folder in ("first_stage", "ldm", "demo", "own") for p in (CONFIGS / folder).glob("*.yaml"))
PUBLISHED = {  # millions: printed or, where the print is wrong or missing, recounted
    "first_stage/vq-f4": {"autoencoder": 55.32},
    "first_stage/kl-f8": {"autoencoder": 83.65},
    "ldm/celebahq-ldm4": {"first_stage": 55.32, "network": 274.06},
    "ldm/imagenet-ldm4": {"network": 400.92, "conditioner": 0.5125},
    "ldm/text-ldm8-kl": {"first_stage": 83.65, "network": 872.30, "conditioner": 581.99},
}


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


@pytest.mark.parametrize("path", RUNNABLE, ids=name)
def test_config_builds_with_the_published_size(path: Path) -> None:
    config = load([path])
    assert [str(p) for p in validate(config, Trust())] == []
    report = Report()
    module = build_on_meta(without_checkpoints(config.data["model"], "model", report), config, Trust(), report)
    assert report.problems == []
    counts = count_parameters(module)
    assert all(p.device.type == "meta" for p in module.parameters())
    for part, millions in PUBLISHED.get(name(path), {}).items():
        assert counts[part] / 1e6 == pytest.approx(millions, rel=0.001), part


def test_every_published_size_has_its_config() -> None:
    assert PUBLISHED.keys() <= {name(path) for path in RUNNABLE}


@pytest.mark.parametrize("path", RUNNABLE, ids=name)
def test_the_header_says_how_to_run_it(path: Path) -> None:
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"python main.py --base configs/{name(path)}.yaml --train" in line for line in head)


def test_the_vocabulary_of_the_text_demo_is_that_of_the_scenes() -> None:
    from ldm.data.scenes import WORDS

    params = load([CONFIGS / "demo/text.yaml"]).data["model"]["params"]["model"]["params"]["conditioner"]["params"]
    assert sorted(params["tokenizer"]["params"]["words"]) == sorted(WORDS)
