"""Sample images from a trained model: unconditional, class-conditional or text-conditional."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import run_script, script_parser  # noqa: E402
from ldm.cli.asked import classes_and_prompts  # noqa: E402
from ldm.cli.flags import add_condition_flags, add_guider_flags, add_set_flags, add_size_flags, add_start_flags, number  # noqa: E402
from ldm.cli.job import Job  # noqa: E402
from ldm.cli.sets import make_set  # noqa: E402
from ldm.cli.steer import check_latent, steering_from_flags  # noqa: E402
from ldm.loading import load_classifier  # noqa: E402

EXAMPLES = """
examples
  python scripts/sample.py logs/<run> --n 16
  python scripts/sample.py logs/<run> --n 20 --classes 0,1,2 --scale 2 --steps 25
  python scripts/sample.py logs/<run> --prompt "a red circle on the left" --prompt "a blue square" --n 8
  python scripts/sample.py logs/<run> --height 512 --width 1024 --window 256       larger than trained, in windows
  python scripts/sample.py logs/<run> --init photo.jpg --strength 0.6              begin with a noised photograph
  python scripts/sample.py logs/<run> --height 512 --width 512 --guide small.png   samples that look like small.png when reduced
  python scripts/sample.py logs/<run> --classes 3 --classifier logs/<classifier run> --classifier-scale 10
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("--n", "--n_samples", type=int, default=16, help="images in all (default: 16)")
    add_condition_flags(p)
    add_size_flags(p)
    add_start_flags(p)
    p.add_argument("--guide", metavar="IMAGE", help="steer towards this image: samples are reduced to its size and compared with it")
    add_guider_flags(p, scale=1.0)
    p.add_argument("--classifier", metavar="RUN", help="guide by this classifier on noisy latents (a run folder or its weights)")
    p.add_argument("--classifier-scale", type=number, default=1.0, help="of classifier guidance (default: 1; the paper's LDM-8-G: 10)")
    add_set_flags(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_args(arguments)
    job = Job.open(flags)
    size = job.size()
    classifier = None
    if flags.classifier is not None:
        classifier = load_classifier(flags.classifier, job.loaded, flags.allow_other_first_stage, flags.raw)
        check_latent(job, classifier, size)
    asked = classes_and_prompts(flags, job.model, classifier.classes if classifier else 0)
    return make_set(job, asked, flags.n, size, steering_from_flags(job, size, classifier))


if __name__ == "__main__":
    sys.exit(run_script(main))
