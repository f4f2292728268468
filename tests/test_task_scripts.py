"""The scripts of the tasks, right and wrong, on tiny models with random weights: one per conditioning."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from recorded import read_case

from ldm.cli.condition_flags import refuse_others
from ldm.cli.options import in_proportion
from ldm.config import AllowedTargets, build
from ldm.errors import UserError
from ldm.evaluation.provenance import provenance_of
from ldm.system.weights import read_weights, save_weights

ROOT = Path(__file__).resolve().parent.parent
STAGE = {"target": "ldm.first_stage.KLAutoencoder", "params": {"channels": 2, "width": 32, "width_mult": [1, 1], "blocks_per_level": 1}}
WORDS = {"target": "ldm.conditioning.WordTokenizer", "params": {"words": ["a", "red", "blue", "circle"]}}


def concat(key: str, channels: int, **params: Any) -> dict[str, Any]:
    return {"target": "ldm.conditioning.ConcatImage", "params": {"key": key, "channels": channels, **params}}


CONDITIONERS: dict[str, tuple[dict[str, Any] | None, int, int | None]] = {  # node, channels, width of tokens
    "unconditional": (None, 0, None),
    "label": ({"target": "ldm.conditioning.ClassEmbedding", "params": {"num_classes": 5, "width": 8, "uncond_prob": 0.1}}, 0, 8),
    "caption": (
        {
            "target": "ldm.conditioning.TextTransformer",
            "params": {"tokenizer": WORDS, "length": 6, "width": 16, "depth": 1, "heads": 2, "head_channels": 8, "uncond_prob": 0.1},
        },
        0,
        16,
    ),
    "layout": (
        {
            "target": "ldm.conditioning.LayoutTransformer",
            "params": {
                "tokenizer": {"target": "ldm.conditioning.BoxTokenizer", "params": {"max_objects": 3, "vocabulary": 65}},
                **{"width": 16, "depth": 1, "heads": 2, "head_channels": 8},
            },
        },
        0,
        16,
    ),
    "semantic": (
        {
            "target": "ldm.conditioning.LabelMap",
            "params": {
                "num_classes": 4,
                "rescaler": {"target": "ldm.conditioning.Rescaler", "params": {"in_channels": 4, "out_channels": 2}},
            },
        },
        2,
        None,
    ),
    "superres": (concat("low_res", 3), 3, None),  # beside latents of f=2: images twice as large
    "superres4": (concat("low_res", 3, enlarge=2), 3, None),
    "inpaint": (
        {
            "target": "ldm.conditioning.Joint",
            "params": {"parts": [concat("masked_image", 2, encode=True), concat("mask", 1, factor=2, signed=True)]},
        },
        3,
        None,
    ),
}


def joint(name: str, *others: str) -> tuple[dict[str, Any], int, int | None]:
    """Several of the conditioners at once, with one drop rate."""
    parts = copy.deepcopy([CONDITIONERS[key][0] for key in (name, *others)])
    for part in parts:
        part["params"]["uncond_prob"] = 0.1
    node = {"target": "ldm.conditioning.Joint", "params": {"parts": parts}}
    return node, CONDITIONERS[name][1], CONDITIONERS[others[0]][2]


CONDITIONERS["layout_text"] = joint("layout", "caption")
CONDITIONERS["semantic_text"] = joint("semantic", "caption")


def released(folder: Path, name: str) -> Path:
    """A recorded model as its authors would have released it."""
    case = read_case(ROOT / "tests" / "fixtures" / "compvis", name)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": case.params["model"]}))
    torch.save({"state_dict": case.weights}, folder / "model.ckpt")
    return folder / "model.ckpt"


def made(node: dict[str, Any]) -> torch.nn.Module:
    """Random weights, also where training would begin with zeros."""
    torch.manual_seed(0)
    module = build(node, AllowedTargets(), "model")
    for p in module.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.2)
    return module


def config_of(name: str) -> dict[str, Any]:
    conditioner, channels, width = CONDITIONERS[name]
    net = {"in_channels": 2 + channels, "out_channels": 2, "width": 32, "width_mult": [1, 2], "blocks_per_level": 1, "heads": 1}
    parts = {
        "first_stage": STAGE,
        "network": {"target": "ldm.networks.UNet", "params": {**net, "context_channels": width}},
        "process": {"target": "ldm.diffusion.cosine", "params": {}},
        "conditioner": conditioner,
        "parameterization": "v",
    }
    model = {"target": "ldm.model.LatentDiffusion", "params": {k: v for k, v in parts.items() if v is not None}}
    data = {"params": {"train": {"params": {"size": 16}}}}
    return {"model": {"target": "ldm.training.DiffusionTraining", "params": {"model": model}}, "data": data}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of ours per conditioning, and of a classifier on noisy latents."""
    folder, found = tmp_path_factory.mktemp("models"), {}
    for name in CONDITIONERS:
        config = config_of(name)
        model = made(config["model"]["params"]["model"])
        found[name] = folder / f"{name}.safetensors"
        save_weights(found[name], model.state_dict(), {"config": config, "step": 1})
    stage = {k: v for k, v in read_weights(found["label"])[0].items() if k.startswith("first_stage.")}
    others: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # on the latents of "label": what is changed of which model
        "worse": ("label", {}, {"width_mult": [1]}),
        "other_process": ("label", {"process": {"target": "ldm.diffusion.linear", "params": {}}}, {}),
        "scaled": ("label", {"scale": [0.5, 1.0]}, {}),
        "nearly_scaled": ("label", {"scale": 1.005}, {}),
        "slightly_scaled": ("label", {"scale": 1.02}, {}),
        "reads_nothing": ("unconditional", {}, {}),
    }
    for name, (base, changes, network) in others.items():
        config = config_of(base)
        params = config["model"]["params"]["model"]["params"]
        params |= changes
        params["network"]["params"] |= network
        found[name] = folder / f"{name}.safetensors"
        save_weights(found[name], made(config["model"]["params"]["model"]).state_dict() | stage, {"config": config, "step": 1})
    config = config_of("unconditional")
    config["model"]["params"]["model"]["params"]["first_stage"] = {**STAGE, "params": {**STAGE["params"], "image_channels": 5}}
    found["five"] = folder / "five.safetensors"
    save_weights(found["five"], made(config["model"]["params"]["model"]).state_dict(), {"config": config, "step": 1})
    shape = {"in_channels": 2, "classes": 5, "size": 8, "width": 32, "width_mult": [1, 2], "blocks_per_level": 1, "heads": 1}
    node = {"target": "ldm.networks.NoisyClassifier", "params": shape}
    for name, start, scale in (("classifier", "cosine", 1.0), ("other_classifier", "linear", 1.0), ("nearly_classifier", "cosine", 1.005)):
        process = {"target": f"ldm.diffusion.{start}", "params": {}}
        params = {"classifier": node, "scale": scale, "process": process}
        config = {"model": {"target": "ldm.training.ClassifierTraining", "params": params}}
        found[name] = folder / f"{name}.safetensors"
        save_weights(found[name], made(node).state_dict(), {"config": config, "step": 1})
    few = {**node, "params": {**shape, "classes": 3}}
    config = {"model": {"target": "ldm.training.ClassifierTraining", "params": {"classifier": few, "scale": 1.0}}}
    found["few_classes"] = folder / "few_classes.safetensors"
    save_weights(found["few_classes"], made(few).state_dict(), {"config": config, "step": 1})
    return found


