"""Estimated cost of training and sampling a row on one A100.

If table 18 prints a row's compute or speed, that is used. Otherwise the model's operations are counted and divided by the rate of a
printed row: table 18's CelebA-HQ row for stage two, its VQGAN-f4 row for first stages.
"""

from dataclasses import dataclass
from functools import cache

from ldm.check.cost import BACKWARD
from paper.commands import points
from paper.sizes import config_of, work
from paper.tables import Row, Table, table

V100_PER_A100 = 2.2  # days, as the paper converts (App. E.3.5)
SECONDS = 86400
ANCHOR, FIRST_STAGE_ANCHOR = "celebahq-ldm4", "vq-f4"


@dataclass(frozen=True)
class Cost:
    """Days of one A100, and how they were estimated."""

    days: float
    how: str

    def text(self) -> str:
        """As printed in plans."""
        amount = f"{self.days:.3g} A100-days" if self.days >= 1 else f"{24 * self.days:.2g} A100-hours"
        return f"{amount} ({self.how})"


def evaluation_work(row: Row) -> int:
    """Operations of one sampling step for one image, including guidance."""
    size = int(row.sampling.get("size", 256))
    one = work(row.config, size)
    if "guide_scale" in row.sampling:  # the gradient goes through network and decoder
        return BACKWARD * (one.network + one.decode)
    guided = 2 if row.sampling.get("scale", 1.0) != 1.0 else 1
    classifier = BACKWARD * work(row.classifier).network if row.classifier else 0
    return guided * one.network + classifier


def sampling_work(row: Row) -> int:
    """Operations for one image: all steps and the decoder; for a first stage, one reconstruction."""
    one = work(row.config, int(row.sampling.get("size", 256)))
    return one.network if not row.sampling else int(row.sampling["steps"]) * evaluation_work(row) + one.decode


def training_work(config: str) -> int:
    """Operations of a config's training."""
    data = config_of(config).data
    one = work(config)
    per_image = BACKWARD * one.network + (one.encode if "model" in data["model"]["params"] else 0)
    return int(data["trainer"]["params"]["steps"]) * int(data["data"]["params"]["batch_size"]) * per_image


@cache
def training_rate(anchor: str) -> float:
    """Operations per A100-second of a printed training."""
    row = table("18").find(anchor)
    return training_work(row.config) / (row.paper["generator_compute"] / V100_PER_A100 * SECONDS)


@cache
def sampling_rate() -> float:
    """Operations per A100-second of the printed sampling of the CelebA-HQ row."""
    row = table("18").find(ANCHOR)
    return sampling_work(row) * row.paper["throughput"]


def training_cost(row: Row) -> Cost:
    """Cost of training a row's model, without its first stage and starting weights."""
    if known := next((other for other in table("18").rows if other.config == row.config), None):
        days = known.paper["generator_compute"]
        return Cost(days / V100_PER_A100, f"table 18 prints {days:g} V100-days, at {V100_PER_A100} per A100-day")
    anchor = FIRST_STAGE_ANCHOR if row.config.startswith("first_stage/") else ANCHOR
    operations = training_work(row.config)
    rate = training_rate(anchor)
    return Cost(operations / rate / SECONDS, f"{operations:.2g} operations at the {rate / 1e12:.3g} TFLOP/s of table 18's {anchor}")


def training_costs(row: Row) -> list[Cost]:
    """Cost of training a row's model and its classifier."""
    if not row.classifier:
        return [training_cost(row)]
    days = next(other.paper["classifier_compute"] for other in table("18").rows if other.classifier == row.classifier)
    how = f"the classifier: table 18 prints {days:g} V100-days, at {V100_PER_A100} per A100-day"
    return [training_cost(row), Cost(days / V100_PER_A100, how)]


def sampling_cost(of: Table, row: Row) -> Cost:
    """Cost of all samples of a protocol; for a figure, of all points."""
    count = of.protocol_of(row).samples
    same = [other for other in table("18").rows if (other.row, other.config, other.sampling) == (row.row, row.config, row.sampling)]
    if same and "throughput" in same[0].paper:
        speed = same[0].paper["throughput"]
        return Cost(count / speed / SECONDS, f"{count} images at the {speed:g} images/s that table 18 prints")
    at = points(of, row)
    operations = count * sum(sampling_work(point) for point, _ in at)
    rate = sampling_rate()
    many = f"{len(at)} times " if len(at) > 1 else ""
    how = f"{many}{count} images, {operations:.2g} operations at the {rate / 1e12:.3g} TFLOP/s of table 18's {ANCHOR}"
    return Cost(operations / rate / SECONDS, how)
