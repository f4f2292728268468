"""The user study of Tab. 4 (App. E.3.6): which pairs a subject sees, how votes are kept, and what they say.

Two-alternative forced choice after SR3: the degraded image is shown between two others for 3 seconds, then the subject must choose.
Task 1 compares a method with the ground truth, task 2 with another method. The paper does not state how many subjects and images
it had.
"""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from ldm.errors import MissingFile, UserError
from ldm.evaluation.runs import read_lines
from ldm.rng import derive
from ldm.system.files import append_line, writing
from ldm.system.image_files import MARKED, open_image

QUESTIONS = {
    "superres": "Which of the two images is a better high quality version of the low resolution image in the middle?",
    "inpainting": "Which of the two images contains more realistic inpainted regions of the image in the middle?",
}
TRUTH = "ground truth"
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True)
class Trial:
    """One pair to decide: file of the degraded image, and name and file of the images at its left and right."""

    pair: str
    middle: Path
    left: tuple[str, Path]
    right: tuple[str, Path]


class UserStudy:
    """Which trials every subject gets. They follow from the seed, so a study that was stopped can be continued.

    Args:
        kind: "superres" or "inpainting".
        conditions: folder of the degraded images.
        methods: folder of each method; images are matched by file name without suffix.
        truth: folder of the ground truth: with it this is task 1, without it task 2, which takes two methods.
        seconds: for which a pair is shown.
        seed: of order and sides.

    Raises:
        MissingFile: a folder or an image is missing.
        UserError: a wrong number of methods or names; images that cannot be read, or images of a pair that differ in size.
    """

    def __init__(
        self, kind: str, conditions: Path, methods: Mapping[str, Path], truth: Path | None, seconds: float = 3.0, seed: int = 0
    ) -> None:
        if truth is None and len(methods) != 2:
            raise UserError(f"task 2 compares two methods, got {len(methods)}")
        if not methods or TRUTH in methods:
            raise UserError(f"--method: expected at least one NAME=DIR, and no name {TRUTH!r}")
        self.kind, self.task, self.seconds, self.seed = kind, 2 if truth is None else 1, seconds, seed
        self.conditions = images_in(conditions)
        folders = {name: images_in(folder) for name, folder in methods.items()}
        compared = [tuple(folders)] if truth is None else [(name, TRUTH) for name in folders]
        if truth is not None:
            folders[TRUTH] = images_in(truth)
        for name, files in folders.items():
            if lacking := sorted(self.conditions.keys() - files.keys()):
                raise MissingFile(f"{name}: no image named {lacking[0]} ({len(lacking)} of {len(self.conditions)} are missing)")
        self.files = folders
        for stem, path in self.conditions.items():
            size_of(path)
            sizes = {size_of(files[stem]): files[stem] for files in folders.values()}
            if len(sizes) > 1:  # the subject would recognize the sharper one
                told = ", ".join(f"{file} is {w}x{h}" for (w, h), file in sizes.items())
                raise UserError(f"images of a pair must be of one size: {told}")
        self.pairs = {f"{kind}, {a} / {b}: {stem}": (stem, a, b) for stem in self.conditions for a, b in compared}  # type: ignore[misc]

    def order(self, subject: str) -> list[str]:
        """All pairs in the order in which a subject sees them."""
        return sorted(self.pairs, key=lambda pair: derive(self.seed, "order", subject, pair))

    def trial(self, subject: str, pair: str) -> Trial:
        """A pair with random sides, always the same for this subject."""
        stem, a, b = self.pairs[pair]
        if derive(self.seed, "side", subject, pair) % 2:
            a, b = b, a
        return Trial(pair, self.conditions[stem], (a, self.files[a][stem]), (b, self.files[b][stem]))


