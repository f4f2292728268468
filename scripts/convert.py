"""Convert a model between this project, CompVis/latent-diffusion and diffusers, weight by weight and exactly."""

import argparse
import copy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import run_script  # noqa: E402
from ldm.config import Trust, build  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.files import save_weights, write_text  # noqa: E402
from ldm.interop import compvis, diffusers  # noqa: E402
from ldm.interop.compvis import export, state  # noqa: E402
from ldm.latent_diffusion import LatentDiffusion  # noqa: E402
from ldm.loading import first_stage_source, load_strictly  # noqa: E402
from ldm.sources import PRETRAINED, Source, read_source, unwrap  # noqa: E402

EXAMPLES = """
examples
  a released checkpoint, with its YAML beside it, for this project and then for diffusers
    python scripts/convert.py models/ldm/celeba256/model.ckpt celeba.safetensors --to ldm
    python scripts/convert.py celeba.safetensors celeba-diffusers --to diffusers
  a run of one's own for the original code
    python scripts/convert.py logs/<run> exported --to compvis

exit codes: 0 converted; 2 cannot be converted, with the reason; 3 a file is missing
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", metavar="IN", help="a run folder, weights (.safetensors), a CompVis .ckpt, or a diffusers folder")
    p.add_argument("target", metavar="OUT", type=Path, help="ldm: a .safetensors file or a folder; compvis, diffusers: a folder")
    p.add_argument("--to", required=True, choices=["ldm", "compvis", "diffusers"], help="what to write")
    p.add_argument("--config", metavar="YAML", help="of a CompVis checkpoint (default: config.yaml beside it)")
    p.add_argument("--raw", action="store_true", help="diffusers: the weights as they were trained instead of their average (EMA)")
    p.add_argument("--size", type=int, help="diffusers: image size of the pipeline (default: that of the training data, if known)")
    p.add_argument("--first-stage", metavar="FILE", help="use this first stage instead of the one the weights name")
    flags = p.parse_args(arguments)
    if flags.target.exists() and (flags.target.is_file() or any(flags.target.iterdir())):
        raise UserError(f"{flags.target}: is there already; expected a new name or an empty folder")
    source = whole(read_source(flags.source, flags.config, full=True), flags.first_stage)
    write = {"ldm": to_ldm, "compvis": to_compvis, "diffusers": to_diffusers}[flags.to]
    notes = [*source.notes, *write(source, flags)]
    count = sum(value.numel() for value in source.weights.tensors.values())
    sys.stdout.write(f"{len(source.weights.tensors)} tensors, {count / 1e6:.2f} M numbers: {source.path} -> {flags.target}\n")
    sys.stdout.writelines(f"note: {note}\n" for note in notes)
    return 0


def whole(source: Source, first_stage: str | None) -> Source:
    """A model with its first stage inside, whose config says so."""
    if not source.stage_two:
        return source
    node = copy.deepcopy(source.node)
    stage = node["params"]["first_stage"]
    if stage.get("target") == PRETRAINED:
        path = first_stage or source.trained_with.get("path") or (stage.get("params") or {}).get("checkpoint")
        if not path:
            raise UserError(f"{source.path}: its first stage is not named: give it with --first-stage")
        inner = first_stage_source(path)
        node = unwrap(node) if (stage["params"] or {}).get("model") else {**node, "params": {**node["params"], "first_stage": inner.node}}
        expected = source.trained_with.get("sha256")
        tensors = inner.weights.chosen()
        from ldm.files import fingerprint

        if expected and fingerprint(tensors) != expected:
            raise UserError(f"{path}: not the first stage that {source.path} was trained with (its SHA-256 differs)")
        source.weights.tensors |= {f"first_stage.{name}": value for name, value in tensors.items()}
    elif first_stage:
        raise UserError(f"--first-stage: {source.path} has its first stage inside")
    config = copy.deepcopy(source.config)
    config["model"]["params"]["model"] = node
    source.config, source.trained_with = config, {}
    return source


def to_ldm(source: Source, flags: argparse.Namespace) -> list[str]:
    """One safetensors file with everything: averaged and raw weights, the loss of a first stage, the config in its header."""
    path = flags.target
    if path.suffix != ".safetensors":
        path = path / "checkpoints" / f"step-{max(source.step, 0)}.safetensors"
        write_text(flags.target / "config.yaml", yaml.safe_dump(source.config, sort_keys=False, allow_unicode=True))
    metadata: dict[str, Any] = {"ldm_checkpoint": 1, "step": source.step, "config": source.config, "ema": source.weights.ema}
    save_weights(path, source.weights.tensors, metadata)
    return []


def built(source: Source, raw: bool) -> Any:
    """The model itself, with its weights."""
    model = build(source.node, Trust(), "model")
    load_strictly(model, source.weights.chosen(raw), source.path)
    return model.eval()


def to_compvis(source: Source, flags: argparse.Namespace) -> list[str]:
    """`model.ckpt` and `config.yaml`, as the original code reads them."""
    with torch.device("meta"):
        model = build(source.node, Trust(), "model")
    params = source.config["model"]["params"]
    if isinstance(model, LatentDiffusion):
        if source.node["params"].get("scale") != "std":
            constant(source, params)
        size = latent_size(source, model)
        tree = export.latent_diffusion(source.node, params.get("objective"), bool(source.weights.ema), size)
        tensors = state.to_state(model, source.weights)
    else:
        tree = export.first_stage(source.node)
        tensors = state.first_stage_to_state(model, source.weights)
    compvis.write_state(flags.target / "model.ckpt", tensors, max(source.step, 0))
    text = yaml.safe_dump({"model": plain(tree)}, sort_keys=False, allow_unicode=True)
    write_text(flags.target / "config.yaml", text)
    return []


def constant(source: Source, params: dict[str, Any]) -> None:
    """Where the scale is no buffer of theirs, its value stands in their config."""
    scale = source.weights.tensors.get("scale")
    if scale is not None and abs(float(scale) - float(source.node["params"].get("scale", 1.0))) > 1e-6 * abs(float(scale)):
        params["model"]["params"]["scale"] = float(scale)


def latent_size(source: Source, model: LatentDiffusion) -> int:
    """Of training, if the config still knows it."""
    size = image_size(source.config)
    return 256 // model.first_stage.factor if size is None else size // model.first_stage.factor


def image_size(config: Mapping[str, Any]) -> int | None:
    """Side of the training images, if the config says it."""
    data = ((config.get("data") or {}).get("params") or {}).get("train") or {}
    size = (data.get("params") or {}).get("size") if isinstance(data, dict) else None
    return int(size) if size else None


def plain(value: Any) -> Any:
    """Lists and mappings that YAML writes without tags."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, Tensor) else value


def to_diffusers(source: Source, flags: argparse.Namespace) -> list[str]:
    """A folder that diffusers' own classes load."""
    model = built(source, flags.raw)
    return diffusers.write_folder(model, source.node, flags.target, flags.size or image_size(source.config))


if __name__ == "__main__":
    sys.exit(run_script(main))
