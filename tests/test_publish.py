"""A published folder works elsewhere, says how it was made, and says nothing of the machine."""

import getpass
import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import ldm
from ldm.checkpoint.load import load_model, pretrained
from ldm.checkpoint.read import read_source
from ldm.cli.card import license_field
from ldm.cli.publish import BERT, PRETRAINED_TEXT, with_text_source
from ldm.cli.scrub import leaks, scrub, without_paths
from ldm.errors import UserError
from ldm.evaluation.record import Record, read_records, write_records
from ldm.system.weights import read_metadata, read_weights, save_weights

RUNS = Path(__file__).parent / "fixtures" / "runs"
SECRET = "alices-secret"  # in the name of every folder that a run knows of


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The old runs, with absolute paths in all that they say, a picture with a text chunk, and records."""
    home = tmp_path / f"{SECRET}-home"
    shutil.copytree(RUNS, home)
    for run, stage in (("class", "kl"), ("text", "vq"), ("kl", None), ("vq", None)):
        (file,) = (home / run / "checkpoints").glob("step-4.*safetensors")
        tensors, header = read_weights(file)
        config = header["config"]
        config["paths"] = {"images": f"{SECRET}-flowers", "maps": f"/home/{SECRET}/maps"}
        config["data"]["params"]["train"]["params"]["root"] = f"{SECRET}-flowers"
        config["loggers"] = {"wandb": {"target": "pytorch_lightning.loggers.WandbLogger", "params": {"entity": SECRET}}}
        if stage:
            config["model"]["params"]["model"]["params"]["first_stage"]["params"]["checkpoint"] = str(home / stage)
            header["first_stage"] |= {"path": str(home / stage)}
        save_weights(file, tensors, header)
        (home / run / "config.yaml").write_text(yaml.safe_dump(config))
    (home / "class" / "images").mkdir()
    about = PngInfo()
    about.add_text("ldm", json.dumps({"model": str(home)}))
    Image.new("L", (32, 32), 99).save(home / "class" / "images" / "step-000004-samples.png", pnginfo=about)
    record = Record(
        "FID",
        12.5,
        2000,
        spread=0.5,
        sampler="ddim",
        steps=50,
        scale=2.0,
        training_step=4,
        sampling={"init": f"{home}/x.png", "guide": f"{SECRET}.png"},
        reference=f"folder {home}/my photos",
        reference_images=500,
        resize=f"the data set's own: Inpainting(images=ImageFolder(root={SECRET}-flowers, size=64), masks={SECRET})",
        extractor="inception",
        notes=(f"2 of the 5 images of folder {home}/my photos repeat another", "few samples: mostly bias"),
    )
    write_records(home / "class" / "record.json", [record])
    return home


def published(script, run: Path, out: Path, *more: object) -> subprocess.CompletedProcess[str]:
    done = script("scripts/publish.py", run, out, *more)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("run", ["class", "text", "kl", "vq"])
def test_no_byte_tells_of_the_machine(script, home: Path, run: str, tmp_path: Path) -> None:
    out = tmp_path / "flowers"
    published(script, home / run, out, "--unfinished")
    words = [SECRET, str(home), str(tmp_path.parent), *(word for word in (getpass.getuser(), platform.node()) if len(word) > 5)]
    for file in out.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not [word for word in words if word.encode() in content], file
        if file.suffix == ".png":
            assert not Image.open(file).info
    assert list(leaks(home, [str(home)]))  # where there is something to find, it is found


def test_the_folder_works_where_nothing_else_is(script, home: Path, tmp_path: Path) -> None:
    before = ldm.load(home / "class").sample(2, label=[1, 0], output="tensor", settings={"steps": 2})
    published(script, home / "class", tmp_path / "flowers", "--unfinished", "--license", "cc-by-4.0", "--description", "Of a *garden*.")
    shutil.rmtree(home)
    away = tmp_path / "elsewhere"
    shutil.move(tmp_path / "flowers", away)
    assert torch.equal(ldm.load(away).sample(2, label=[1, 0], output="tensor", settings={"steps": 2}), before)
    assert script("scripts/sample.py", away, "--n", 1, "--steps", 2, "--outdir", tmp_path / "samples").returncode == 0

    text = (away / "README.md").read_text(encoding="utf-8")
    front = ModelCard(text).data.to_dict()
    assert front["license"] == "cc-by-4.0" and front["library_name"] == "ldm" and "latent-diffusion" in front["tags"]
    assert front["pipeline_tag"] == "unconditional-image-generation"
    for said in (
        "# flowers",
        "Of a *garden*.",
        "![samples at step 4](samples.png)",
        "ldm.load(",
        "label=0",
        "| FID | 12.5 ± 0.5 | 2000 | 4 |",
    ):
        assert said in text, said
    assert "made with ddim, 50 steps, scale 2" in text and "compared with 500 images (a folder of images)" in text and "mostly bias" in text
    assert "Inpainting(images=ImageFolder(size=64))" in text
    assert read_records(away / "metrics.json")[0].value == 12.5


def test_the_config_trains_again_from_the_paths_that_it_names(script, home: Path, tmp_path: Path) -> None:
    published(script, home / "class", tmp_path / "flowers", "--unfinished")
    config = yaml.safe_load((tmp_path / "flowers" / "config.yaml").read_text(encoding="utf-8"))
    assert config["paths"] == {"images": "path/to/images", "maps": "path/to/maps"} and "loggers" not in config
    assert config["data"]["params"]["train"]["params"]["root"] == "${paths.images}"
    assert config["model"]["params"]["model"]["params"]["first_stage"]["params"]["checkpoint"] == "path/to/checkpoint"
    config = read_metadata(tmp_path / "flowers" / "model.safetensors")["config"]
    assert config["model"]["params"]["model"]["params"]["first_stage"]["target"] == "ldm.first_stage.KLAutoencoder"
    stage = load_model(str(home / "class")).model.first_stage
    assert pretrained(str(tmp_path / "flowers")).sha256 == stage.sha256  # it is inside


@pytest.mark.parametrize(("run", "kind"), [("kl", "AutoencoderKL"), ("vq", "VQModel")])
def test_a_first_stage_is_published_too_for_diffusers_where_it_can_be(script, home: Path, run: str, kind: str, tmp_path: Path) -> None:
    picture = torch.rand(1, 1 if run == "kl" else 3, 16, 16)
    before = ldm.load(home / run).encode(picture)
    done = published(script, home / run, tmp_path / "stage", "--unfinished")
    assert torch.equal(ldm.load(tmp_path / "stage").encode(picture), before)
    text = (tmp_path / "stage" / "README.md").read_text(encoding="utf-8")
    if (tmp_path / "stage" / "diffusers").exists():
        assert json.loads((tmp_path / "stage" / "diffusers" / "config.json").read_text())["_class_name"] == kind
        assert "`diffusers/` has the same weights" in text
    else:
        assert "There is no `diffusers/` folder: " in text and "note: diffusers/ is not written" in done.stdout


def test_a_tokenizer_of_this_machine_comes_along_and_a_text_encoder_has_to_have_a_public_name(home: Path, tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nred\n")
    source = read_source(str(home / "text"))
    text = source.node["params"]["conditioner"]["params"]
    text["tokenizer"] = {"target": BERT, "params": {"source": str(tmp_path / "words"), "vocabulary_size": 6}}
    config = with_text_source(source, tmp_path / "out", None)
    weights = tmp_path / "out" / "model.safetensors"
    save_weights(weights, {}, {"config": config})
    made = read_source(str(tmp_path / "out")).node["params"]["conditioner"]["params"]["tokenizer"]["params"]["source"]
    assert made == str(tmp_path / "out" / "tokenizer") and (tmp_path / "out" / "tokenizer" / "vocab.txt").is_file()
    assert config["model"]["params"]["model"]["params"]["conditioner"]["params"]["tokenizer"]["params"]["source"] == "tokenizer"
    source.node["params"]["conditioner"] = {"target": PRETRAINED_TEXT, "params": {"source": str(tmp_path / "words")}}
    with pytest.raises(UserError, match="name it as the hub does"):
        with_text_source(source, tmp_path / "out", None)
    config = with_text_source(source, tmp_path / "out", "openai/clip-vit-large-patch14")
    assert config["model"]["params"]["model"]["params"]["conditioner"]["params"]["source"] == "openai/clip-vit-large-patch14"


def test_refusals(script, home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    shutil.copytree(home / "kl", tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "checkpoints")
    config = yaml.safe_load((home / "kl" / "config.yaml").read_text())
    config["trainer"]["params"]["steps"] = 100
    (home / "kl" / "config.yaml").write_text(yaml.safe_dump(config))
    for words, code, message in (
        ((tmp_path / "nowhere", out), 3, "not a run folder"),
        ((tmp_path / "bare", out), 3, "expected a run folder or a weights file"),
        ((home / "kl", out), 2, "has done 4 of 100 steps: resume it, or publish it as it is with --unfinished"),
        ((home / "classifier", out, "--unfinished"), 2, "describes neither a latent diffusion model nor a first stage"),
        ((home / "kl", home, "--unfinished"), 2, "already exists"),
        ((home / "kl", out, "--unfinished", "--samples", tmp_path / "no.png"), 3, "no such file"),
        ((home / "kl", out, "--unfinished", "--description", f"see {home}/kl"), 2, "would contain"),
    ):
        done = script("scripts/publish.py", *words)
        assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr, done.stderr
        assert not out.exists() and not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
    published(script, home / "kl", tmp_path / "empty", "--unfinished")  # an empty folder is taken
    assert script("scripts/publish.py", home / "kl", tmp_path / "empty", "--unfinished").returncode == 2
    published(script, home / "kl", tmp_path / "empty", "--unfinished", "--overwrite", "--license", "My own")
    (tmp_path / "empty" / "diary.txt").write_text("")
    done = script("scripts/publish.py", home / "kl", tmp_path / "empty", "--unfinished", "--overwrite")
    assert done.returncode == 2 and "'diary.txt', which this command did not write" in done.stderr


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (None, {"license": "unknown"}),
        ("MIT", {"license": "mit"}),
        ("Ask me (first)!", {"license": "other", "license_name": "ask-me-first"}),
    ],
)
def test_licenses_as_the_hub_wants_them(said: str | None, field: dict[str, str]) -> None:
    assert license_field(said) == field


@pytest.mark.parametrize("path", ["/data/x", "~/x", "C:\\x", "\\\\server\\x", "../x", "./x", "s3://bucket/x", "file:///x"])
def test_paths_of_every_system(path: str) -> None:
    node = {"target": "a.b", "source": path, "names": ["ok", path], "crop": "random", "hub": "openai/clip-vit-large-patch14"}
    assert scrub(node) == {**node, "source": "path/to/source", "names": ["ok", "path/to/names"]}
    assert scrub({"data": {"root": "photos", "size": 3, "caption": "a, b", "list": "my/list"}})["data"] == {
        "root": "path/to/root",
        "size": 3,
        "caption": "a, b",
        "list": "path/to/list",
    }
    assert path not in without_paths(f"it is in '{path}': really", [])
