"""A data set: skies that are brighter the nearer it is to noon."""

import math

import torch
from torch.utils.data import Dataset

from ldm.data.batch import Sample
from ldm.rng import generator


class Skies(Dataset[Sample]):
    def __init__(self, size: int = 8, count: int = 240) -> None:
        self.size, self.count = size, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        hour = index % 24
        light = -0.8 * math.cos(hour / 24 * 2 * math.pi)
        clouds = 0.1 * torch.rand(1, self.size, self.size, generator=generator("sky", index))
        return {"image": (light + clouds).clamp(-1, 1), "hour": hour, "id": f"sky-{index}"}
