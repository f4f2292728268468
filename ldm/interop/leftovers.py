"""Entries of checkpoints that are not weights: one rule for all readers of other programs' files."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ldm.errors import UserError

WRAPPERS = ("module", "_orig_mod")  # how DataParallel and torch.compile call what they wrap, wherever in a name
_PREFIXES = " and ".join(f"{word}." for word in WRAPPERS)
_WRAPPED = re.compile(rf"(?<![^.])(?:{'|'.join(WRAPPERS)})\.")
# Tables of noise schedules, of a sampler's steps, of positions; counters. None of them is learned.
_TABLES = re.compile(
    r"(?:.*\.)?(?:ddim_\w+|position_ids|betas|alphas|(?:log_)?sigmas|lvlb_weights|posterior_\w+|attn_mask"
    r"|(?:\w+_)?alphas_cumprod(?:_prev)?)"
)
_COUNTERS = re.compile(r"(?:.*\.)?(?:decay|num_updates|global_step|num_timesteps|n_averaged)")
# Averages of a part that is used as it was trained: their programs do not read them either.
_AVERAGES = re.compile(r"(?:first_stage_model\.|cond_stage_model\.)?model_ema\..*")


def tensors_of(content: Mapping[Any, Any], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a state dict, without the prefixes of wrappers; and notes on what was removed.

    Entries that are not tensors, such as numbers and strings, are ignored.

    Raises:
        UserError: containers with tensors inside, or two entries that become one.
    """
    state: dict[str, Tensor] = {}
    others: list[str] = []
    wrapped = 0
    for key, value in content.items():
        if not isinstance(value, Tensor):
            if _holds_tensors(value):
                raise UserError(f"{source}: {key!r} is a {type(value).__name__} with tensors inside, expected tensors by name")
            others.append(str(key))
            continue
        name = _unwrapped(str(key))
        wrapped += name != str(key)
        if name in state:
            raise UserError(f"{source}: {key} and another entry are both {name} without {_PREFIXES}")
        state[name] = value.detach()
    notes = [f"ignored entries that are not tensors: {', '.join(others[:4])}"] if others else []
    notes += [f"removed {_PREFIXES} from {wrapped} names"] if wrapped else []
    return state, notes


def _unwrapped(name: str) -> str:
    name = _WRAPPED.sub("", name)
    if name.startswith("model_ema."):  # an average's name is its parameter's without dots
        for word in WRAPPERS:
            name = name.replace(word, "")
    return name


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    return isinstance(value, Tensor) or (isinstance(value, list | tuple) and any(map(_holds_tensors, value)))


def drop_bookkeeping(left: dict[str, Tensor], averages: bool = False) -> list[str]:
    """Remove from the unused entries of a checkpoint everything that is not a weight; returns the names.

    Args:
        left: changed in place; what stays is unknown.
        averages: also averages of weights, where the part is used as it was trained.
    """
    dropped = [name for name, value in left.items() if _is_bookkeeping(name, value) or (averages and _AVERAGES.fullmatch(name))]
    for name in dropped:
        del left[name]
    return dropped


def _is_bookkeeping(name: str, value: Tensor) -> bool:
    return bool(_TABLES.fullmatch(name) or (value.numel() == 1 and _COUNTERS.fullmatch(name)))


def note_on(dropped: list[str]) -> list[str]:
    """The note on what was left out; an empty list if nothing was."""
    return [f"left out {len(dropped)} keys that are not used here: {', '.join(dropped[:4])}"] if dropped else []
