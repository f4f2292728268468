"""The commands and figures of the README and of the pages in docs/, and the demo script in small."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image
from programs import Programs

import demos.run
from ldm.checkpoint.load import load_model


@pytest.mark.parametrize(
    ("demo", "keys"),
    [
        ("digits", ["accuracy", "accuracy_real", "near_real_share"]),
        pytest.param(
            "text",
            ["one_object_right", "one_object_right_per_seed", "two_objects_right", "two_objects_right_per_seed"]
            + ["checker_real", "checker_reconstructions"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_demo_script_end_to_end_in_small(
    demo: str, keys: list[str], script, programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demos.run, "subprocess", programs)
    small = ["trainer.params.steps=3", "trainer.params.images_every=0", "trainer.params.validate_every=0"]
    done = script("scripts/demo.py", demo, "--outdir", tmp_path / demo, "--samples", 40, *small)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / demo / "summary.json").read_text())
    assert {"training_seconds", *keys} <= summary.keys() and summary["training_seconds"] > 0
    assert (tmp_path / demo / "samples.png").is_file()
    page = (tmp_path / demo / "index.html").read_text()
    assert "data:image/png;base64," in page and "http" not in page.replace("http-equiv", "")


def pages(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def text_of(root: Path) -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in pages(root))


def readme_commands(root: Path) -> list[str]:
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", text_of(root), flags=re.S)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def test_the_readme_is_short_and_its_links_lead_somewhere(root: Path) -> None:
    assert len((root / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
    for page in pages(root):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
    linked = (root / "README.md").read_text(encoding="utf-8")
    assert all(f"docs/{page.name}" in linked for page in pages(root)[1:])


def test_the_files_that_the_pages_name_exist(root: Path) -> None:
    for page in pages(root):
        inside = root / "configs" if page.name == "zoo.md" else root  # whose table names configs
        for name in re.findall(r"`((?:ldm|configs|scripts|tests|docs|benchmarks)/[\w./*-]+)`", page.read_text(encoding="utf-8")):
            assert list(root.glob(name.rstrip("/"))) or list(inside.glob(name + ".yaml")), f"{page.name}: {name}"


def test_the_readmes_commands_exist_and_the_short_ones_run(root: Path, run) -> None:
    commands = readme_commands(root)
    assert {"make demo", "make demo-text", "make test"} <= set(commands)
    makefile = (root / "Makefile").read_text()
    ran = 0
    for command in commands:
        words = shlex.split(command)
        if words[0] == "make":
            assert re.search(rf"^{words[-1]}:", makefile, flags=re.M), command
        elif words[0] == "python":
            assert (root / words[1]).is_file(), command
            if "models/ldm/" in command:  # a released model, see the test below
                continue
            for path in re.findall(r"configs/\S+\.yaml", command):
                assert list(root.glob(path)) or path.startswith("configs/mine/"), command  # what new.py writes
            if "--check" in words or "--print-config" in words or "--help" in words:
                done = run(*words[1:])
                assert done.returncode in (0, 3), f"{command}\n{done.stderr}"
                ran += 1
    assert ran >= 2


def test_the_readmes_commands_for_released_models_run(root: Path, run, tmp_path: Path) -> None:
    """As written, on a recorded model that lies where the released one would."""
    import yaml
    from safetensors.torch import load_file

    name = root / "tests" / "fixtures" / "compvis" / "ldm_uncond_kl_std"
    folder = tmp_path / "models" / "ldm" / "celeba256"
    folder.mkdir(parents=True)
    tree = json.loads(name.with_suffix(".json").read_text())["params"]["model"]
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": tree}))
    state = {key[3:]: value.float() for key, value in load_file(name.with_suffix(".safetensors")).items() if key.startswith("sd.")}
    torch.save({"state_dict": state}, folder / "model.ckpt")
    commands = [c for c in readme_commands(root) if "celeba" in c and "configs/" not in c and "logs/RUN" not in c]
    assert len(commands) == 4
    for command in commands:
        words = shlex.split(command)[1:]
        done = run(root / words[0], *words[1:], cwd=tmp_path)
        assert done.returncode == (3 if "--check" in words else 0), f"{command}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "celeba-diffusers" / "model_index.json").is_file()


def test_the_figures_of_the_readme_are_what_the_commands_print(root: Path, script) -> None:
    readme = text_of(root)
    for name, pattern in (
        ("parity", r"parity\.py tests/fixtures/compvis +# (.*)"),
        ("roundtrips", r"roundtrips\.py tests/fixtures/compvis +# (.*)"),
    ):
        said = re.search(pattern, readme)
        assert said is not None
        done = script(f"scripts/{name}.py", root / "tests" / "fixtures" / "compvis")
        assert done.returncode == 0, done.stdout
        assert done.stdout.strip().splitlines()[-1] == said[1].strip()


def test_the_readmes_python_runs(root: Path) -> None:
    """As written, on a text model that lies where the run would."""
    run = root / "tests" / "fixtures" / "runs" / "text"
    size = load_model(str(run)).model.first_stage
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), flags=re.S):
        code = code.replace("logs/RUN", str(run)).replace("4, 3, 32, 32", f"4, {size.image_channels}, 16, 16")
        exec(code, names)
    assert len(names["images"]) == 4 and names["latents"].shape[0] == 4


def test_check_all_counts_what_it_found(root: Path, script, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("model: {target: ldm.networks.Unet}\n")
    demo = root / "configs" / "demo" / "digits-first-stage.yaml"
    done = script("scripts/check_all.py", demo, "--json", tmp_path / "found.json")
    assert done.returncode == 0 and "1 configs: 1 ready, 0 without their files, 0 wrong" in done.stdout
    assert json.loads((tmp_path / "found.json").read_text())[str(demo)]["parameters"]["autoencoder"] > 1e5
    done = script("scripts/check_all.py", demo, tmp_path / "wrong.yaml")
    assert done.returncode == 1 and "1 wrong" in done.stdout and "did you mean 'UNet'" in done.stdout


def test_the_example_in_the_architecture_page_runs(root: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (root / "docs" / "architecture.md").read_text(), flags=re.S)[1]
    names: dict = {}
    exec(code, names)
    assert names["images"].shape == (2, 3, 64, 64)


def test_readme_own_images_section_works_as_written(root: Path, run, tmp_path: Path) -> None:
    """With the photographs that scikit-image and scikit-learn ship, at a few steps and small size."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    folder = tmp_path / "photos" / "nested"
    folder.mkdir(parents=True)
    shipped = {
        "astronaut": skimage.data.astronaut(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
        "cat": skimage.data.chelsea(),
    }
    shipped |= {f"sample{i}": image for i, image in enumerate(load_sample_images().images)}
    for name, image in shipped.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    section = (root / "README.md").read_text().split("## Your own images")[1].split("\n## ")[0]
    commands = [line for line in re.search(r"```bash\n(.*?)```", section, flags=re.S)[1].splitlines() if line.startswith("python")]
    assert len(commands) == 4
    short = [
        "trainer.params.images_every=0",
        "trainer.params.validate_every=0",
        "trainer.params.log_every=1",
        "data.params.workers=0",
        "data.params.batch_size=2",
    ]
    narrow = ["model.params.model.params.network.params.width=32", "model.params.model.params.network.params.blocks_per_level=1"]
    runs = tmp_path / "logs"
    for i, command in enumerate(commands):
        placed = command.replace("my/photos", str(tmp_path / "photos")).replace("configs/mine", str(tmp_path / "mine"))
        words = shlex.split(placed, comments=True)[1:]
        words += ["--out", str(tmp_path / "mine"), "--memory", "0"] if words[0] == "scripts/new.py" else []
        if words[0] == "main.py":
            words += ["-l", str(runs), *short, "trainer.params.steps=3", *(narrow if i > 1 else [])]
        done_runs = {p.name.split("_", 1)[1]: p for p in runs.iterdir()} if runs.exists() else {}
        words = [
            w.replace("logs/STAGE1", str(done_runs.get("first-stage"))).replace("logs/STAGE2", str(done_runs.get("unconditional")))
            for w in words
        ]
        if words[0] == "scripts/sample.py":
            words += ["--n", "2", "--steps", "2", "--outdir", str(tmp_path / "out")]
        done = run(*words)
        assert done.returncode == 0, f"{words}\n{done.stderr}"
    assert (tmp_path / "out" / "00001.png").is_file()
