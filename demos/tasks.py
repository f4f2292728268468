"""Every task of the paper in ten minutes: which config, which first stage, and how it is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from demos.conditions import measure_caption, measure_class, measure_layout, measure_semantic
from demos.measured import Measured
from demos.restoration import measure_inpaint, measure_superres
from ldm.checkpoint.load import LoadedModel

SCENES, PICTURES = "text-first-stage", "pictures-first-stage"


@dataclass(frozen=True)
class Task:
    """Name of a config in configs/demo, of its first stage's, and what measures it: (model, folder, number of samples)."""

    title: str
    first_stage: str
    measure: Callable[[LoadedModel, Path, int], Measured]


TASKS = {
    "class": Task("Class to image", SCENES, measure_class),
    "text": Task("Text to image", SCENES, measure_caption),
    "layout": Task("Layout to image", SCENES, measure_layout),
    "semantic": Task("Semantic map to image", SCENES, measure_semantic),
    "superres": Task("Super-resolution", PICTURES, measure_superres),
    "inpaint": Task("Inpainting", PICTURES, measure_inpaint),
}
# What ten minutes do not do, for `--only`.
LONGER = {"inpaint-long": Task("Inpainting, trained longer", PICTURES, partial(measure_inpaint, name="inpaint-long"))}