def images_in(folder: Path) -> dict[str, Path]:
    """Images of a folder by file name without suffix.

    Raises:
        MissingFile: there is no such folder, or no image in it.
        UserError: two images have the same name.
    """
    if not folder.is_dir():
        raise MissingFile(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in TYPES:
            if path.stem in found:
                raise UserError(f"{path}: {found[path.stem].name} has the same name; images are matched by name without suffix")
            found[path.stem] = path
    if not found:
        raise MissingFile(f"{folder}: no images ({', '.join(TYPES)})")
    return found


def size_of(path: Path) -> tuple[int, int]:
    """Width and height; a UserError if it is not a picture."""
    try:
        with open_image(path, MARKED) as picture:
            return picture.size
    except OSError as error:
        raise UserError(f"{path}: not a picture ({error})") from error


@dataclass(frozen=True)
class Vote:
    """A line of the votes file."""

    time: str
    subject: str
    task: int
    kind: str
    pair: str
    left: str
    right: str
    chosen: str
    shown_seconds: float
    answered_seconds: float


class Votes:
    """An append-only file of votes, one JSON object per line; a vote that was accepted is on the disk.

    Args:
        path: of the file; votes in it count. A path that cannot be written is an error now, not at the first vote.
        seconds: for which pairs are shown.

    Raises:
        UserError: the file has something else, or votes on pairs that were shown for another time.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.lock = path, threading.Lock()
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            open(path, "ab").close()
        votes = read_votes(path)
        if other := [vote.shown_seconds for vote in votes if vote.shown_seconds != seconds]:
            raise UserError(f"{path}: has votes on pairs that were seen for {other[0]:g} seconds, not {seconds:g}: name another --votes")
        self.seen = {(vote.subject, vote.pair) for vote in votes}

    def add(self, vote: Vote) -> bool:
        """Write a vote; False if this subject has decided this pair before, whose first vote counts."""
        with self.lock:
            if (vote.subject, vote.pair) in self.seen:
                return False
            append_line(self.path, json.dumps(asdict(vote)), durable=True)
            self.seen.add((vote.subject, vote.pair))
            return True


def read_votes(path: Path) -> list[Vote]:
    """The votes of a file, without incomplete lines, which were never accepted.

    Where a subject has several votes on one pair (two servers with one file), the first counts.

    Raises:
        MissingFile: there is no such file.
        UserError: a line is JSON but not a vote.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such file of votes")
    votes: dict[tuple[str, str], Vote] = {}
    for number, content in enumerate(read_lines(path)[0], start=1):
        try:
            vote = Vote(**content)
            if vote.chosen not in (vote.left, vote.right) or not isinstance(vote.shown_seconds, int | float):
                raise TypeError(f"chosen {vote.chosen!r} of {vote.left!r} and {vote.right!r}, shown for {vote.shown_seconds!r} seconds")
            votes.setdefault((vote.subject, vote.pair), vote)
        except TypeError as error:
            raise UserError(f"{path}, entry {number}: not a vote ({error})") from error
    return list(votes.values())


@dataclass(frozen=True)
class Share:
    """How often a method was preferred to the other image (`rival`), with the 95 % Wilson interval of that share."""

    task: int
    kind: str
    method: str
    rival: str
    wins: int
    votes: int
    subjects: int
    low: float
    high: float


def shares(votes: Sequence[Vote]) -> list[Share]:
    """The rows of Tab. 4: every method compared with the ground truth, or two methods with each other.

    Raises:
        UserError: pairs were shown for different times, so this is not one study.
    """
    if len(times := sorted({vote.shown_seconds for vote in votes})) > 1:
        raise UserError(f"the votes are of pairs shown for {', '.join(f'{t:g}' for t in times)} seconds: that is more than one study")
    groups: dict[tuple[Any, ...], list[Vote]] = {}
    for vote in votes:
        for method, rival in ((vote.left, vote.right), (vote.right, vote.left)):
            if method != TRUTH:
                groups.setdefault((vote.task, vote.kind, method, rival), []).append(vote)
    found = []
    for (task, kind, method, rival), group in sorted(groups.items()):
        wins = sum(vote.chosen == method for vote in group)
        interval = binomtest(wins, len(group)).proportion_ci(method="wilson")
        subjects = len({vote.subject for vote in group})
        found.append(Share(task, kind, method, rival, wins, len(group), subjects, interval.low, interval.high))
    return found
