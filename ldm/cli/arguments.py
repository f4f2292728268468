"""The command line of `main.py`; torch is not needed to say that a flag is wrong."""

import argparse

from ldm.config.overrides import home
from ldm.system.shell import as_installed, program_name

DESCRIPTION = "Train a latent diffusion model from YAML, or check a config before any device starts."
EXAMPLES = """
examples
  check a config, without a GPU and without training
    python main.py --base configs/ldm/celebahq-ldm4.yaml --check
  stage one, then stage two on top of it
    python main.py --base configs/demo/digits-first-stage.yaml --train
    python main.py --base configs/demo/digits.yaml --train paths.first_stage=logs/<stage one's run>
  change a value; merge two configs, the later one wins
    python main.py --base a.yaml b.yaml --train data.params.batch_size=32 trainer.params.devices=2
  continue a run that was stopped
    python main.py --resume logs/<run>

exit codes: 0 all is well; 2 a wrong config, flag or file; 3 only files that the config names are missing;
130 stopped by Ctrl-C (the run was saved)
"""


SEED = 23
LOGS = "logs"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog=program_name(),
        description=DESCRIPTION,
        epilog=as_installed(EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("-b", "--base", nargs="+", type=home, action="extend", default=[], metavar="YAML", help="configs, merged left to right")
    p.add_argument("-t", "--train", action="store_true", help="train")
    p.add_argument("-r", "--resume", metavar="RUN", type=home, help="continue a run folder (or one of its checkpoints) with its own config")
    p.add_argument("-n", "--name", help="name of the run; the first config's name without it")
    p.add_argument("-s", "--seed", type=int, help=f"of weights, data order and noise (default: the config's, else {SEED})")
    p.add_argument("-l", "--logdir", default=LOGS, type=home, metavar="DIR", help=f"where run folders go (default: {LOGS})")
    p.add_argument("--check", action="store_true", help="validate, count parameters, read a batch, run one narrow step; no training")
    p.add_argument("--no-check", action="store_true", help="train without the check that otherwise comes first")
    p.add_argument("--json", metavar="FILE", type=home, help="with --check: write the findings there as well")
    p.add_argument("--print-config", action="store_true", help="show the merged, resolved config and end")
    p.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="let configs name classes of this package too")
    p.add_argument("--allow-env", action="append", default=[], metavar="NAME", help="let configs read this environment variable")
    p.add_argument("--first-stage", metavar="FILE", type=home, help="use this first stage (run folder or weights) instead of the config's")
    p.add_argument("--allow-other-first-stage", action="store_true", help="with --resume: accept another one than in training")
    p.add_argument("--gpus", metavar="LIST", help="old form of trainer.params.devices")
    p.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes to the config, after all files")
    return p


def gpu_list(text: str) -> str:
    """ "0,1" or "0," -> "[0, 1]"; "2" -> 2 devices."""
    return f"[{','.join(part for part in text.split(',') if part)}]" if "," in text else text