FAST = ["--steps", 2, "--device", "cpu"]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=np.int16)


def photo(path: Path, width: int, height: int, mode: str = "RGB") -> Path:
    array = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).convert(mode).save(path)
    return path


def text_of(path: Path) -> dict[str, Any]:
    return json.loads(Image.open(path).text["ldm"])


# txt2img


def test_prompts_from_the_line_and_a_file_with_a_negative(models: dict[str, Path], script, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a blue circle\n\na circle\n")
    words = ["--prompt", "a red circle", "--prompt", "", "--from-file", tmp_path / "prompts.txt", "--negative", "blue", "--n", 2]
    done = script("scripts/txt2img.py", models["caption"], *words, *FAST, "--H", 16, "--W", 24, "--outdir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = [text_of(tmp_path / "out" / f"{i:05d}.png") for i in range(8)]
    assert [f["caption"] for f in found] == ["a red circle"] * 2 + [""] * 2 + ["a blue circle"] * 2 + ["a circle"] * 2
    assert found[0]["negative"] == "blue" and found[0]["scale"] == 5.0 and found[0]["seed"] == 0
    assert Image.open(tmp_path / "out" / "00007.png").size == (24, 16) and (tmp_path / "out" / "grid.png").is_file()
    done = script("scripts/txt2img.py", models["caption"], *words[:-4], "--n", 2, *FAST, "--H", 16, "--W", 24, "--outdir", tmp_path / "no")
    assert done.returncode == 0 and np.any(pixels(tmp_path / "no" / "00000.png") != pixels(tmp_path / "out" / "00000.png"))


@pytest.mark.parametrize("more", [["--precision", "bf16"], ["--plms", "--scale", "1"], ["--ddim_eta", "1", "--n_samples", "1"], ["--raw"]])
def test_other_right_flags(models: dict[str, Path], script, tmp_path: Path, more: list[str]) -> None:
    done = script("scripts/txt2img.py", models["caption"], "--prompt", "a circle", *FAST, *more, "--outdir", tmp_path)
    assert done.returncode == 0, done.stderr


def test_rounds_are_counted_as_in_the_original_script(models: dict[str, Path], script, tmp_path: Path) -> None:
    words = ["--prompt", "a red circle", "--prompt", "a circle", "--ddim_eta", "0.0", "--n_samples", 1, "--n_iter", 2, "--scale", "5.0"]
    done = script("scripts/txt2img.py", models["caption"], *words, "--ddim_steps", 2, "--device", "cpu", "--outdir", tmp_path)
    assert done.returncode == 0, done.stderr
    found = [text_of(tmp_path / f"{i:05d}.png")["caption"] for i in range(4)]
    assert found == ["a red circle"] * 2 + ["a circle"] * 2 and not (tmp_path / "00004.png").exists()


def test_a_folder_keeps_its_pictures_unless_told_otherwise(models: dict[str, Path], script, tmp_path: Path) -> None:
    def again(prompt: str, *more: str) -> tuple[int, str]:
        done = script("scripts/txt2img.py", models["caption"], "--prompt", prompt, "--n", 1, *FAST, *more, "--outdir", tmp_path)
        return done.returncode, done.stderr

    assert again("a red circle")[0] == 0
    before = (tmp_path / "00000.png").read_bytes()
    assert again("a red circle")[0] == 0 and (tmp_path / "00000.png").read_bytes() == before  # its settings make the same again
    for words in (("a blue circle",), ("a red circle", "--seed", "1"), ("a red circle", "--precision", "bf16")):
        code, message = again(*words)
        assert code == 2 and "holds images made with other settings (" in message and "name another folder, or add --overwrite" in message
    assert (tmp_path / "00000.png").read_bytes() == before
    assert again("a blue circle", "--overwrite")[0] == 0 and (tmp_path / "00000.png").read_bytes() != before


def test_the_settings_in_a_picture_name_all_that_made_it(models: dict[str, Path], script, tmp_path: Path) -> None:
    image = photo(tmp_path / "photo.png", 16, 16)
    more = ["--init", image, "--strength", 0.5, "--guide", image, "--guide-scale", 0.1, "--classes", 1, "--batch", 3]
    done = script("scripts/sample.py", models["label"], "--n", 1, *FAST, *more, "--outdir", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    found = text_of(tmp_path / "a" / "00000.png")
    assert {key: found[key] for key in ("strength", "guider", "guide_scale", "label", "batch", "precision", "raw", "device")} == {
        **{"strength": 0.5, "guider": "l2", "guide_scale": 0.1, "label": 1, "batch": 3, "precision": "fp32", "raw": False},
        "device": "cpu",
    }
    assert "classifier_scale" not in found and found["version"]


def test_autoguidance_leads_away_from_another_model_and_says_so(models: dict[str, Path], script, tmp_path: Path) -> None:
    def sample(name: str, *more: Any) -> np.ndarray:
        done = script("scripts/sample.py", models["label"], "--n", 1, "--classes", 1, *FAST, *more, "--outdir", tmp_path / name)
        assert done.returncode == 0, done.stderr
        return pixels(tmp_path / name / "00000.png")

    plain, away = sample("plain"), sample("away", "--autoguide", models["worse"], "--scale", 2)
    itself = sample("itself", "--autoguide", models["label"], "--scale", 2)
    assert np.abs(itself - plain).max() <= 1 and np.abs(away - plain).max() > 1  # nothing lies between a model and itself
    found, whole = text_of(tmp_path / "away" / "00000.png"), json.loads((tmp_path / "away" / "set.json").read_text())
    assert found["autoguide"] == str(models["worse"]) and len(found["autoguide_sha256"]) == 64
    assert whole["settings"]["autoguide_sha256"] == found["autoguide_sha256"]
    sample("near", "--autoguide", models["nearly_scaled"], "--scale", 2)  # scale: std measures another one for each run
    unguided = sample("unguided", "--autoguide", models["worse"], "--scale", 2, "--guidance-interval", 0.9995, 1)
    assert np.array_equal(unguided, plain)


def test_a_sampler_of_ones_own(models: dict[str, Path], script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function with the samplers' signature, out of a package that the command trusts; it has no eta, and is given none."""
    (tmp_path / "mine.py").write_text(
        "from ldm.diffusion.sampling import euler\n"
        "def backwards(denoise, z_T, process, times, *, noise, hooks):\n"
        "    return -euler(denoise, z_T, process, times, noise=noise, hooks=hooks)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--n", 1, "--classes", 1, *FAST, "--sampler", "mine.backwards"]
    done = script("scripts/sample.py", models["label"], *words, "--trust", "mine", "--outdir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert text_of(tmp_path / "out" / "00000.png")["sampler"] == "mine.backwards"
    for more, message in (
        ([], "sampler 'mine.backwards' is not in a trusted package; --trust mine allows it"),
        (["--trust", "mine", "--eta", 1], "eta belongs to ddim; sampler 'mine.backwards' has none"),
        (["--trust", "mine", "--sampler", "mine.forwards"], "sampler mine has no 'forwards'"),
    ):
        done = script("scripts/sample.py", models["label"], *words, *more, "--outdir", tmp_path / "no")
        assert done.returncode == 2 and message in done.stderr, done.stderr


def test_a_stop_leaves_whole_pictures_only(models: dict[str, Path], script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, saved = Image.Image.save, []

    def stopped(self: Image.Image, file: Any, *args: Any, **options: Any) -> None:
        saved.append(file)
        if len(saved) == 3:
            Path(file).write_bytes(b"half")
            raise KeyboardInterrupt
        save(self, file, *args, **options)

    monkeypatch.setattr(Image.Image, "save", stopped)
    words = ["--n", 4, "--batch", 2, *FAST, "--outdir", tmp_path / "out"]
    done = script("scripts/sample.py", models["unconditional"], *words)
    assert done.returncode == 130 and "all written files are complete" in done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lock", "00000.png", "00001.png", "set.json"]


def test_images_of_five_channels_are_kept_whole(models: dict[str, Path], script, tmp_path: Path) -> None:
    done = script("scripts/sample.py", models["five"], "--n", 1, *FAST, "--outdir", tmp_path)
    assert done.returncode == 0, done.stderr
    whole = np.load(tmp_path / "00000.npy")
    assert whole.shape == (5, 16, 16) and whole.dtype == np.float32 and abs(whole).max() <= 1
    shown = np.moveaxis(pixels(tmp_path / "00000.png"), 2, 0)
    assert abs(shown - (whole[:3] + 1) * 127.5).max() <= 0.51 and (tmp_path / "grid.png").is_file()


def test_a_long_prompt_is_cut_and_said_so(models: dict[str, Path], script, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ["--prompt", "a red circle a blue circle a circle", "--n", 1, *FAST, "--outdir", tmp_path]
    assert script("scripts/txt2img.py", models["caption"], *words).returncode == 0
    assert "--prompt: 8 tokens, of which the model reads the first 6: a red circle" in caplog.text


# image to image, guides, classifiers, windows


def test_image_to_image_and_guides(models: dict[str, Path], script, tmp_path: Path) -> None:
    image, small = photo(tmp_path / "photo.png", 30, 20), photo(tmp_path / "small.png", 8, 8)
    for i, more in enumerate(
        (
            ["--init", image, "--strength", 0.5],
            ["--guide", small, "--guide-scale", 0.1],
            ["--guide", image],
            ["--H", 32, "--W", 48, "--window", 16, "--overlap", 8, "--batch", 3, "--guide", image],
            ["--guide", small, "--precision", "bf16"],
        )
    ):
        done = script("scripts/sample.py", models["unconditional"], "--n", 2, *FAST, *more, "--outdir", tmp_path / str(i))
        assert done.returncode == 0, done.stderr
    assert text_of(tmp_path / "0" / "00001.png")["init"] == str(image) and text_of(tmp_path / "0" / "00001.png")["strength"] == 0.5
    assert text_of(tmp_path / "1" / "00001.png")["guide_scale"] == 0.1 and "strength" not in text_of(tmp_path / "1" / "00001.png")
    assert Image.open(tmp_path / "3" / "00001.png").size == (48, 32)


@pytest.mark.parametrize(
    "given,expected", [((8, 8), (8, 8)), ((100, 8), (8, 8)), ((40, 20), (16, 16)), ((3, 90), (3, 3)), ((1, 1), (1, 1))]
)
def test_a_guide_gets_the_proportions_of_the_sample(given: tuple[int, int], expected: tuple[int, int]) -> None:
    assert in_proportion(Image.new("RGB", given), (16, 16)).size == expected
    assert in_proportion(Image.new("RGB", (30, 20)), (32, 48)).size == (30, 20)


def test_classifier_guidance_changes_what_it_should(models: dict[str, Path], script, tmp_path: Path) -> None:
    for name, words in (("label", ["--classes", "3"]), ("unconditional", ["--classes", "3", "--classifier-scale", 2])):
        guided, plain = tmp_path / f"{name}-guided", tmp_path / f"{name}-plain"
        done = script("scripts/sample.py", models[name], "--n", 1, *FAST, *words, "--classifier", models["classifier"], "--outdir", guided)
        assert done.returncode == 0, done.stderr
        done = script("scripts/sample.py", models[name], "--n", 1, *FAST, *(words[:2] if name == "label" else []), "--outdir", plain)
        assert done.returncode == 0, done.stderr
        assert text_of(guided / "00000.png")["label"] == 3
        assert np.any(pixels(guided / "00000.png") != pixels(plain / "00000.png"))


@pytest.mark.parametrize(
    "reads,known,message",
    [
        (
            ("label", "caption"),
            ("caption",),
            "reads label, which this script has no flag for: use scripts/sample.py with --classes and --prompt",
        ),
        (("low_res", "caption"), ("low_res",), "reads caption, which this script has no flag for"),
        (("low_res", "caption"), ("label", "caption"), "reads low_res, which this script has no flag for: use scripts/superres.py"),
        (("embedding",), ("label", "caption"), "reads embedding, which this script has no flag for"),
    ],
)
def test_no_script_sends_to_itself(reads: tuple[str, ...], known: tuple[str, ...], message: str) -> None:
    model: Any = SimpleNamespace(conditioner=SimpleNamespace(reads=reads))
    with pytest.raises(UserError) as caught:
        refuse_others(model, known)
    assert str(caught.value) == f"this model {message}"


# layouts and label maps


def test_layouts_are_read_and_drawn(models: dict[str, Path], script, tmp_path: Path) -> None:
    boxes = [{"label": "dog", "box": [0.1, 0.2, 0.5, 0.9]}, {"label": 7, "box": [0, 0, 1, 1]}]
    (tmp_path / "layout.json").write_text(json.dumps([{"boxes": boxes}, {"boxes": []}]))
    (tmp_path / "names.json").write_text('["cat", "dog"]')
    words = [tmp_path / "layout.json", "--names", tmp_path / "names.json", "--n", 2, *FAST, "--outdir", tmp_path / "out"]
    done = script("scripts/layout2img.py", models["layout"], *words)
    assert done.returncode == 0, done.stderr
    assert text_of(tmp_path / "out" / "00001.png")["boxes"] == [
        {**boxes[0], "index": 1},
        {"label": 7, "index": 7, "box": [0.0, 0.0, 1.0, 1.0]},
    ]
    assert text_of(tmp_path / "out" / "00002.png")["boxes"] == []
    assert Image.open(tmp_path / "out" / "grid.png").width == 2 + 4 * (2 * 16 + 2 + 2)
    drawn = pixels(tmp_path / "out" / "grid.png")[2:18, 2:18]
    assert (drawn == 255).any() and (drawn != 255).any()


@pytest.mark.parametrize("name", ["layout", "semantic"])
def test_models_that_read_captions_as_well(models: dict[str, Path], script, tmp_path: Path, name: str) -> None:
    (tmp_path / "layout.json").write_text('{"boxes": [{"label": 3, "box": [0, 0, 1, 1]}]}')
    Image.fromarray(np.zeros((16, 16), dtype=np.uint8)).save(tmp_path / "map.png")
    path, file = {"layout": ("scripts/layout2img.py", "layout.json"), "semantic": ("scripts/semantic.py", "map.png")}[name]
    words = [models[f"{name}_text"], tmp_path / file, "--n", 3, "--scale", 2, *FAST, "--outdir", tmp_path / "out"]
    done = script(path, *words)
    assert done.returncode == 2 and 'this model reads captions: give --prompt "..."' in done.stderr
    done = script(path, *words, "--prompt", "a red circle", "--prompts", "a blue circle", "")
    assert done.returncode == 0, done.stderr
    assert [text_of(tmp_path / "out" / f"0000{i}.png")["caption"] for i in range(3)] == ["a red circle", "a blue circle", ""]
    done = script(path, models[name], *words[1:], "--prompt", "a red circle")
    assert done.returncode == 2 and "not captions" in done.stderr
    done = script("scripts/txt2img.py", models[f"{name}_text"], "--prompt", "a", "--outdir", tmp_path)
    assert done.returncode == 2 and path in done.stderr  # the script that can do it


@pytest.mark.parametrize("kind", ["L", "P", "I;16"])
def test_label_maps_of_all_kinds(models: dict[str, Path], script, tmp_path: Path, kind: str) -> None:
    labels = np.array([[0, 1], [3, 255]], dtype=np.uint16 if kind == "I;16" else np.uint8).repeat(8, 0).repeat(12, 1)
    picture = Image.fromarray(labels)
    if kind == "P":
        picture.putpalette([255, 0, 0, 0, 255, 0] * 128)
    picture.save(tmp_path / "map.png")
    done = script("scripts/semantic.py", models["semantic"], tmp_path / "map.png", "--n", 2, *FAST, "--outdir", tmp_path / kind)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / kind / "00001.png").size == (24, 16)
    if kind == "L":
        again = [tmp_path / "map.png", "--H", 32, "--W", 32, "--window", 16, "--n", 1, *FAST, "--outdir", tmp_path / "large"]
        assert script("scripts/semantic.py", models["semantic"], *again).returncode == 0
        assert Image.open(tmp_path / "large" / "00000.png").size == (32, 32)


# super-resolution


@pytest.mark.parametrize("name,factor", [("superres", 2), ("superres4", 4)])
@pytest.mark.parametrize("size", [(13, 9), (1, 1), (8, 16)])
def test_any_size_is_enlarged(models: dict[str, Path], script, tmp_path: Path, name: str, factor: int, size: tuple[int, int]) -> None:
    small = photo(tmp_path / "small.png", *size, mode="RGBA")
    done = script("scripts/superres.py", models[name], small, "--n", 2, *FAST, "--guide-scale", 0.1, "--outdir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["small-00.png", "small-01.png"]
    assert Image.open(tmp_path / "out" / "small-01.png").size == (size[0] * factor, size[1] * factor)


def test_images_of_one_size_go_together_and_come_out_as_alone(models: dict[str, Path], script, tmp_path: Path) -> None:
    given = [photo(tmp_path / f"{i}.png", 7 + (i == 2), 6) for i in range(4)]
    Image.fromarray(255 - np.asarray(Image.open(given[1]))).save(given[1])
    for batch, outdir in ((1, "alone"), (8, "together")):
        words = [*given, "--n", 2, *FAST, "--guide-scale", 0.2, "--batch", batch, "--outdir", tmp_path / outdir]
        done = script("scripts/superres.py", models["superres"], *words)
        assert done.returncode == 0 and "8 images" in done.stdout, done.stderr
    for alone in (tmp_path / "alone").iterdir():
        assert np.abs(pixels(alone) - pixels(tmp_path / "together" / alone.name)).max() <= 1
    assert text_of(alone)["guider"] == "l2" and text_of(alone)["guide_scale"] == 0.2


def test_padding_changes_nothing_that_fits_and_windows_work(models: dict[str, Path], script, tmp_path: Path) -> None:
    image = photo(tmp_path / "a.png", 20, 16)
    done = script("scripts/superres.py", models["superres"], image, *FAST, "--window", 16, "--outdir", tmp_path / "out")
    assert done.returncode == 0 and Image.open(tmp_path / "out" / "a.png").size == (40, 32), done.stderr


def test_results_have_the_names_of_their_images(models: dict[str, Path], script, tmp_path: Path) -> None:
    for name in ("b.png", "sub/a.jpg"):
        photo(tmp_path / "in" / name, 8, 8)
    run = ["scripts/superres.py", models["superres"]]
    assert script(*run, tmp_path / "in", *FAST, "--outdir", tmp_path / "out").returncode == 0
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == ["b.png", "sub/a.png"]
    twice = script(*run, tmp_path / "in" / "b.png", tmp_path / "in", *FAST, "--outdir", tmp_path / "two")
    assert twice.returncode == 2 and "both be named b.png" in twice.stderr and "Traceback" not in twice.stderr
    onto = script(*run, tmp_path / "in", *FAST, "--overwrite", "--outdir", tmp_path / "in")
    assert onto.returncode == 2 and "b.png would overwrite the image" in onto.stderr
    photo(tmp_path / "to" / "sub" / "a.png", 8, 8)
    onto = script(*run, tmp_path / "in", tmp_path / "to" / "sub", *FAST, "--overwrite", "--outdir", tmp_path / "to")
    assert onto.returncode == 2 and "sub/a.png would overwrite the image" in onto.stderr


def test_results_in_the_folder_of_the_images_are_not_enlarged_again(models: dict[str, Path], script, tmp_path: Path) -> None:
    for name in ("b.png", "out-takes/a.png"):
        photo(tmp_path / "in" / name, 8, 8)
    for _ in range(2):
        done = script("scripts/superres.py", models["superres"], tmp_path / "in", *FAST, "--outdir", tmp_path / "in" / "out")
        assert done.returncode == 0 and "2 images" in done.stdout, done.stderr
    names = {p.relative_to(tmp_path / "in").as_posix() for p in (tmp_path / "in").rglob("*.png")}
    assert names == {"b.png", "out-takes/a.png", "out/b.png", "out/out-takes/a.png"}
    found = [text_of(tmp_path / "in" / "out" / name) for name in ("b.png", "out-takes/a.png")]
    assert [one["noise"] for one in found] == [0, 1] and provenance_of(found, ["b", "a"], "out")["seed"] == 0  # settings of one set


def test_a_result_with_other_noise_or_of_another_image_is_another(models: dict[str, Path], script, tmp_path: Path) -> None:
    a, b = photo(tmp_path / "a.png", 8, 8), photo(tmp_path / "b.png", 8, 8)

    def answer(*images: Path) -> tuple[int, str]:
        done = script("scripts/superres.py", models["superres"], *images, *FAST, "--outdir", tmp_path / "out")
        return done.returncode, done.stderr

    assert answer(a) == answer(a) == (0, "")
    code, message = answer(b, a)  # a is the second now, and has the noise of the second
    assert code == 2 and "a.png exists, made with other settings" in message
    assert not (tmp_path / "out" / "b.png").exists(), "found out after sampling"
    Image.fromarray(255 - np.asarray(Image.open(a))).save(a)
    assert answer(a)[0] == 2


# inpainting


def pair(folder: Path, name: str, width: int, height: int, mode: str = "RGB") -> np.ndarray:
    photo(folder / f"{name}.png", width, height, mode)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 3 : height // 2 + 1, width // 4 : width // 2 + 1] = 128
    mask[0, 0] = 127
    Image.fromarray(mask).save(folder / f"{name}_mask.png")
    return mask >= 128


@pytest.mark.parametrize(
    "name,more",
    [
        ("inpaint", ["--precision", "bf16"]),
        ("unconditional", ["--known"]),
        ("inpaint", ["--known", "--window", 8]),
        ("label", ["--known", "--classes", 2]),
    ],
)
def test_known_pixels_come_out_as_they_went_in(models: dict[str, Path], script, tmp_path: Path, name: str, more: list[str]) -> None:
    holes = {
        "a": pair(tmp_path / "in", "a", 16, 16),
        "odd": pair(tmp_path / "in", "odd", 21, 15),
        "grey": pair(tmp_path / "in", "grey", 8, 8, "L"),
    }
    done = script(
        "scripts/inpaint.py", models[name], "--indir", tmp_path / "in", "--n", 3, "--batch", 2, *FAST, *more, "--outdir", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    for stem, hole in holes.items():
        before = np.asarray(Image.open(tmp_path / "in" / f"{stem}.png").convert("RGB"), dtype=np.int16)
        results = [pixels(tmp_path / "out" / f"{stem}-{i:02d}.png") for i in range(3)]
        for result in results:
            assert result.shape == before.shape and np.array_equal(result[~hole], before[~hole])
            assert np.any(result[hole] != before[hole])
        assert np.any(results[0] != results[1])
    made = sorted((tmp_path / "out").iterdir())
    assert len(made) == 9 and provenance_of([text_of(path) for path in made], [path.name for path in made], "out")["seed"] == 0


@pytest.mark.parametrize("name,more", [("inpaint", []), ("unconditional", ["--known"])])
def test_what_lies_in_a_hole_has_no_effect(models: dict[str, Path], script, tmp_path: Path, name: str, more: list[str]) -> None:
    hole = np.zeros((15, 21), dtype=bool)
    hole[6:, 9:] = True  # at two borders, beyond which the image is mirrored
    before = np.asarray(Image.open(photo(tmp_path / "photo.png", 21, 15)))
    results = []
    for inside in (0, 255):
        folder = tmp_path / str(inside)
        folder.mkdir()
        Image.fromarray(np.where(hole[..., None], inside, before).astype(np.uint8)).save(folder / "x.png")
        Image.fromarray(hole).save(folder / "x_mask.png")
        done = script("scripts/inpaint.py", models[name], "--indir", folder, *FAST, *more, "--outdir", folder / "out")
        assert done.returncode == 0, done.stderr
        results.append(pixels(folder / "out" / "x.png"))
    assert np.array_equal(*results)


def test_a_result_of_another_mask_is_another(models: dict[str, Path], script, tmp_path: Path) -> None:
    pair(tmp_path / "in", "x", 16, 16)

    def code() -> int:
        return script("scripts/inpaint.py", models["inpaint"], "--indir", tmp_path / "in", *FAST, "--outdir", tmp_path / "out").returncode

    assert code() == 0 and code() == 0
    found = text_of(tmp_path / "out" / "x.png")
    assert found["image"] == str(tmp_path / "in" / "x.png") and found["mask"] == str(tmp_path / "in" / "x_mask.png") and found["noise"] == 0
    Image.new("L", (16, 16), 255).save(tmp_path / "in" / "x_mask.png")
    assert code() == 2


def test_images_without_masks_get_generated_ones(models: dict[str, Path], script, tmp_path: Path) -> None:
    for name, size in (("a", (64, 40)), ("b", (33, 32))):
        photo(tmp_path / "in" / f"{name}.png", *size)
    for outdir in ("one", "two"):
        words = ["--indir", tmp_path / "in", "--masks", "thick", *FAST, "--seed", 3, "--outdir", tmp_path / outdir]
        assert script("scripts/inpaint.py", models["inpaint"], *words).returncode == 0
    for name in ("a", "b"):
        before, after, hole = (pixels(tmp_path / file) for file in (f"in/{name}.png", f"one/{name}.png", f"one/{name}_mask.png"))
        assert hole.any() and not hole.all() and np.array_equal(after[hole == 0], before[hole == 0])
        assert np.array_equal(hole, pixels(tmp_path / "two" / f"{name}_mask.png"))
    photo(tmp_path / "small" / "c.png", 4, 4)
    done = script("scripts/inpaint.py", models["inpaint"], "--indir", tmp_path / "small", "--masks", "thin", "--outdir", tmp_path)
    assert done.returncode == 2 and "c.png" in done.stderr and "Traceback" not in done.stderr


def test_a_recorded_compvis_checkpoint_inpaints_and_samples(script, tmp_path: Path) -> None:
    hole = pair(tmp_path / "in", "x", 18, 20)
    path = released(tmp_path / "model", "ldm_inpaint_vq")
    done = script("scripts/inpaint.py", path, "--indir", tmp_path / "in", *FAST, "--outdir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(pixels(tmp_path / "out" / "x.png")[~hole], pixels(tmp_path / "in" / "x.png")[~hole])
    path = released(tmp_path / "other", "ldm_uncond_kl_std")
    done = script("scripts/inpaint.py", path, "--indir", tmp_path / "in", "--known", *FAST, "--outdir", tmp_path / "known")
    assert done.returncode == 0, done.stderr
    path = released(tmp_path / "class", "ldm_class_vq")
    guide = photo(tmp_path / "guide.png", 8, 8)
    done = script("scripts/sample.py", path, "--n", 1, "--guide", guide, "--classes", 1, *FAST, "--outdir", tmp_path / "guided")
    assert done.returncode == 0, done.stderr


# the effect of rescaling


def test_rescaled_latents_show_their_content_later(models: dict[str, Path], script, tmp_path: Path) -> None:
    for i in range(3):
        photo(tmp_path / "in" / f"{i}.png", 40 + i, 40)
    (tmp_path / "in" / ".hidden.png").write_bytes(b"no picture")
    words = ["--indir", tmp_path / "in", "--outdir", tmp_path / "out", "--device", "cpu"]
    done = script("scripts/rescale_effect.py", models["unconditional"], *words)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "effect.json").read_text())
    assert found.keys() == {"16", "32"}  # what the model was trained on, and twice that
    for plain, divided in found.values():
        assert abs(divided["variance"] - 1) < 1e-3
        assert (plain["variance"] > 1) == (plain["share_before"] < divided["share_before"]) or plain["share_before"] == divided[
            "share_before"
        ]
    assert (tmp_path / "out" / "effect.png").is_file()


# what is wrong, in one line


WRONG: list[tuple[str, str, list[Any], int, str]] = [
    ("txt2img", "label", ["--prompt", "a circle"], 2, "this model reads label, not captions"),
    ("txt2img", "caption", [], 2, "give --prompt"),
    ("txt2img", "caption", ["--prompt", "an elephant"], 2, "vocabulary: an, elephant"),
    ("txt2img", "caption", ["--prompt", "a", "--negative", "ugly"], 2, "--negative: not in the model's vocabulary: ugly"),
    ("txt2img", "caption", ["--prompt", "a", "--negative", "red", "--scale", 1], 2, "--scale other than 1"),
    ("txt2img", "caption", ["--from-file", "nowhere.txt"], 3, "nowhere.txt: no such file"),
    ("txt2img", "caption", ["--prompt", "a", "--n", 0], 2, "argument --n"),
    ("txt2img", "caption", ["--prompt", "a", "--height", 18], 2, "not a multiple of 4"),
    ("txt2img", "caption", ["--prompt", "a", "--overlap", 8], 2, "--overlap goes with --window"),
    ("txt2img", "caption", ["--prompt", "a", "--window", 10], 2, "multiples of 4"),
    ("txt2img", "caption", ["--prompt", "a", "--window", 8, "--overlap", 8], 2, "must be smaller than the tile"),
    ("txt2img", "caption", ["--prompt", "a", "--init", "nowhere.png"], 3, "nowhere.png: no such image"),
    ("txt2img", "caption", ["--prompt", "a", "--init", "README.md"], 2, "README.md: cannot be read"),
    ("txt2img", "caption", ["--prompt", "a", "--init", "docs/images/demo-text.png", "--strength", 0], 2, "--strength 0.0"),
    ("sample", "superres", [], 2, "use scripts/superres.py"),
    ("sample", "label", ["--classifier", "nowhere"], 3, "nowhere"),
    ("sample", "label", ["--classifier", "{unconditional}"], 2, "contains a latent diffusion model, expected a classifier"),
    ("sample", "label", ["--classifier", "{classifier}", "--height", 32], 2, "built for images of 16x16, not 32x16"),
    ("sample", "label", ["--scale", "nan"], 2, "argument --scale: nan: expected a number"),
    ("sample", "label", ["--classes", "9-0"], 2, "expected numbers like 0,3,7-9"),
    ("sample", "label", ["--classes", "0-999999999999"], 2, "there are classes 0 to 4"),
    ("sample", "label", ["--classes", "4", "--classifier", "{few_classes}"], 2, "there are classes 0 to 2"),
    ("sample", "label", ["--classifier", "{other_classifier}"], 2, "another process"),
    ("sample", "label", ["--autoguide", "{worse}"], 2, "--autoguide works through guidance: give a --scale other than 1"),
    ("sample", "label", ["--autoguide", "nowhere", "--scale", 2], 3, "nowhere"),
    ("sample", "label", ["--autoguide", "{classifier}", "--scale", 2], 2, "contains a classifier, expected"),
    ("sample", "label", ["--autoguide", "{other_process}", "--scale", 2], 2, "trained with another process than the model"),
    ("sample", "label", ["--autoguide", "{scaled}", "--scale", 2], 2, "its latents have scale 0.5, 1, the model's 1"),
    ("sample", "label", ["--autoguide", "{slightly_scaled}", "--scale", 2], 2, "its latents have scale 1.02, the model's 1"),
    ("sample", "label", ["--classifier", "{nearly_classifier}"], 2, "its latents have scale 1.005, the model's 1"),
    ("sample", "label", ["--autoguide", "{five}", "--scale", 2], 2, "trained on another first stage's latents"),
    ("sample", "reads_nothing", ["--autoguide", "{label}", "--scale", 2], 2, "it reads label, the model no condition"),
    ("sample", "label", ["--sampler", "nowhere.heun"], 2, "sampler 'nowhere.heun' is not in a trusted package; --trust nowhere allows it"),
    ("sample", "label", ["--spacing", "karras"], 2, "spacing 'karras' is unknown to DiscreteProcess; there are uniform, original_uniform"),
    ("sample", "label", ["--config", "nowhere.yaml"], 3, "--config nowhere.yaml: no such file"),
    ("sample", "label", ["--outdir", "README.md"], 2, "--outdir README.md: cannot be made a folder"),
    ("txt2img", "caption", ["--prompt", "a \udcff"], 2, "not UTF-8 text"),
    ("txt2img", "unconditional", ["--prompt", "a"], 2, "use scripts/sample.py"),
    ("sample", "unconditional", ["--classes", "1"], 2, "this model reads no condition, not class labels"),
    ("sample", "unconditional", ["--strength", 0.5], 2, "--strength has no effect without --init"),
    ("sample", "unconditional", ["--guider", "lpips"], 2, "--guider has no effect without --guide"),
    ("txt2img", "caption", ["--prompt", "a", "--strength", 0.2], 2, "--strength has no effect without --init"),
    ("sample", "unconditional", ["--guide", "docs/images/demo-text.png", "--guider", "lpips", "--vgg16", "nowhere.pth"], 3, "nowhere.pth"),
    ("sample", "classifier", [], 2, "contains a classifier, expected"),
    ("layout2img", "layout", ["nowhere.json"], 3, "nowhere.json: no such file"),
    ("layout2img", "layout", ["README.md"], 2, "README.md: not JSON"),
    ("txt2img", "caption", ["--prompt", "a", "--n_iter", 0], 2, "argument --n_iter: 0: expected at least 1"),
    ("layout2img", "label", ["README.md"], 2, "this model reads label, not boxes"),
    ("semantic", "semantic", ["nowhere.png"], 3, "nowhere.png: no such label map"),
    ("semantic", "semantic", ["docs/images/demo-text.png"], 2, "is a RGB image, expected class indices"),
    ("semantic", "caption", ["nowhere.png"], 2, "this model reads caption, not label maps"),
    ("superres", "superres", ["nowhere.png"], 3, "nowhere.png: no such image"),
    ("superres", "inpaint", ["nowhere.png"], 2, "not low-resolution images"),
    ("superres", "superres", ["nowhere.png", "--guider", "lpips"], 2, "give --guide-scale as well"),
    ("superres", "superres", ["docs/images/demo-text.png", "--guide-scale", -1], 2, "--guide-scale -1.0: expected 0 or more"),
    ("superres", "superres", ["docs/images/demo-text.png", "--window", 4], 2, "--window 4: expected at least 8"),
    ("inpaint", "inpaint", ["--indir", "nowhere"], 3, "nowhere: no such folder"),
    ("inpaint", "inpaint", ["--indir", "configs"], 3, "expected pairs x.png and x_mask.png"),
    ("inpaint", "unconditional", ["--indir", "configs"], 2, "--known inpaints with a model"),
    ("rescale_effect", "unconditional", ["--indir", "configs", "--size", 16], 3, "no folder with images"),
    ("rescale_effect", "unconditional", ["--indir", "docs", "--size", 17], 2, "not a multiple"),
    ("rescale_effect", "unconditional", ["--indir", "docs", "--size", 0], 2, "argument --size: 0: expected at least 1"),
    ("rescale_effect", "unconditional", ["--indir", "docs", "--size", 16, "--n", 0], 2, "argument --n"),
]


@pytest.mark.parametrize("name,model,words,code,message", WRONG)
def test_what_is_wrong_is_one_clear_line(
    models: dict[str, Path], script, tmp_path: Path, name: str, model: str, words: list[Any], code: int, message: str
) -> None:
    words = [str(w).format(**models) for w in words]
    done = script(f"scripts/{name}.py", models[model], "--outdir", tmp_path, *words, "--device", "cpu")
    assert done.returncode == code and message in done.stderr, done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "layout,message",
    [
        ({}, "layout 0: expected"),
        ([], "an empty list"),
        ({"boxes": [{"label": "dog", "box": [0, 0, 1, 1]}]}, "--names FILE"),
        ({"boxes": [{"label": 64, "box": [0, 0, 1, 1]}]}, "classes 0 to 63"),
        ({"boxes": [{"label": 1, "box": [0, 0, 1]}]}, "expected [x0, y0, x1, y1]"),
        ({"boxes": [{"label": 1, "box": [0.5, 0, 0.2, 1]}]}, "box 0: box"),
        ({"boxes": [{"label": 1, "box": [0, 0, 16, 16]}]}, "x1 <= 1"),
        ({"boxes": [{"label": 1, "box": [0, 0, 1, 1]}] * 4}, "4 boxes, the model has places for 3"),
    ],
)
def test_wrong_layouts(models: dict[str, Path], script, tmp_path: Path, layout: Any, message: str) -> None:
    (tmp_path / "layout.json").write_text(json.dumps(layout))
    done = script("scripts/layout2img.py", models["layout"], tmp_path / "layout.json", "--outdir", tmp_path)
    assert done.returncode == 2 and message in done.stderr, done.stderr


def test_layouts_are_not_cut_into_windows(models: dict[str, Path], script, tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text('{"boxes": [{"label": 3, "box": [0, 0, 1, 1]}]}')
    words = [tmp_path / "layout.json", "--H", 32, "--W", 32, "--n", 1, *FAST, "--outdir", tmp_path / "out"]
    done = script("scripts/layout2img.py", models["layout"], *words, "--window", 16)
    assert done.returncode == 2 and "each tile would show them all" in done.stderr, done.stderr
    done = script("scripts/layout2img.py", models["layout"], *words)
    assert done.returncode == 0 and Image.open(tmp_path / "out" / "00000.png").size == (32, 32), done.stderr


def test_wrong_label_maps(models: dict[str, Path], script, tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 4, dtype=np.uint8)).save(tmp_path / "four.png")
    Image.fromarray(np.zeros((16, 18), dtype=np.uint8)).save(tmp_path / "odd.png")
    Image.fromarray(np.zeros((16, 16), dtype=np.uint8)).save(tmp_path / "right.png")
    for words, message in (
        (["four.png"], "class 4, expected 0 to 3 (255: unlabelled)"),
        (["odd.png"], "16x18 is not a multiple"),
        (["right.png", "--height", "0"], "argument --height/--H: 0: expected at least 1"),
        (["odd.png", "right.png"], "differ in size (18x16, 16x16)"),
    ):
        words = [tmp_path / word if word.endswith(".png") else word for word in words]
        done = script("scripts/semantic.py", models["semantic"], *words, "--outdir", tmp_path / "out")
        assert done.returncode == 2 and message in done.stderr, done.stderr


def test_masks_that_fit_nothing(models: dict[str, Path], script, tmp_path: Path) -> None:
    def answer() -> tuple[int, str]:
        done = script("scripts/inpaint.py", models["inpaint"], "--indir", tmp_path / "in", *FAST, "--outdir", tmp_path / "out")
        return done.returncode, done.stderr

    photo(tmp_path / "in" / "a.png", 16, 16)
    assert answer()[0] == 3 and "a_mask.png is missing" in answer()[1]
    Image.new("L", (16, 12), 255).save(tmp_path / "in" / "a_mask.png")
    assert answer()[0] == 2 and "a_mask.png is 16x12, but a.png is 16x16" in answer()[1]
    Image.new("L", (16, 16), 0).save(tmp_path / "in" / "a_mask.png")
    assert answer()[0] == 2 and "nothing in it is white" in answer()[1]
    Image.new("L", (16, 16), 255).save(tmp_path / "in" / "a_mask.png")
    Image.new("L", (16, 16), 255).save(tmp_path / "in" / "b_mask.png")
    assert answer()[0] == 3 and "b_mask.png fits no image" in answer()[1]
    (tmp_path / "in" / "b_mask.png").unlink()
    assert answer()[0] == 0
    done = script("scripts/inpaint.py", models["inpaint"], "--indir", tmp_path / "in", "--outdir", tmp_path / "in")
    assert done.returncode == 2 and "would overwrite the images" in done.stderr


def test_a_text_encoder_whose_weights_are_not_there(script, tmp_path: Path) -> None:
    from transformers import CLIPTextConfig

    CLIPTextConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2).save_pretrained(tmp_path / "clip")
    config = config_of("caption")
    node = config["model"]["params"]["model"]
    node["params"]["conditioner"] = {"target": "ldm.conditioning.PretrainedText", "params": {"source": str(tmp_path / "clip")}}
    save_weights(tmp_path / "model.safetensors", build(node, AllowedTargets(), "model").state_dict(), {"config": config})
    done = script("scripts/txt2img.py", tmp_path / "model.safetensors", "--prompt", "a", "--outdir", tmp_path)
    assert done.returncode == 3 and "model.safetensors is not in that folder; put it into" in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["sample", "txt2img", "layout2img", "semantic", "superres", "inpaint", "rescale_effect"])
def test_help(script, name: str) -> None:
    done = script(f"scripts/{name}.py", "--help")
    assert done.returncode == 0 and "example" in done.stdout and "MODEL" in done.stdout
