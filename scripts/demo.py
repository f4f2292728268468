"""Run a demo: train both stages with main.py, sample, measure, and write a page."""

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ldm.cli import Parser, run_script  # noqa: E402
from ldm.cli.parser import integer  # noqa: E402
from ldm.config import literal  # noqa: E402

TITLES = {"digits": "Handwritten digits, by class", "text": "Coloured shapes, by caption"}
NOT_USED = "LPIPS and the patch discriminator are disabled in the demos, because their weights would have to be downloaded"


def parser() -> Parser:
    """The command line."""
    p = Parser(__doc__)
    p.add_argument("demo", choices=["digits", "text", "forms"], help="digits by class, shapes by caption, or shapes by UNet, flow and DiT")
    p.add_argument("--outdir", help="where to write (default: outputs/demo, outputs/demo-text or outputs/demo-forms)")
    p.add_argument(
        "--n", "--samples", type=integer(40), default=1000, help="samples to measure; for text, per kind of prompts (default: 1000)"
    )
    p.add_argument("overrides", nargs="*", default=[], metavar="key.sub=value", help="passed on to both training commands")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    from demos.digits import measure_digits
    from demos.forms import compare_forms
    from demos.run import load_run, setting, train
    from demos.text import measure_text
    from ldm.cli.job import output_folder
    from ldm.evaluation.page import write_page
    from ldm.system.files import write_text

    outdir = output_folder(flags.outdir or {"digits": "outputs/demo"}.get(flags.demo, f"outputs/demo-{flags.demo}"))
    if flags.demo == "forms":
        compare_forms(outdir, flags.n, flags.overrides)
        return 0
    first, first_seconds = train(f"{flags.demo}-first-stage", outdir / "logs", flags.overrides, then=[flags.demo])
    second, second_seconds = train(flags.demo, outdir / "logs", [*flags.overrides, f"paths.first_stage={literal(first)}"])
    loaded = load_run(second)
    begun = time.perf_counter()
    measure = measure_digits if flags.demo == "digits" else measure_text
    results, numbers, pictures = measure(loaded, outdir, flags.n)
    summary = {
        "training_seconds": round(first_seconds + second_seconds, 1),
        "first_stage_seconds": round(first_seconds, 1),
        "second_stage_seconds": round(second_seconds, 1),
        "sampling_and_measuring_seconds": round(time.perf_counter() - begun, 1),
        **results,
        **setting(loaded),
        "first_stage_run": str(first),
        "run": str(second),
        "not_used": NOT_USED,
    }
    write_text(outdir / "summary.json", json.dumps(summary, indent=2) + "\n")
    timing = ("training_seconds", f"{summary['training_seconds']:.0f}", "wall time of both training commands, start-up included")
    intro = f"The images on this page are samples of a latent diffusion model that was just trained from two YAML files. {NOT_USED}."
    runs = {"first stage": first, "second stage": second}
    write_page(outdir / "index.html", TITLES[flags.demo], intro, [timing, *numbers], pictures, runs)
    sys.stdout.write("\n".join(f"{name:<24}{value:<10}{how}" for name, value, how in [timing, *numbers]) + "\n")
    sys.stdout.write(f"see {outdir / 'index.html'}, {outdir / 'samples.png'} and {outdir / 'summary.json'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))
