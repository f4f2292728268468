"""Changes of the config of a resumed run: an override takes effect, or is refused by name."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from ldm.config import AllowedTargets, Config, build
from ldm.errors import UserError

Node = Any
OPTIMIZER, SCHEDULER = "model.params.optimizer", "model.params.scheduler"
IN_THE_CHECKPOINT = {  # pattern of paths -> why another value would have no effect
    "name": "a resumed run keeps its folder and its name",
    "model": "the checkpoint is of another kind of training",
    "model.params.start*": "a resumed run has its own weights",
    "model.params.model.params.scale": "the latents' scale is part of the checkpoint",
    "model.params.model.params.mean": "the latents' mean is part of the checkpoint",
    "model.params.ema_of": "the averages in the checkpoint are of other parameters",
    "model.params.train_conditioner": "the optimizer's state in the checkpoint is of other parameters",
    OPTIMIZER: "the optimizer's state in the checkpoint is of another kind",
    f"{OPTIMIZER}.partial": "an optimizer is built by the run",
}
FROM_THE_CONFIG = (  # rebuilt from the config, with nothing of the checkpoint but weights
    "seed",  # compared with the checkpoint's separately
    *("trainer*", "data*", "callbacks*", "loggers*", "sampling*", "evaluation*", "paths*"),
    *(
        "model.params.ema_decay",
        "model.params.posthoc_sigma_rels",
        "model.params.preview*",
        "model.params.objective*",
        "model.params.loss*",
    ),
    *("model.params.autoencoder*", "model.params.classifier*", "model.params.first_stage*", "model.params.process*"),
    *("model.params.scale", "model.params.mean"),
    *(f"model.params.model.params.{part}*" for part in ("first_stage", "network", "conditioner", "process", "parameterization")),
    *(f"{OPTIMIZER}*", f"{SCHEDULER}*"),
)


@dataclass
class Changes:
    """How a config differs from that of the checkpoint that it resumes.

    Attributes:
        paths: paths of the values that differ.
        old, new: optimizer and scheduler factory of the old and the new config.
        without: for each path of these, the new factories with its old value.
    """

    paths: list[str] = field(default_factory=list)
    old: tuple[Any, Any] = (None, None)
    new: tuple[Any, Any] = (None, None)
    without: dict[str, tuple[Any, Any]] = field(default_factory=dict)


def changes(state: dict[str, Any], config: Config, trust: AllowedTargets) -> Changes:
    """Changes of the config, after checking that none of them would be ignored.

    Args:
        state: state of the checkpoint, with its config.
        config: config of the resumed run.
        trust: allowed targets.

    Raises:
        UserError: names every value that the checkpoint's would override, or that only has an effect at the start of training.
    """
    before, now = state["config"], config.data
    start = "model.params.start"
    if at(before, start) is None and at(state["source"], start) == at(config.source, start):
        before = with_old(before, now, start)  # the config of a run that was resumed before no longer names its starting weights
    paths = list(differences(before, now))
    refused = [f"{path}: {why}" for path in paths if (why := refusal(path, before, now, trust))]
    if refused:
        raise UserError("cannot be changed on resuming (start a new run, with model.params.start): " + "; ".join(refused))
    found = Changes(paths)
    of_optimizers = [path for path in paths if path.startswith((OPTIMIZER, SCHEDULER))]
    if of_optimizers:
        found.old, found.new = factories(before, trust), factories(now, trust)
        found.without = {path: factories(with_old(now, before, path), trust) for path in of_optimizers}
    return found


def differences(before: Node, now: Node, path: str = "") -> Iterator[str]:
    """Paths of the values that differ; a list is one value, and so is a node whose class differs or that exists only once."""
    old, new = (one or {} for one in (before, now))  # an empty mapping may be omitted
    if isinstance(old, dict) and isinstance(new, dict) and (old or new) and old.get("target") == new.get("target"):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif before != now and not (before in (None, {}) and now in (None, {})):
        yield path


def refusal(path: str, before: Node, now: Node, trust: AllowedTargets) -> str:
    """Why a value cannot be changed; "" if it can."""
    for pattern, why in IN_THE_CHECKPOINT.items():
        if fnmatchcase(path, pattern):
            return why
    if not any(fnmatchcase(path, pattern) for pattern in FROM_THE_CONFIG):
        return "not known to have an effect on a resumed run"
    above, _, _ = path.rpartition(".params.")
    if not path.startswith("model.params.") or above == "model" or path.startswith((OPTIMIZER, SCHEDULER)) or "first_stage" in path:
        return ""
    old, new = at(before, above), at(now, above)
    if not (isinstance(old, dict) and isinstance(new, dict)) or "target" not in old or old["target"] != new.get("target"):
        return ""
    only = at(with_old(now, before, path), above)
    try:
        same = traits(build(new, trust, above)) == traits(build(only, trust, above))
    except (RecursionError, UserError):  # cyclic references; values that `--check` reports
        return ""
    return "only has an effect at the start of training" if same else ""


def traits(thing: Any) -> Any:
    """Everything that identifies a built part except the values of its weights and its constructor arguments."""
    if isinstance(thing, nn.Module):
        saved = thing.state_dict().keys()
        parts = [(name, type(part).__name__, traits({**vars(part), "settings": None})) for name, part in thing.named_modules()]
        tensors = (*thing.named_parameters(), *thing.named_buffers())
        return parts, [(name, tuple(tensor.shape) if name in saved else tensor.tolist()) for name, tensor in tensors]
    if isinstance(thing, Tensor):
        return thing.tolist()
    if isinstance(thing, Mapping):
        return {key: traits(value) for key, value in thing.items() if key not in ("_parameters", "_buffers", "_modules")}
    if isinstance(thing, list | tuple | set | frozenset):
        return [traits(item) for item in thing]
    if hasattr(thing, "__dict__") and not callable(thing):
        return type(thing).__name__, traits(vars(thing))
    return thing


def at(node: Node, path: str) -> Node:
    """The value at a path; None if it does not exist."""
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def with_old(now: Node, before: Node, path: str) -> Node:
    """A config with the value at one path as it was before."""
    result = deepcopy(now)
    above, _, key = path.rpartition(".")
    node = result
    for step in above.split("."):
        node = node.setdefault(step, {})
    old = at(before, above)
    if isinstance(old, dict) and key in old:
        node[key] = deepcopy(old[key])
    else:
        node.pop(key, None)
    return result


def factories(config: Node, trust: AllowedTargets) -> tuple[Any, Any]:
    """Optimizer and scheduler factory of a config."""
    return build(at(config, OPTIMIZER), trust, OPTIMIZER), build(at(config, SCHEDULER), trust, SCHEDULER)
