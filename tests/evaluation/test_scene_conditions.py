from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm.cli.pictures import write_png
from ldm.data.sources.scenes import CLASSES, Scenes
from ldm.errors import UserError
from ldm.evaluation.images import FolderSet
from ldm.evaluation.scan import Scan, scan
from ldm.evaluation.scene_conditions import layout_agreement, map_agreement


def asked(tmp_path: Path, turn: int) -> Scan:
    """Real scenes that say they were asked for their own conditions, or for those of the scene `turn` further."""
    scenes = [Scenes(6, 32, "validation", seed=1, map_classes="shape_colour", boxes="drawn")[i] for i in range(6)]
    root = tmp_path / str(turn)
    root.mkdir()
    for i, scene in enumerate(scenes):
        other = scenes[(i + turn) % 6]
        pairs = zip(other["box_labels"].tolist(), other["boxes"].tolist(), strict=True)
        boxes = [{"label": CLASSES[label] if label % 2 else label, "box": box} for label, box in pairs]
        path = tmp_path / f"map{turn}-{i}.png"
        Image.fromarray(other["segmentation"].numpy().astype(np.uint8)).save(path)
        write_png(root / f"{i}.png", scene["image"], {"boxes": boxes, "segmentation": str(path), "number": i})
    return scan(FolderSet(root))


def test_scenes_agree_with_their_own_conditions_and_not_with_others(tmp_path: Path) -> None:
    own, other = asked(tmp_path, 0), asked(tmp_path, 1)
    for measure in (layout_agreement, map_agreement):
        for (title, right), (_, wrong) in zip(measure(own), measure(other), strict=True):
            assert right.value > 0.7 and wrong.value < right.value - 0.05 and right.spread is not None and "checker" in title


def test_samples_that_say_nothing_are_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", Scenes(1, 32)[0]["image"], {"number": 0, "boxes": [{"label": "dog", "box": [0, 0, 1, 1]}]})
    samples = scan(FolderSet(tmp_path))
    with pytest.raises(UserError, match="a.png: no segmentation is stored"):
        map_agreement(samples)
    with pytest.raises(UserError, match="'dog' is not one of the demo scenes'"):
        layout_agreement(samples)
