"""Settings of a part in another program's config."""

from collections.abc import Mapping
from typing import Any

from ldm.errors import UserError

Node = dict[str, Any]


class Settings:
    """A mapping that has to be read to its last key.

    Args:
        where: whose settings they are, for messages.
        values: the mapping.
    """

    def __init__(self, where: str, values: Mapping[str, Any] | None) -> None:
        self.where, self.left = where, dict(values or {})

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, which counts as read; their default if it is missing."""
        return self.left.pop(key, default)

    def require(self, key: str) -> Any:
        """The value of a key.

        Raises:
            UserError: it is missing.
        """
        if key not in self.left:
            raise UserError(f"{self.where}: params has no {key!r}")
        return self.left.pop(key)

    def expect(self, key: str, *allowed: Any) -> None:
        """Require a value whose meaning this project has; the first is their default.

        Raises:
            UserError: any other value.
        """
        value = self.left.pop(key, allowed[0])
        if value not in allowed:
            raise self.wrong(key, value, " or ".join(map(repr, allowed)))

    def ignore(self, *keys: str) -> None:
        """Read keys that change nothing here."""
        for key in keys:
            self.left.pop(key, None)

    def wrong(self, key: str, value: Any, expected: str) -> UserError:
        """The error for a value that is not supported."""
        return UserError(f"{self.where}: {key}={value!r} is not supported, expected {expected}")

    def done(self) -> None:
        """Require that every key was read, because what an unknown one changes is unknown too.

        Raises:
            UserError: names the others.
        """
        if self.left:
            raise UserError(f"{self.where}: unknown parameter {', '.join(map(repr, self.left))}")
