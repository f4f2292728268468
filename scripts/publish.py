"""Make a folder to give away out of a trained run: model card, weights, config, samples, metrics, and where possible a diffusers folder.

The folder holds everything that the model needs, and nothing of this machine: no paths and no names of folders but those of classes.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.cli import Parser, run_script  # noqa: E402

EXAMPLES = """
examples
  python scripts/publish.py logs/<run> published/flowers --license cc-by-4.0 --description "Flowers of one garden, 64x64."
  python scripts/publish.py logs/<run> published/flowers --overwrite --samples outputs/flowers/grid.png
  hf upload USER/flowers published/flowers                   gives it away on the Hugging Face hub

Metrics are those that lie in the run as *record*.json, each with its protocol:
  python scripts/evaluate.py outputs/samples logs/<run> --metrics fid --out logs/<run>/record.json

exit codes: 0 written; 2 cannot be published, with the reason; 3 a file is missing
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("run", metavar="RUN", type=Path, help="a run folder of stage one or two")
    p.add_argument("out", metavar="OUT", type=Path, help="the folder to write: new, or empty")
    p.add_argument("--name", metavar="TEXT", help="of the model (default: the name of OUT)")
    p.add_argument("--license", metavar="TEXT", help="as apache-2.0, cc-by-4.0, openrail, or your own words (default: unknown)")
    p.add_argument("--description", metavar="TEXT", help="what the model makes and what it was trained on, as Markdown")
    p.add_argument("--samples", metavar="IMAGE", type=Path, help="picture for the card (default: the last one that training drew)")
    p.add_argument("--tokenizer", metavar="NAME", help="hub name of the text encoder, where the config has a folder of this machine")
    p.add_argument("--first-stage", metavar="FILE", help="use this first stage instead of the one the weights name")
    p.add_argument("--raw", action="store_true", help="the weights as they were trained instead of their average (EMA)")
    p.add_argument("--no-diffusers", action="store_true", help="do not write the diffusers folder, which holds the weights once more")
    p.add_argument("--unfinished", action="store_true", help="also publish a run that has not done all its steps")
    p.add_argument("--overwrite", action="store_true", help="replace a folder that this command wrote before")
    p.add_trust()
    flags = p.parse_args(arguments)
    from ldm.cli.publish import publish

    return publish(flags)


if __name__ == "__main__":
    sys.exit(run_script(main))
