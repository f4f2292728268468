"""Convert a model between this project, CompVis/latent-diffusion, DiT and its relatives, and diffusers, exactly."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.parser import pixels  # noqa: E402
from ldm.config import AllowedTargets  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
examples
  a released checkpoint, with its YAML beside it, for this project and then for diffusers
    python scripts/convert.py models/ldm/celeba256/model.ckpt celeba.safetensors --to ldm
    python scripts/convert.py celeba.safetensors celeba-diffusers --to diffusers
  a run of one's own for the original code
    python scripts/convert.py logs/<run> exported --to compvis
  a released SiT, which needs a config of ours and its autoencoder; and back to its own names
    python scripts/convert.py SiT.pt sit.safetensors --to ldm --config configs/dit/imagenet-sit-xl2-256.yaml --first-stage sd-vae-ft-ema
    python scripts/convert.py sit.safetensors SiT.pt --to dit

exit codes: 0 converted; 2 cannot be converted, with the reason; 3 a file is missing
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("source", metavar="IN", help="a run folder, weights (.safetensors), a CompVis .ckpt, a DiT .pt, or a diffusers folder")
    p.add_argument("target", metavar="OUT", type=Path, help="ldm, dit: a file or a folder; compvis, diffusers: a folder")
    p.add_argument("--to", required=True, choices=["ldm", "compvis", "dit", "diffusers"], help="what to write")
    p.add_argument("--config", metavar="YAML", help="of a CompVis or DiT checkpoint (default: config.yaml beside it)")
    p.add_argument("--raw", action="store_true", help="diffusers: the weights as they were trained instead of their average (EMA)")
    p.add_argument("--size", type=pixels, help="diffusers: image size of the pipeline (default: that of the training data, if known)")
    p.add_argument("--first-stage", metavar="FILE", help="use this first stage instead of the one the weights name")
    p.add_argument("--tokenizer", metavar="DIR", help="folder of a text model's BERT tokenizer, or of its CLIP or T5 encoder")
    p.add_trust()
    flags = p.parse_args(arguments)
    if flags.target.exists() and (flags.target.is_file() or any(flags.target.iterdir())):
        raise UserError(f"{flags.target}: already exists; expected a new name or an empty folder")
    if (flags.raw or flags.size) and flags.to != "diffusers":
        raise UserError("--raw and --size go with --to diffusers: the other two forms keep averaged and raw weights, and any size")
    from ldm.checkpoint.convert import to_compvis, to_diffusers, to_dit, to_ldm, with_first_stage
    from ldm.checkpoint.read import read_source
    from ldm.checkpoint.source import set_text_source

    trust = AllowedTargets(tuple(flags.trust))
    source = read_source(flags.source, flags.config, full=True, tokenizer=flags.tokenizer)
    source = source if flags.to == "dit" else with_first_stage(source, flags.first_stage, trust)
    if flags.tokenizer is not None:
        set_text_source(source.node["params"].get("conditioner"), flags.tokenizer, source.path)
    if flags.to == "diffusers":
        notes = to_diffusers(source, flags.target, flags.raw, flags.size, trust)
    elif flags.to == "ldm":
        notes = to_ldm(source, flags.target)
    else:
        notes = to_compvis(source, flags.target, trust) if flags.to == "compvis" else to_dit(source, flags.target, trust)
    count = sum(value.numel() for value in source.weights.tensors.values())
    sys.stdout.write(f"{len(source.weights.tensors)} tensors, {count / 1e6:.2f} M numbers: {source.path} -> {flags.target}\n")
    sys.stdout.writelines(f"note: {note}\n" for note in [*source.notes, *notes])
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
