"""Find and read text files and folders; messages about missing ones suggest similar names."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from ldm.errors import MissingFile, UserError
from ldm.system.terminal import printable

MAX_COMPARED = 10000  # names among which similar ones are searched, which is slow


def require(path: Path, what: str) -> Path:
    """Check that a path exists.

    Raises:
        MissingFile: it does not.
    """
    if not path.exists():
        raise MissingFile(f"{what} {str(path)!r}: does not exist{path_hint(path)}; put it there or set its path")
    return path


def first_of(root: Path, names: Sequence[str], what: str) -> Path:
    """The first existing path of several.

    Raises:
        MissingFile: none exists; the message names all.
    """
    for name in names:
        if (root / name).exists():
            return root / name
    similar = next(filter(None, (path_hint(root / name) for name in names)), "")
    raise MissingFile(f"{what}: no {' and no '.join(names)} in {str(root)!r}{similar}; put it there or set the path")


def hint(name: str, names: Iterable[str]) -> str:
    """ " (photos exists)": an existing name that differs from a missing one in its case, suffix or folder, or is similar; or ""."""
    existing, wanted = {normalized(one): one for one in sorted(names)}, normalized(name)
    same_stem = [one for one in existing if PurePosixPath(one).stem == PurePosixPath(wanted).stem]
    compared = same_stem or list(existing)
    similar = get_close_matches(wanted, compared, 1, 0.0 if same_stem else 0.75) if len(compared) <= MAX_COMPARED else []
    return f" ({printable(existing[similar[0]])} exists)" if similar else ""


def path_hint(path: Path) -> str:
    """The `hint` for a missing path."""
    try:
        return hint(path.name, os.listdir(path.parent))
    except OSError:
        return ""


def normalized(name: str, fold_case: bool = True) -> str:
    """A name with normalised Unicode, and without differences of case."""
    composed = unicodedata.normalize("NFC", name)
    return composed.casefold() if fold_case else composed


def is_text(name: str) -> bool:
    """Whether a name is valid UTF-8; file names need not be."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_list(path: Path) -> list[tuple[int, str]]:
    """Non-empty lines of a list file with their numbers.

    Raises:
        MissingFile: no such file.
        UserError: not text, or empty.
    """
    require(path, "list of images")
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    if not lines:
        raise UserError(f"{path}: an empty list of images")
    return lines


def read_text(path: Path) -> str:
    """A text file: see `decoded`.

    Raises:
        UserError: another encoding.
    """
    try:
        return decoded(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: {error}: save it as UTF-8") from error


def decoded(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark, with "\\n" as line break.

    Raises:
        ValueError: anything else.
    """
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error})") from error
    if "\0" in text:
        raise ValueError("not UTF-8 text (it has zeros, like UTF-16 without a byte order mark)")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
