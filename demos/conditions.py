"""Tasks whose condition can be recognized from pixels: class, text, layout and semantic map, on held-out scenes.

Each image is also compared with the condition of another scene: the result of a model that ignores its condition.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from demos.caption_checker import share_right
from demos.measured import Measured, mean, of_another, standard_error
from demos.run import reconstructed, sample
from demos.text import measure_text
from ldm.checkpoint.load import LoadedModel
from ldm.data.batch import collate
from ldm.data.sources.scenes import PLACED, Scenes
from ldm.evaluation.draw import sheet
from ldm.evaluation.scene_conditions import found_map, layout_iou, object_agreement, pixel_agreement
from ldm.evaluation.scenes import find_all
from ldm.system.files import save_png

SHOWN = 24


def held_out(loaded: LoadedModel, count: int) -> tuple[Scenes, dict[str, Any]]:
    """Held-out scenes of the model's training distribution, and their batch."""
    params = {**loaded.config["data"]["params"]["train"]["params"], "split": "validation", "seed": 1, "length": count}
    scenes = Scenes(**params)
    return scenes, collate([scenes[i] for i in range(count)])


def show(scenes: Scenes, images: Tensor, path: Path) -> Path:
    """Draw samples with their conditions."""
    shown = [{**scenes[i], "image": image} for i, image in enumerate(images[:SHOWN])]
    save_png(path, sheet(shown, scenes.class_names, columns=8, side=96))
    return path


def caption_of(label: int) -> str:
    """A class as a caption for the checker: "a red circle at left"."""
    return "a {} at {}".format(*PLACED[label].split(", "))


def measure_class(loaded: LoadedModel, outdir: Path, count: int) -> Measured:
    """Share of samples with the requested object, colour and place, all classes equally often."""
    scenes, batch = held_out(loaded, count)
    labels = torch.arange(count) % len(PLACED)
    captions = [caption_of(label) for label in labels.tolist()]
    images = sample(loaded, {"label": labels}, count, scenes.size, seed=0)
    shares = share_right(images, captions)
    wrong = share_right(images, [captions[i] for i in of_another(count)])["all"]
    real = [caption_of(label) for label in batch["label"].tolist()]
    pick = torch.linspace(0, count - 1, SHOWN).long().tolist()
    shown = [{"image": images[i], "label": int(labels[i]), "id": ""} for i in pick]
    save_png(outdir / "class.png", sheet(shown, scenes.class_names, columns=8, side=96))
    others = {
        "samples": count,
        "standard_error": (shares["all"] * (1 - shares["all"]) / count) ** 0.5,
        "wrong_class": wrong,
        "chance": 1 / len(PLACED),
        "by_property": {key: shares[key] for key in ("shape", "colour", "place")},
        "checker_real": share_right(batch["image"], real)["all"],
        "checker_reconstructions": share_right(reconstructed(loaded, batch["image"]), real)["all"],
    }
    metric = f"share of samples in which the pixel checker finds the requested object, its colour and place; {len(PLACED)} classes"
    baseline = "the larger of: the same samples for another class, and chance"
    pictures = {"Samples and their classes": outdir / "class.png"}
    return Measured(metric, shares["all"], max(wrong, others["chance"]), baseline, True, others, pictures)


def measure_caption(loaded: LoadedModel, outdir: Path, count: int) -> Measured:
    """Share of samples that show every object of their caption; half of the captions have one object, half have two."""
    found, _, pictures = measure_text(loaded, outdir, count)
    one, two = found["one_object_right"], found["two_objects_right"]
    wrong = (found["one_object_right_wrong_prompt"] + found["two_objects_right_wrong_prompt"]) / 2
    n = 2 * found["prompts_per_kind"] * len(found["sampling_seeds"])
    value = (one + two) / 2
    chance = 1 / len(PLACED)  # of one object; of two it is about 72 times smaller
    others = {**found, "samples": n, "standard_error": (value * (1 - value) / n) ** 0.5, "chance_one_object": chance}
    metric = "share of samples in which the pixel checker finds every requested object, its colour and place, and nothing else"
    return Measured(
        metric, value, max(wrong, chance), "the larger of: the same samples for another prompt, and chance", True, others, pictures
    )


def measure_layout(loaded: LoadedModel, outdir: Path, count: int) -> Measured:
    """Overlap of requested boxes with those of the detected objects."""
    scenes, batch = held_out(loaded, count)
    images = sample(loaded, batch, count, scenes.size, seed=0)

    def overlaps(images: Tensor, order: Tensor, by_class: bool = True) -> Tensor:
        every = find_all(images)
        return torch.tensor(
            [layout_iou(batch["boxes"][j], batch["box_labels"][j], found, by_class) for found, j in zip(every, order.tolist(), strict=True)]
        )

    own, other = torch.arange(count), of_another(count)
    ious = overlaps(images, own)
    others = {
        "samples": count,
        "standard_error": standard_error(ious),
        "share_of_layouts_above_0.5": mean((ious > 0.5).float()),
        "any_class": mean(overlaps(images, own, by_class=False)),
        "any_class_other_layout": mean(overlaps(images, other, by_class=False)),
        "checker_real": mean(overlaps(batch["image"], own)),
        "checker_reconstructions": mean(overlaps(reconstructed(loaded, batch["image"]), own)),
    }
    metric = (
        "mean intersection over union of requested boxes with objects of their class that the pixel checker finds, 0 where there is none"
    )
    pictures = {"Samples with the requested boxes": show(scenes, images, outdir / "layout.png")}
    return Measured(metric, mean(ious), mean(overlaps(images, other)), "the same samples for another scene's boxes", True, others, pictures)


def measure_semantic(loaded: LoadedModel, outdir: Path, count: int) -> Measured:
    """Agreement of the requested label map with that of the sample."""
    scenes, batch = held_out(loaded, count)
    asked = batch["segmentation"]
    images = sample(loaded, batch, count, scenes.size, seed=0)

    def maps(images: Tensor) -> Tensor:
        return torch.stack([found_map(found, tuple(asked.shape[1:])) for found in find_all(images)])

    found, other = maps(images), asked[of_another(count)]
    agreement = pixel_agreement(asked, found)
    nothing, wrong = mean(pixel_agreement(asked, torch.zeros_like(asked))), mean(pixel_agreement(other, found))
    others = {
        "samples": count,
        "standard_error": standard_error(agreement),
        "other_map": wrong,
        "all_background": nothing,
        "on_objects": mean(object_agreement(asked, found)),
        "on_objects_other_map": mean(object_agreement(other, found)),
        "checker_real": mean(pixel_agreement(asked, maps(batch["image"]))),
        "checker_reconstructions": mean(pixel_agreement(asked, maps(reconstructed(loaded, batch["image"])))),
        "checker_reconstructions_on_objects": mean(object_agreement(asked, maps(reconstructed(loaded, batch["image"])))),
    }
    metric = "share of pixels whose class, of 25, is the requested one, by the pixel checker"
    baseline = "the larger of: the same samples for another scene's map, and all background"
    pictures = {"Samples and their label maps": show(scenes, images, outdir / "semantic.png")}
    return Measured(metric, mean(agreement), max(nothing, wrong), baseline, True, others, pictures)
