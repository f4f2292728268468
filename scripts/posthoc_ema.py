"""Compute the average of any length from the snapshots of a run, after training (EDM2)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import run_script  # noqa: E402
from ldm.cli.flags import Parser  # noqa: E402
from ldm.errors import MissingFile, UserError  # noqa: E402

FEW = 8
EXAMPLES = """
example: train with model.params.posthoc_sigma_rels="[0.05, 0.1]", then
  python scripts/posthoc_ema.py logs/<run> average-0.15.safetensors --sigma-rel 0.15
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("run", metavar="RUN", type=Path, help="a run folder with snapshots (checkpoints/posthoc/)")
    p.add_argument("target", metavar="OUT", type=Path, help="weights file to write (.safetensors)")
    p.add_argument(
        "--sigma-rel",
        "--length",
        type=float,
        required=True,
        help="length of the average relative to the run, such as 0.1: standard deviation of its profile (--length: its former name)",
    )
    p.add_argument("--step", type=int, help="where the average ends (default: the last snapshot)")
    flags = p.parse_args(arguments)
    import torch

    from ldm.system.run_folder import newest_weights, step_of
    from ldm.system.weights import read_metadata, read_weights, save_weights
    from ldm.training.posthoc import coefficients

    files = {step_of(path): path for path in (flags.run / "checkpoints" / "posthoc").glob("step-*.safetensors")}
    end = max(files, default=-1) if flags.step is None else flags.step
    files = {step: path for step, path in sorted(files.items()) if step <= end}
    if end not in files:
        raise MissingFile(f"{flags.run}/checkpoints/posthoc: no snapshot of step {end}; train with model.params.posthoc_sigma_rels")
    if flags.target.exists():
        raise UserError(f"{flags.target}: already exists")
    profiles = {step: read_metadata(path) for step, path in files.items()}
    lengths = [float(length) for length in profiles[end]["lengths"]]
    files = {step: path for step, path in files.items() if profiles[step]["lengths"] == lengths}
    snapshots = [(int(profiles[step]["updates"]), length) for step in files for length in lengths]
    try:
        weights = coefficients(snapshots, int(profiles[end]["updates"]), flags.sigma_rel)
    except ValueError as error:
        raise UserError(f"--sigma-rel: {error}") from error
    if len(files) < FEW:
        sys.stderr.write(f"note: {len(files)} snapshots are few for a sigma_rel far from {lengths}: save more often (checkpoint_every)\n")
    total: dict[str, torch.Tensor] = {}
    for row, path in zip(weights.reshape(len(files), len(lengths)), files.values(), strict=True):
        for name, value in read_weights(path)[0].items():
            i, _, parameter = name.partition(".")
            total[parameter] = total.get(parameter, torch.zeros(())) + float(row[int(i)]) * value.double()
    base, metadata = read_weights(newest_weights(flags.run))
    averaged = base | {name: value.to(base[name].dtype) for name, value in total.items()}
    save_weights(flags.target, averaged, {**metadata, "step": end, "posthoc_length": flags.sigma_rel})
    sys.stdout.write(f"average with sigma_rel {flags.sigma_rel} at step {end} from {len(files)} snapshots of {lengths}: {flags.target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
