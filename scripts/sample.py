"""Sample images from a trained model, few or 50 000, on one or several devices.

Image i depends on the settings and i alone. The command can be stopped at any moment: the same command continues it. More than
1000 images go into subfolders of 1000.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script, script_parser  # noqa: E402
from ldm.cli.flags import add_condition_flags, add_guider_flags, add_set_flags, add_size_flags, add_start_flags  # noqa: E402
from ldm.cli.parser import count, number  # noqa: E402
from ldm.errors import UserError  # noqa: E402

EXAMPLES = """
examples
  python scripts/sample.py logs/<run> --n 16
  python scripts/sample.py logs/<run> --n 20 --classes 0,1,2 --scale 2 --steps 25
  python scripts/sample.py logs/<run> --classes "tabby cat,dog"                    by name; repeat the flag for a name with a comma
  python scripts/sample.py logs/<run> --prompt "a red circle on the left" --prompt "a blue square" --n 8
  python scripts/sample.py logs/<run> --n 50000 --classes balanced --npz --outdir outputs/50k        on all GPUs
  python scripts/sample.py logs/<run> --from-file captions.txt --device cpu --processes 4            a caption per line
  python scripts/sample.py logs/<run> --from-file metadata.jsonl --device cuda:0,cuda:2              captions, labels, boxes, maps
  python scripts/sample.py logs/<run> --height 512 --width 1024 --window 256       larger than in training, in tiles
  python scripts/sample.py logs/<run> --init photo.jpg --strength 0.6              start from a noised photograph
  python scripts/sample.py logs/<run> --height 512 --width 512 --guide small.png   samples that look like small.png when reduced
  python scripts/sample.py logs/<run> --classes 3 --classifier logs/<classifier run> --classifier-scale 10
"""


def parser() -> Parser:
    """The command line."""
    p = script_parser(__doc__, EXAMPLES)
    p.add_argument("--n", "--n_samples", type=count, help="images in all (default: 16, or one for each line of --from-file)")
    add_condition_flags(p, more="; balanced: all, each equally often")
    p.add_argument(
        "--from-file",
        metavar="FILE",
        help="the condition of each image, used in turn: a text file with a caption or class per line, "
        "or .jsonl (or a list in .json) of objects with what the model reads of caption, label, boxes, segmentation (a file)",
    )
    p.add_argument(
        "--names", metavar="FILE", help='names of the boxes\' classes (default: the run\'s): JSON {"name": index} or ["name", ...]'
    )
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
    from ldm.cli.condition_file import conditions_from_rows, read_rows
    from ldm.cli.condition_flags import conditions_from_flags
    from ldm.cli.job import Job
    from ldm.cli.layouts import read_names
    from ldm.cli.sets import sample_set

    rows = None if flags.from_file is None else read_rows(flags.from_file)
    if flags.n is None:
        flags.n = 16 if rows is None else len(rows)
    job = Job.open(flags)
    size = job.size()
    if rows is None:
        conditions = conditions_from_flags(flags, job.model, job.classes())
        if flags.classes == ["balanced"] and flags.n % (known := len({one.entries["label"] for one in conditions})):
            raise UserError(f"--classes balanced: {flags.n} images are not the same number of each of {known} classes")
    elif flags.classes is not None or flags.prompts is not None:
        raise UserError("--from-file says what the images show: give it, or --classes and --prompt")
    else:
        conditions = conditions_from_rows(rows, flags.from_file, job, size, read_names(flags.names) or job.names("boxes"))
    return sample_set(job, conditions, size, flags.n)


if __name__ == "__main__":
    sys.exit(run_script(main))
