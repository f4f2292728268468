"""Scripts with models of other processes than the discrete one: label maps in tiles, a classifier that guides, classes of --trust."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_task_scripts import config_of, made, pixels

from ldm.system.weights import save_weights

PROCESSES = {
    "RectifiedFlow": "velocity",
    "Trigonometric": "velocity",
    "EDM": "edm",
    "VariancePreserving": "eps",
    "VarianceExploding": "eps",
}
SHAPE = {"in_channels": 2, "classes": 5, "size": 8, "width": 32, "width_mult": [1, 2], "blocks_per_level": 1, "heads": 1}


def saved(path: Path, config: dict[str, Any], node: dict[str, Any]) -> Path:
    save_weights(path, made(node).state_dict(), {"config": config, "step": 1})
    return path


def model_of(folder: Path, name: str, process: str) -> Path:
    config = config_of(name)
    params = config["model"]["params"]["model"]["params"]
    params |= {"process": {"target": f"ldm.diffusion.process.{process}"}, "parameterization": PROCESSES[process]}
    return saved(folder / f"{name}.safetensors", config, config["model"]["params"]["model"])


def classifier_of(folder: Path, node: dict[str, Any], process: str) -> Path:
    params = {"classifier": node, "scale": 1.0, "process": {"target": f"ldm.diffusion.process.{process}"}}
    config = {"model": {"target": "ldm.training.ClassifierTraining", "params": params}}
    return saved(folder / "classifier.safetensors", config, {**copy.deepcopy(node), "target": "ldm.networks.NoisyClassifier"})


@pytest.mark.parametrize("process", PROCESSES)
def test_label_maps_in_tiles_and_guidance_by_a_classifier(process: str, script: Any, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (16, 32)).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "map.png")
    fast = ["--n", 1, "--steps", 3, "--device", "cpu", "--window", 8, "--outdir"]
    done = script("scripts/semantic.py", model_of(tmp_path, "semantic", process), tmp_path / "map.png", *fast, tmp_path / "maps")
    assert done.returncode == 0 and pixels(tmp_path / "maps" / "00000.png").shape == (16, 32, 3), done.stderr
    classifier = classifier_of(tmp_path, {"target": "ldm.networks.NoisyClassifier", "params": SHAPE}, process)
    words = ["scripts/sample.py", model_of(tmp_path, "label", process), *fast[:-1], "--classes", 3, "--outdir"]
    assert script(*words, tmp_path / "plain").returncode == 0
    done = script(*words, tmp_path / "guided", "--classifier", classifier, "--classifier-scale", 5)
    assert done.returncode == 0, done.stderr
    assert np.any(pixels(tmp_path / "guided" / "00000.png") != pixels(tmp_path / "plain" / "00000.png"))


def test_a_classifiers_config_names_classes_of_trusted_packages(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_classifier.py").write_text(
        "from ldm.networks import NoisyClassifier\n\n\nclass Theirs(NoisyClassifier):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    classifier = classifier_of(tmp_path, {"target": "their_classifier.Theirs", "params": SHAPE}, "RectifiedFlow")
    fast = ["--n", 1, "--steps", 2, "--device", "cpu", "--outdir", tmp_path / "out", "--classes", 3, "--classifier", classifier]
    words = ["scripts/sample.py", model_of(tmp_path, "label", "RectifiedFlow"), *fast]
    done = script(*words)
    assert done.returncode == 2 and "--trust their_classifier allows it" in done.stderr, done.stderr
    done = script(*words, "--trust", "their_classifier")
    assert done.returncode == 0, done.stderr
