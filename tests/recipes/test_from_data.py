"""Arguments given as "data", and the names of classes in a run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.check import check
from ldm.check.from_data import from_data
from ldm.conditioning import NumberVector, WordPieces
from ldm.conditioning.tokenizers import learned_pieces
from ldm.config import AllowedTargets, Config, load, validate
from ldm.errors import UserError

CAPTIONS = ("a red circle at the left", "Two blue squares, one of them tall", "ein grüner Kreis")


def folder(root: Path, classes: tuple[str, ...] = ("tabby cat", "dog"), each: int = 6) -> Path:
    for k, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.fromarray(np.full((32, 32, 3), 40 * k + i, np.uint8)).save(root / name / f"{i}.png")
            (root / name / f"{i}.txt").write_text(CAPTIONS[i % len(CAPTIONS)])
    return root


def config(root: Path, conditioner: dict[str, Any], **given: Any) -> Config:
    train = {"target": "ldm.data.ImageFolder", "params": {"root": str(root), "size": 32, **given}}
    data = {"model": {"target": "t", "params": {"conditioner": conditioner}}, "data": {"params": {"train": train}}}
    return Config(data, {"model": {"target": "t", "params": {"conditioner": dict(conditioner, params=dict(conditioner["params"]))}}})


def test_the_number_of_classes_and_their_names(tmp_path: Path) -> None:
    node = {"target": "ldm.conditioning.ClassEmbedding", "params": {"num_classes": "data", "width": 8}}
    one = config(folder(tmp_path), node, labels=True)
    from_data(one, AllowedTargets())
    for content in (one.data, one.source):
        assert content["model"]["params"]["conditioner"]["params"]["num_classes"] == 2
        assert content["classes"] == {"label": ["dog", "tabby cat"]}


def test_a_set_without_classes_is_one_message(tmp_path: Path) -> None:
    node = {"target": "ldm.conditioning.ClassEmbedding", "params": {"num_classes": "data", "width": 8}}
    with pytest.raises(UserError, match="model.params.conditioner: .*'label'"):
        from_data(config(folder(tmp_path), node), AllowedTargets())


def test_a_vocabulary_of_the_captions(tmp_path: Path) -> None:
    node = {"target": "ldm.conditioning.WordPieces", "params": {"vocabulary": "data", "size": 200}}
    one = config(folder(tmp_path), node, captions=True)
    from_data(one, AllowedTargets())
    pieces = WordPieces(one.data["model"]["params"]["conditioner"]["params"]["vocabulary"])
    assert not any(pieces.unknown(caption) for caption in CAPTIONS)
    assert pieces.unknown("a 漢字 circle") == ["漢字"]
    ids = pieces(["a red circle", "", "漢"], 6)
    assert ids.shape == (3, 6) and ids[1].sum() == 0 and ids[2].tolist()[:2] == [1, 0]
    assert pieces.count("a red circle") == int((ids[0] > 0).sum())


def test_other_nodes_stay(tmp_path: Path) -> None:
    node = {"target": "ldm.conditioning.ClassEmbedding", "params": {"num_classes": 7, "width": 8}}
    one = config(tmp_path / "missing", node, labels=True)
    from_data(one, AllowedTargets())
    assert one.data["model"]["params"]["conditioner"] == node and "classes" not in one.data


@pytest.mark.parametrize("size", [64, 100, 400])
def test_learned_pieces_are_the_same_for_the_same_captions(size: int) -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    many = [" ".join(np.random.default_rng(i).choice(words, 5)) for i in range(200)]
    first = learned_pieces(many, size)
    assert len(first) <= size and all(learned_pieces(many, size) == first for _ in range(3))


def test_a_vocabulary_is_checked() -> None:
    for wrong in ("a b c", "[PAD] [UNK] a a"):
        with pytest.raises(ValueError, match="vocabulary"):
            WordPieces(wrong)


def test_a_number_as_condition() -> None:
    part = NumberVector("hour", low=0.0, high=24.0, width=8, uncond_prob=0.5)
    batch = {"hour": torch.tensor([0.0, 12.0, 24.0])}
    vector = part(batch, lambda x, scaled: x).vector
    assert vector is not None and vector.shape == (3, 8) and not torch.equal(vector[0], vector[1])
    dropped = part(part.drop(batch, [False, True, False]), lambda x, scaled: x).vector
    assert dropped is not None and torch.equal(dropped[1], part.unknown) and torch.equal(dropped[0], vector[0])
    assert part.keys["hour"].problems("hour", torch.tensor([25.0]), "it") == ["hour 25 is out of range: it knows 0 to 24"]
    with pytest.raises(ValueError, match="low 3 must be below high 3"):
        NumberVector("hour", 3.0, 3.0, 8)


def test_a_wrong_config_is_wrong_also_where_its_data_is_missing(tmp_path: Path) -> None:
    own = Path(__file__).resolve().parents[2] / "configs" / "own" / "class.yaml"
    one = load([own], [f"paths.images={tmp_path / 'missing'}"])
    assert check(one, AllowedTargets()).exit_code == 3
    wrong = load([own], [f"paths.images={tmp_path / 'missing'}", "model.params.ema_decai=0.9"])
    report = check(wrong, AllowedTargets())
    assert report.exit_code == 2 and "ema_decai" in report.problems[0] and len(report.problems) == 1


def test_only_classes_that_can_ask_the_data_take_data(tmp_path: Path) -> None:
    node = {"target": "ldm.conditioning.GivenContext", "params": {"width": "data"}}
    one = config(folder(tmp_path), node)
    one.data["model"] = {"target": "ldm.conditioning.Joint", "params": {"parts": [node]}}
    assert "expected an integer, got 'data'" in " ".join(map(str, validate(one, AllowedTargets())))
