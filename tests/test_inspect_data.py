"""scripts/inspect_data.py: what it counts, what it draws, and what it says when something is wrong."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.evaluation.draw import card, draw_boxes, draw_map, sheet, tint
from ldm.evaluation.inventory import Inventory

sys.path.insert(0, str(Path(__file__).resolve().parent / "data"))
from miniatures import coco, picture, quadrants  # noqa: E402

SCRIPT = "scripts/inspect_data.py"
SMALL = ["data.params.train.params.size=64", "data.params.validation.params.size=64"]


def annotated(root: Path) -> Path:
    """A folder with everything, two bad lines, and a picture that cannot be read; and the config of it."""
    rows = []
    for i in range(6):
        picture(root / f"{i}.jpg", i)
        quadrants(root / f"{i}.png", classes=(0, 1, 2, 255))
        boxes = [{"label": k, "box": [0.2, 0.2, 0.6, 0.9]} for k in range(i % 3)]
        rows.append({"file_name": f"{i}.jpg", "caption": f"picture number {i}" if i else "", "label": i % 2, "segmentation": f"{i}.png"})
        rows[-1] |= {"mask": f"{i}.png", "boxes": boxes}
    (root / "4.jpg").write_bytes(b"broken")
    lines = [*map(json.dumps, rows), "{", json.dumps({"file_name": "9.jpg"})]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    give = "[label, caption, boxes, segmentation, mask]"
    node = f"{{target: ldm.data.AnnotatedFolder, params: {{root: {root}, size: 32, give: {give}}}}}"
    config = root / "data.yaml"
    config.write_text(f"data: {{params: {{batch_size: 2, train: {node}}}}}\n")
    return config


def test_an_annotated_folder(script, tmp_path: Path) -> None:
    done = script(SCRIPT, "--base", annotated(tmp_path), "--n", 4, "--outdir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    for text in (
        "train: AnnotatedFolder, 6 samples, 2 entries left out",
        "read          6, of which 1 cannot be read",
        "image         3x32x32 (5)",
        "stored        60x40 (5); shorter side 40 to 40",
        "label         2 classes; most frequent: 1 (3)",
        "caption       0 to 3 words (median 3), 1 empty, 5 different",
        "boxes         0 to 2 per image (median 1); areas",
        "segmentation  3 classes: ",
        "mask          ",
        "metadata.jsonl:7: not JSON",
        "metadata.jsonl:8: has no 'label'",
        "4.jpg: cannot be read",
    ):
        assert text in done.stdout, done.stdout
    assert (tmp_path / "out" / "broken.txt").read_text().count("\n") == 3
    drawn = Image.open(tmp_path / "out" / "train.png")
    assert drawn.width > 512 and drawn.height > 256


def test_the_data_of_a_training_config_with_names_of_classes(script, tmp_path: Path, root: Path) -> None:
    coco(tmp_path / "coco")
    config = root / "configs/ldm/layout-coco-ldm8.yaml"
    done = script(SCRIPT, f"paths.coco={tmp_path / 'coco'}", "--base", config, "--outdir", tmp_path / "out", "--limit", 0, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "train: Coco, 4 samples" in done.stdout and "validation: Coco, 2 samples" in done.stdout
    assert "most frequent: person (" in done.stdout and "no 000000000004.jpg" in done.stdout
    assert (tmp_path / "out" / "validation.png").is_file()


def test_what_is_left_out_of_mixed_sets_is_reported(script, tmp_path: Path) -> None:
    for name in ("one", "two"):
        annotated(tmp_path / name)
    node = "{{target: ldm.data.AnnotatedFolder, params: {{root: {}, size: 32, give: []}}}}"
    sets = ", ".join(node.format(tmp_path / name) for name in ("one", "two"))
    config = tmp_path / "mixed.yaml"
    config.write_text(f"data: {{params: {{batch_size: 2, train: {{target: ldm.data.Mixed, params: {{sets: [{sets}]}}}}}}}}\n")
    done = script(SCRIPT, "--base", config, "--outdir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "train: AnnotatedFolder and AnnotatedFolder, 12 samples, 4 entries left out" in done.stdout, done.stdout
    assert "stored        60x40 (10)" in done.stdout and all(f"{name}/metadata.jsonl:7" in done.stdout for name in ("one", "two"))


def test_which_folder_has_which_index(script, tmp_path: Path) -> None:
    for i, name in enumerate(["9", "10", "b", "a\x1b[31m"]):
        picture(tmp_path / "set" / name / "x.png", i)
    node = f"{{target: ldm.data.ImageFolder, params: {{root: {tmp_path / 'set'}, size: 32, labels: true}}}}"
    (tmp_path / "data.yaml").write_text(f"data: {{params: {{batch_size: 2, train: {node}}}}}\n")
    done = script(SCRIPT, "--base", tmp_path / "data.yaml", "--outdir", tmp_path / "out")
    assert done.returncode == 0 and "  classes       index, name and number of images in the samples read\n" in done.stdout, done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(" " * 16)]
    assert rows == [["0", "10", "1"], ["1", "9", "1"], ["2", "a\\x1b[31m", "1"], ["3", "b", "1"]]
    assert (tmp_path / "out" / "train-classes.txt").read_text().splitlines() == ["0\t10\t1", "1\t9\t1", "2\ta\\x1b[31m\t1", "3\tb\t1"]


def test_help_for_a_newcomer(script) -> None:
    done = script(SCRIPT, "--help")
    assert done.returncode == 0 and "examples" in done.stdout and "exit codes" in done.stdout and "broken.txt" in done.stdout


@pytest.mark.parametrize(
    "words,code,message",
    [
        (["--base", "nowhere.yaml"], 2, "nowhere.yaml: no such file"),
        (["--base", "configs/data/coco-boxes256.yaml", "paths.coco=nowhere"], 3, "COCO 'nowhere': does not exist"),
        (["--base", "configs/data/coco-boxes256.yaml", "data.params.train.params.sise=3"], 2, "did you mean 'size'"),
        (["--base", "configs/parts/trainer.yaml"], 2, "has no data"),
        (["--base", "configs/demo/text.yaml", "--n", "0"], 2, "expected at least 1"),
        (["--base", "configs/demo/text.yaml", "--limit", "-1"], 2, "expected at least 0"),
        (["oops", "--base", "configs/demo/text.yaml"], 2, "expected key.sub=value"),
    ],
)
def test_mistakes_are_one_line(script, root: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str) -> None:
    monkeypatch.chdir(root)
    done = script(SCRIPT, *words)
    assert done.returncode == code and message in done.stderr, done.stderr
    assert done.stderr.count("\n") <= 2 and "Traceback" not in done.stderr


def test_an_official_config(script, tmp_path: Path) -> None:
    parts = {part: {"target": "ldm.data.lsun.LSUNChurchesTrain", "params": {"size": 256}} for part in ("train", "validation")}
    config = tmp_path / "official.yaml"
    config.write_text(json.dumps({"data": {"target": "main.DataModuleFromConfig", "params": {"batch_size": 4, **parts}}}))
    done = script(SCRIPT, "--base", config)
    assert done.returncode == 3 and "data/lsun/churches" in done.stderr
    for i in range(3):
        picture(tmp_path / "churches" / f"{i}.jpg", i)
    words = [f"data.params.{part}.params.root={tmp_path / 'churches'}" for part in parts]
    done = script(SCRIPT, "--base", config, *words, "--outdir", tmp_path / "out", *SMALL)
    assert done.returncode == 0 and "train: LSUN" in done.stdout, done.stderr


def test_samples_of_every_kind_are_drawn() -> None:
    image = torch.zeros(3, 16, 16)
    sample = {"image": image, "id": "x", "caption": "word " * 60, "label": 3, "low_res": torch.ones(3, 4, 4)}
    sample |= {"mask": torch.ones(1, 16, 16), "masked_image": image, "segmentation": torch.full((16, 16), 255)}
    sample |= {"boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.5, 0.5]]), "box_labels": torch.tensor([400, 1])}
    assert card(sample, {"label": ["a", "b", "c", "house"]}, 64).width == 4 * 64
    for channels in (1, 2, 5):
        assert sheet([{"image": torch.zeros(channels, 8, 8), "id": "y"}] * 5, {}, columns=2, side=64).width == 2 * 72
    assert np.asarray(draw_map(sample["segmentation"], 32)).max() == 0
    assert len(np.unique(np.asarray(draw_map(torch.arange(16).reshape(4, 4), 4)).reshape(-1, 3), axis=0)) == 16
    assert float(tint(image, sample["mask"])[0].min()) == 0.5
    drawn = np.asarray(draw_boxes(Image.new("RGB", (64, 64)), torch.tensor([[0.25, 0.25, 0.75, 0.75]]), torch.tensor([0]), {}))
    assert drawn[16, 40].any() and drawn[47, 40].any() and not drawn[60].any()


def test_stand_ins_are_not_counted_twice() -> None:
    counted = Inventory()
    counted.add({"image": torch.zeros(3, 8, 8), "id": "a"})
    counted.add({"image": torch.zeros(3, 8, 8), "id": "a", "skipped": ["b: broken"]})
    assert counted.read == 1 and counted.broken == ["b: broken"]
