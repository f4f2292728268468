"""Tables of names, for both directions: what each tensor of ours is called in another program's files, and how it is stored there.

A program has prefixes, which number the blocks of a module as it does, and rules for what follows a prefix. Converting moves
values and never computes any, so that no bit is lost.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ldm.errors import UserError
from ldm.nn.conv import Downsample, Upsample
from ldm.nn.weights import mismatch

Rules = Sequence[tuple[str, str]]  # (regular expression for ours, their replacement)
_BLOCK = r"blocks\.(\d+)\."
TRANSFORMER_BLOCKS = (  # the same names in CompVis and diffusers
    (_BLOCK + r"self_attention\.([qkv])", r"transformer_blocks.\1.attn1.to_\2"),
    (_BLOCK + r"self_attention\.out", r"transformer_blocks.\1.attn1.to_out.0"),
    (_BLOCK + r"cross_attention\.([qkv])", r"transformer_blocks.\1.attn2.to_\2"),
    (_BLOCK + r"cross_attention\.out", r"transformer_blocks.\1.attn2.to_out.0"),
    (_BLOCK + r"feed_forward\.inner", r"transformer_blocks.\1.ff.net.0.proj"),
    (_BLOCK + r"feed_forward\.out", r"transformer_blocks.\1.ff.net.2"),
    (_BLOCK + "(norm[123])", r"transformer_blocks.\1.\2"),
)


def levels(stack: nn.Sequential, first: int = 0, change: int = 1) -> Iterator[tuple[int, int, int | None]]:
    """Index of each part of an autoencoder's half, its level, and its block there; None for what changes the resolution."""
    level, block = first, 0
    for i, module in enumerate(stack):
        if isinstance(module, Downsample | Upsample):
            yield i, level, None
            level, block = level + change, 0
        else:
            yield i, level, block
            block += 1


@dataclass(frozen=True)
class Entry:
    """One tensor of ours in their files.

    Attributes:
        names: its name there, or the names of the tensors it is divided into.
        store: ours -> theirs, one per name.
        load: theirs -> ours.
    """

    names: tuple[str, ...]
    store: Callable[[Tensor], Sequence[Tensor]] = lambda value: (value,)
    load: Callable[[Sequence[Tensor]], Tensor] = lambda pieces: pieces[0]


Table = dict[str, Entry]  # by our names


def renamed(name: str, prefixes: Mapping[str, str], rules: Rules) -> str:
    """Their name of a tensor: its longest prefix is replaced, and the components after it that a rule matches.

    Raises:
        ValueError: no rule matches.
    """
    start = max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default="")
    rest = name[len(start) :]
    if start and (not rest or rest.startswith(".")):
        return prefixes[start] + rest
    for ours, theirs in rules:
        found, count = re.subn(rf"\A(?:{ours})(?=\.|\Z)", theirs, rest)
        if count:
            return prefixes.get(start, "") + found
    raise ValueError(f"no name for {name}")


def below(table: Table, ours: str, theirs: str) -> Table:
    """The table of a part in that of a model: a prefix before our names, and one before theirs."""
    return {ours + name: replace(entry, names=tuple(theirs + there for there in entry.names)) for name, entry in table.items()}


def store(table: Table, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names."""
    return {name: piece for ours, entry in table.items() for name, piece in zip(entry.names, entry.store(tensors[ours]), strict=True)}


def take(table: Table, own: Mapping[str, Tensor], left: dict[str, Tensor], misfit: str, everything: bool = False) -> dict[str, Tensor]:
    """Their tensors under our names.

    Args:
        table: the names.
        own: tensors of our shapes, on the meta device too.
        left: theirs; those that are used are removed.
        misfit: start of the message for tensors that do not match.
        everything: none may be left.

    Raises:
        UserError: names that are missing or left over, or the first tensor of another shape.
    """
    expected = store(table, own)
    found = {name: _shaped(left.pop(name), value) for name, value in expected.items() if name in left}
    if wrong := mismatch(found | left if everything else found, expected):
        raise UserError(f"{misfit}: {wrong}")
    return {ours: entry.load([found[name] for name in entry.names]) for ours, entry in table.items()}


def _shaped(value: Tensor, expected: Tensor) -> Tensor:
    """A linear map may be stored as a convolution with a kernel of size 1, and the reverse."""
    same = value.numel() == expected.numel() and value.shape[:2] == expected.shape[:2]
    return value.reshape(expected.shape) if same else value
