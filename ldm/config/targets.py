"""Which names a config may build: an allowed list, because a config can come from a stranger."""

import difflib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ALLOWED = ("ldm", "torch.optim", "torch.nn", "pytorch_lightning.callbacks", "pytorch_lightning.loggers")


@dataclass(frozen=True)
class Trust:
    """The packages whose classes and functions a config may name.

    Attributes:
        packages: dotted prefixes; `--trust` adds to them.
    """

    packages: tuple[str, ...] = ALLOWED

    def covers(self, name: str) -> bool:
        return any(name == package or name.startswith(package + ".") for package in self.packages)

    def resolve(self, target: str) -> Callable[..., Any]:
        """The class or function behind a dotted name.

        Raises:
            ValueError: not allowed, or not there; the message says what was expected or meant.
        """
        if not self.covers(target):
            root = target.split(".")[0]
            raise ValueError(f"{target!r} is not in an allowed package ({', '.join(self.packages)}); --trust {root} admits it")
        parts = target.split(".")
        if any(part.startswith("_") for part in parts):
            raise ValueError(f"{target!r} is private")
        module, rest = self._module(parts)
        found: Any = module
        for name in rest:
            if not hasattr(found, name):
                public = getattr(found, "__all__", None) or [n for n in dir(found) if not n.startswith("_")]
                raise ValueError(f"{getattr(found, '__name__', found)} has no {name!r}{did_you_mean(name, public)}")
            found = getattr(found, name)
        if not (inspect.isclass(found) or inspect.isroutine(found)):
            raise ValueError(f"{target!r} is a {type(found).__name__}, expected a class or function")
        # An attribute path can leave the package through something it imported; what counts is where the thing lives.
        home = getattr(found, "__module__", None) or ""
        if not self.covers(home):
            raise ValueError(f"{target!r} belongs to {home or 'nowhere'}, which is not an allowed package")
        return found  # type: ignore[no-any-return]

    @staticmethod
    def _module(parts: list[str]) -> tuple[Any, list[str]]:
        """The longest importable prefix, and what is left of the path."""
        module, used = importlib.import_module(parts[0]), 1
        for end in range(2, len(parts) + 1):
            name = ".".join(parts[:end])
            try:
                module, used = importlib.import_module(name), end
            except ModuleNotFoundError as error:
                if error.name != name:
                    raise ValueError(f"{name} cannot be imported: {error}") from error
                break
        return module, parts[used:]


def did_you_mean(name: str, known: Any) -> str:
    """ "; did you mean 'x'?" if something close is known."""
    close = difflib.get_close_matches(name, list(map(str, known)), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
