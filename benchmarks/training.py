"""Training speed of the real configs on generated images: images/s, peak memory, share of the matmul ceiling.

    python benchmarks/training.py                      # on a GPU: full size, 200 steps each
    python benchmarks/training.py --tiny --steps 4     # anywhere: narrow networks, to see that it runs

Weights are random (the first stage's and VGG's too): they cost the same. The ceiling is this device's own bf16 matrix
product, measured at the start; FLOPs are counted by PyTorch on one step, matrix products and convolutions only.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ldm.check import Report, without_checkpoints  # noqa: E402
from ldm.check.shrink import shrink  # noqa: E402
from ldm.config import AllowedTargets, build, load, validate  # noqa: E402
from ldm.rng import StepRNG, generator  # noqa: E402
from ldm.sampling.generate import to_device  # noqa: E402
from ldm.system.files import write_text  # noqa: E402
from ldm.training import DataModule, TrainerSettings  # noqa: E402
from ldm.training.run import fit  # noqa: E402

CASES = {"configs/ldm/celebahq-ldm4.yaml": 48, "configs/first_stage/vq-f4.yaml": 8}


class Generated(Dataset[dict[str, Any]]):
    """Noise images, so that no data is needed."""

    def __init__(self, size: int) -> None:
        self.images = torch.rand(64, 3, size, size, generator=generator("benchmark")) * 2 - 1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "id": str(index)}


def synchronise(device: torch.device) -> None:
    """Wait for the device, where it runs ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def matmul_ceiling(device: torch.device, n: int) -> float:
    """Best bf16 matrix product of n x n, in FLOP/s."""
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(20):
        synchronise(device)
        begun = time.perf_counter()
        a @ a
        synchronise(device)
        best = min(best, time.perf_counter() - begun)
    return 2 * n**3 / best


def count_flops(module: Any, dataset: Generated, batch_size: int, device: torch.device) -> int:
    """FLOPs of one training step, counted on one image and multiplied."""
    module.manual_backward = lambda loss: loss.backward()
    batch = to_device({"image": dataset.images[:1], "id": ["0"]}, device)
    with FlopCounterMode(display=False) as counter:
        module.update(batch, StepRNG(0, 0, batch["id"]))
    module.zero_grad(set_to_none=True)
    del module.manual_backward
    return int(counter.get_total_flops()) * batch_size


def measure(path: str, batch_size: int, steps: int, tiny: bool, device: torch.device, ceiling: float) -> dict[str, Any]:
    """Train a config for some steps; images/s is the median over reports after the first quarter."""
    config = load([ROOT / path])
    if problems := validate(config, AllowedTargets()):
        raise SystemExit("\n".join(map(str, problems)))
    node = without_checkpoints(config.data["model"], "model", Report())
    module = build(shrink(node) if tiny else node, AllowedTargets(), "model")
    if getattr(getattr(module, "loss", None), "perceptual", None) is not None:
        module.loss.perceptual.loaded = True  # random VGG weights
    module.to(device)
    dataset = Generated(64 if tiny else 256)
    flops = count_flops(module, dataset, batch_size, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    settings = TrainerSettings(
        steps=steps,
        devices=1,
        accelerator=device.type,
        precision="bf16-mixed",
        log_every=max(1, steps // 20),
        images_every=0,
        validate_every=0,
        checkpoint_every=10 * steps,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(module, DataModule(batch_size, dataset), settings, Path(folder), {"config": config.data, "first_stage": None}, 0)
        rows = (Path(folder) / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("images_per_second")
    speeds = [float(row.split(",")[column]) for row in rows[1:]]
    speed = statistics.median(speeds[len(speeds) // 4 :])
    return {
        "config": path,
        "batch": batch_size,
        "steps": steps,
        "images_per_second": round(speed, 2),
        "peak_memory_GiB": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device.type == "cuda" else None,
        "TFLOP_per_step": round(flops / 1e12, 3),
        "share_of_matmul_ceiling": round(flops * speed / batch_size / ceiling, 3),
    }


def main() -> None:
    """Print a table and write it as JSON."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--tiny", action="store_true", help="narrow networks, small images, batch 2")
    p.add_argument("--json", default="outputs/benchmark-training.json")
    flags = p.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ceiling = matmul_ceiling(device, 8192 if device.type == "cuda" else 1024)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    results = {"device": name, "torch": torch.__version__, "tiny": flags.tiny, "matmul_ceiling_TFLOP_per_s": round(ceiling / 1e12, 2)}
    rows = [measure(path, 2 if flags.tiny else batch, flags.steps, flags.tiny, device, ceiling) for path, batch in CASES.items()]
    results["cases"] = rows
    write_text(Path(flags.json), json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
