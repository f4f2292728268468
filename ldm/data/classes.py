"""Names of classes: as a run keeps them, and the indices that they stand for."""

import difflib
import logging
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

log = logging.getLogger(__name__)
NAMED = {"label": "label", "box_labels": "boxes"}  # conditions that are classes -> the key of their names
SHOWN = 4  # names in a message
LONGEST = 18  # letters of a number or range


def class_names(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names in the order of their indices, by key ("label", "boxes", "segmentation"), as `classes:` of a config has them."""
    found = config.get("classes")
    named = found.items() if isinstance(found, Mapping) else ()
    return {str(key): [str(name) for name in names] for key, names in named if isinstance(names, list)}


class Classes:
    """The classes of one key.

    Args:
        count: number of classes.
        names: in the order of their indices, or with their indices; empty if there are none.
    """

    def __init__(self, count: int, names: Sequence[str] | Mapping[str, int] = ()) -> None:
        self.count = count
        pairs = names.items() if isinstance(names, Mapping) else zip(names[:count], range(count), strict=False)
        self.names: dict[int, str] = {}
        self._indices: dict[str, list[int]] = {}
        for name, index in pairs:
            self.names.setdefault(index, name)
            self._indices.setdefault(_normal(name), []).append(index)

    def index(self, value: Any, text: bool = False) -> int:
        """The index of a class that is given by number or name.

        Args:
            value: a number, or a string, which is a name before it is a number.
            text: whether strings are text without a type, such as a line of a file: then it is a number if one fits.

        Raises:
            ValueError: no such class.
        """
        if isinstance(value, str):
            number = int(value) if value.strip().isdecimal() and len(value) <= LONGEST else None
            fits = text and number is not None and number < self.count
            named = None if fits else self._named(value)
            if named is None and number is None:
                raise ValueError(self._unknown(value))
            value = number if named is None else named
        if type(value) is not int or not 0 <= value < self.count:
            raise ValueError(f"there are classes 0 to {self.count - 1}")
        return value

    def listed(self, text: str) -> list[int]:
        """ "0,3,7-9" or "dog,tabby cat" -> indices; a part is a name only if it is no number or range of these classes.

        Raises:
            ValueError: a class that does not exist.
        """
        parts = text.split(",")
        if not all(_fits(_numbers(part), self.count) for part in parts) and (whole := self._named(text)) is not None:
            return [whole]
        return [index for part in parts for index in self._part(part)]

    def as_flag(self, most: int) -> list[str]:
        """`--classes` with the first `most` classes: their names where each of them stands for its class, else their numbers."""
        first = range(min(most, self.count))
        names = [self.names.get(index, "") for index in first]
        try:
            named = all(self.listed(name) == [index] for index, name in enumerate(names))
        except ValueError:
            named = False
        if not named or any(name.startswith(("-", "~", "$")) for name in names):  # read as flags or home folders
            return ["--classes", "0" if len(first) == 1 else f"0-{first[-1]}"]
        if any("," in name for name in names):
            return [word for name in names for word in ("--classes", name)]
        return ["--classes", ",".join(names)]

    def _part(self, part: str) -> Sequence[int]:
        numbers = _numbers(part)
        if numbers is not None and _fits(numbers, self.count):
            also = self._indices.get(_normal(part), [])
            if also and numbers[0] not in also:
                meant = self.names.get(numbers[0], "without a name")
                log.warning("--classes %s is class number %d (%s); the class of that name is %d", part.strip(), numbers[0], meant, also[0])
            return numbers
        named = self._named(part)
        if named is not None:
            if not 0 <= named < self.count:
                raise ValueError(f"there are classes 0 to {self.count - 1}")
            return [named]
        if numbers is not None:
            raise ValueError(f"there are classes 0 to {self.count - 1}" + (", and none has this name" if self.names else ""))
        raise ValueError(self._unknown(part) if self.names else "expected numbers like 0,3,7-9: the model has no names of classes")

    def _named(self, name: str) -> int | None:
        """The index of a name, None if there is no such name.

        Raises:
            ValueError: several classes have it.
        """
        found = self._indices.get(_normal(name), [])
        if len(found) > 1:
            raise ValueError(f"classes {', '.join(map(str, found[:SHOWN]))} have the name {name.strip()!r}: give the number")
        return found[0] if found else None

    def _unknown(self, name: str) -> str:
        """What is wrong with a name, and near ones."""
        if not self.names:
            return f"there are classes 0 to {self.count - 1}"
        wanted, known = _normal(name).casefold(), {_normal(one).casefold(): one for one in self.names.values()}
        inside = [one for folded, one in known.items() if wanted and (wanted in folded or folded in wanted)]
        near = dict.fromkeys([*(known[one] for one in difflib.get_close_matches(wanted, known, SHOWN)), *inside])
        if near:
            return f"no class has the name {name.strip()!r}; did you mean {' or '.join(map(repr, list(near)[:SHOWN]))}?"
        some = ", ".join(map(repr, list(self.names.values())[:SHOWN])) + (" ..." if len(self.names) > SHOWN else "")
        return f"no class has the name {name.strip()!r}; there are {some}, or numbers from 0 to {self.count - 1}"


def _normal(name: str) -> str:
    """A name as it is compared: folders of macOS store an accent beside its letter."""
    return unicodedata.normalize("NFC", name).strip()


def _numbers(text: str) -> range | None:
    """ "3" or "7-9" as a range, None for other text."""
    low, dash, high = text.strip().partition("-")
    if not low.isdecimal() or (dash and not high.isdecimal()) or len(text) > LONGEST or int(high or low) < int(low):
        return None
    return range(int(low), int(high or low) + 1)


def _fits(numbers: range | None, count: int) -> bool:
    return numbers is not None and numbers.stop <= count
