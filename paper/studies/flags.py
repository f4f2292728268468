"""Flags of the studies."""

import argparse

from paper.studies.settings import CODE_STEPS, CODED, FACTORS, Study

STUDIES = ("compression", "rate-distortion")


def add_flags(p: argparse.ArgumentParser) -> None:
    """The studies' own flags; without --study they have no effect."""
    own = p.add_argument_group("studies (--study)")
    own.add_argument("--scale", choices=["demo"], default="demo", help="how large; demo: procedural scenes at 32x32 (the only one)")
    own.add_argument("--outdir", metavar="DIR", help="where to write (default: outputs/reproduce/STUDY)")
    own.add_argument("--seconds", type=float, default=Study.seconds, help=f"of training of a second stage (default: {Study.seconds:g})")
    own.add_argument(
        "--first-steps", type=int, default=Study.first_steps, help=f"of training of a first stage (default: {Study.first_steps})"
    )
    own.add_argument("--samples", type=int, default=Study.samples, help=f"of every measurement (default: {Study.samples})")
    known = ",".join(map(str, FACTORS))
    own.add_argument("--factors", default=known, metavar="F,...", help=f"models of the compression study (default: {known})")
    own.add_argument("--code-images", type=int, default=CODED, help=f"of rate-distortion (default: {CODED})")
    own.add_argument("--code-steps", type=int, default=CODE_STEPS, help=f"of its code, at most T (default: {CODE_STEPS})")
