"""Look at the data of a config before training: how much there is, what is in it, what is broken, and a picture of it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ldm.system.threads import choose_waiting  # noqa: E402

choose_waiting()

from tqdm import tqdm  # noqa: E402

from ldm.cli import run_script  # noqa: E402
from ldm.cli.data import open_data  # noqa: E402
from ldm.cli.flags import Parser  # noqa: E402
from ldm.config import AllowedTargets  # noqa: E402
from ldm.data import Mixed  # noqa: E402
from ldm.data.batch import check_sample  # noqa: E402
from ldm.data.order import kinds, spread  # noqa: E402
from ldm.data.reading import Reading  # noqa: E402
from ldm.data.sources.tasks import WithTask  # noqa: E402
from ldm.errors import UserError  # noqa: E402
from ldm.evaluation.draw import Names, sheet  # noqa: E402
from ldm.evaluation.inventory import Inventory  # noqa: E402
from ldm.system.files import save_png, write_text  # noqa: E402
from ldm.system.terminal import printable  # noqa: E402

EXAMPLES = """
examples
  the data of a training config; the model in it is not built
    python scripts/inspect_data.py --base configs/demo/text.yaml
  only a data config, with a folder of your own
    python scripts/inspect_data.py --base configs/data/coco-boxes256.yaml paths.coco=my/coco
  read every file, to find all that are broken
    python scripts/inspect_data.py --base configs/own/ldm.yaml paths.images=my/photos --limit 0

what it writes: OUTDIR/train.png and validation.png (samples with their boxes, label maps, masks and captions as a model would get
them), OUTDIR/broken.txt (every file or line that was left out, with the reason) and, where classes have names, train-classes.txt and
validation-classes.txt (which index stands for which; folders count in the order of their names as text, 10 before 9). An official
CompVis YAML can be given, too.
exit codes: 0 done; 2 a wrong config or flag, or data that cannot be used; 3 files that the config names are missing
"""
SHOWN = 10  # broken files; all of them go into broken.txt
LISTED = 20  # classes; all of them go into train-classes.txt and validation-classes.txt


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(__doc__, EXAMPLES)
    p.add_argument("-b", "--base", nargs="+", action="extend", required=True, metavar="YAML", help="configs, merged left to right")
    p.add_argument("--n", type=int, default=16, help="samples in the picture (default: 16)")
    p.add_argument("--limit", type=int, default=1000, help="samples to read, spread over the set; 0 reads all (default: 1000)")
    p.add_argument("--outdir", default="outputs/inspect", help="where to write (default: outputs/inspect)")
    p.add_argument("--trust", action="append", default=[], metavar="PACKAGE", help="let configs name classes of this package too")
    p.add_argument("overrides", nargs="*", metavar="key.sub=value", help="changes to the config, after all files")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    flags = parser().parse_intermixed_args(arguments)
    overrides = [w for w in flags.base if "=" in w and not Path(w).is_file()] + flags.overrides
    if stray := [w for w in flags.overrides if "=" not in w]:
        raise UserError(f"{stray[0]!r}: expected key.sub=value (configs go behind --base)")
    if flags.n < 1 or flags.limit < 0:
        raise UserError(f"--n {flags.n} --limit {flags.limit}: expected at least 1, and 0 or more")
    data, _ = open_data([w for w in flags.base if w not in overrides], overrides, AllowedTargets(tuple(flags.trust)))
    outdir, broken = Path(flags.outdir), []
    for name, dataset in (("train", data.train), ("validation", data.validation)):
        if dataset is not None:
            broken += inspect(name, dataset, flags.n, flags.limit, outdir)
    write_text(outdir / "broken.txt", "".join(line + "\n" for line in broken))
    sys.stdout.write(f"pictures and broken.txt ({len(broken)} lines) are in {outdir}\n")
    return 0


def inspect(name: str, dataset: Any, n: int, limit: int, outdir: Path) -> list[str]:
    """Print what a data set holds and draw some of it; returns what is broken."""
    files = sources(dataset)
    names: Names = {key: known for one in files for key, known in getattr(one, "class_names", {}).items()}
    left_out = [line for one in files for line in getattr(one, "broken", ())]
    found, shown = Inventory(), []
    chosen = spread(len(dataset), max(limit or len(dataset), n), kinds(dataset))
    wanted = set(chosen[:n])
    for i in tqdm(sorted(chosen), desc=name, unit="sample", disable=None, leave=False):
        sample = read(dataset, i)
        found.add(sample, None if "skipped" in sample else stored_size(dataset, i))
        shown += [sample] if i in wanted and "skipped" not in sample else []
    broken = left_out + found.broken
    title = f"{name}: {' and '.join(type(one).__name__ for one in files)}, {len(dataset)} samples, {len(left_out)} entries left out"
    text = [title, f"  read          {len(chosen)}, of which {len(found.broken)} cannot be read", *found.lines(names)]
    text += [f"  classes       {of}{indexed(known, LISTED)}" for of, known in names_of(names)]
    text += [f"  broken        {line}" for line in broken[:SHOWN]]
    text += [f"  broken        and {len(broken) - SHOWN} more, in broken.txt"] if len(broken) > SHOWN else []
    sys.stdout.write("\n".join(map(printable, text)) + "\n")
    if names:
        lines = [f"{of}{i}\t{printable(one)}" for of, known in names_of(names) for i, one in enumerate(known)]
        write_text(outdir / f"{name}-classes.txt", "\n".join(lines) + "\n")
    picture = sheet(shown, names) if shown else None
    if picture is not None:
        save_png(outdir / f"{name}.png", picture)
    return [printable(f"{name}: {line}") for line in broken]


def names_of(names: Names) -> list[tuple[str, Sequence[str]]]:
    """What the classes are of, in words ("", "of boxes: "), and their names in the order of their indices."""
    return [("" if key == "label" else f"of {key}: ", known) for key, known in names.items()]


def indexed(names: Sequence[str], most: int) -> str:
    """ "0 is 1, 1 is 10, 2 is 9": which index stands for which class, or folder of one."""
    said = [f"{i} is {one}" for i, one in enumerate(names[:most])]
    return ", ".join(said) + (f" and {len(names) - most} more, in the file of classes" if len(names) > most else "")


def read(dataset: Any, index: int) -> dict[str, Any]:
    """A sample that meets the batch schema.

    Raises:
        UserError: it does not; names the key and what was expected.
    """
    try:
        sample: dict[str, Any] = dataset[index]
        check_sample({key: value for key, value in sample.items() if key != "skipped"}, type(dataset).__name__)
    except ValueError as error:
        raise UserError(f"sample {index}: {error}") from error
    return sample


def sources(dataset: Any) -> list[Any]:
    """The data sets that read the files, below those that mix them or add masks or degradations."""
    inside = dataset.sets if isinstance(dataset, Mixed) else [dataset.images] if isinstance(dataset, WithTask) else []
    return [source for one in inside for source in sources(one)] if inside else [dataset]


def stored_size(dataset: Any, index: int) -> tuple[int, int] | None:
    """Width and height of a sample's stored picture, where that is known."""
    if isinstance(dataset, WithTask):
        return stored_size(dataset.images, index)
    if isinstance(dataset, Mixed):
        return stored_size(*dataset.find(index))
    return dataset.original_size(index) if isinstance(dataset, Reading) else None


if __name__ == "__main__":
    sys.exit(run_script(main))
