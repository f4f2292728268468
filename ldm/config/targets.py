"""Allowed targets of a config: an allow list, because a config can come from an untrusted source.

Of this project, a config may name only what its packages declare public, because functions that read configs and files could be
misused. Of torch and Lightning, it may name classes derived from the bases below.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

PUBLIC = (  # packages whose `__all__` may be named
    "ldm.conditioning",
    "ldm.data",
    "ldm.diffusion",
    "ldm.diffusion.process",
    "ldm.diffusion.weighting",
    "ldm.first_stage",
    "ldm.networks",
    "ldm.nn",
    "ldm.training",
)
SAMPLING = "ldm.sampling.generate.SamplerSettings"
SINGLE = (
    SAMPLING,
    "ldm.model.LatentDiffusion",
    "ldm.checkpoint.load.pretrained",
    "ldm.checkpoint.load.starting_weights",
)
MODEL = (  # parts of a model or a classifier
    "ldm.conditioning",
    "ldm.diffusion",
    "ldm.first_stage",
    "ldm.model",
    "ldm.networks",
    "ldm.nn",
    "torch.nn",
)
DATA = ("ldm.data", "ldm.training.DataModule")
DEFAULT_TARGETS = {
    "data": "ldm.training.DataModule",
    "trainer": "ldm.training.TrainerSettings",
}  # targets of top-level nodes that need not name one
KINDS = {  # package -> dotted names of base classes, one of which its classes must derive from
    "torch.optim": ("torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler"),
    "torch.nn": ("torch.nn.Module",),
    "pytorch_lightning.callbacks": ("pytorch_lightning.callbacks.Callback",),
    "pytorch_lightning.loggers": ("pytorch_lightning.loggers.Logger",),
}


_trusted: tuple[str, ...] = ()


def trust_packages(names: Sequence[str], also: bool = False) -> None:
    """Set the packages (`--trust`) whose functions may be named by plain settings (such as a sampler) in this process.

    Args:
        names: of the packages.
        also: keep those that were set before.
    """
    global _trusted
    _trusted = (*(_trusted if also else ()), *names)


def trusted_function(name: str) -> Callable[..., Any]:
    """The function of a dotted name in a trusted package.

    Raises:
        ValueError: the package is not trusted, or it has no such function.
    """
    if not any(name.startswith(f"{package}.") for package in _trusted):
        raise ValueError(f"{name!r} is not in a trusted package; --trust {name.partition('.')[0]} allows it")
    return AllowedTargets(_trusted).resolve(name)


@dataclass(frozen=True)
class AllowedTargets:
    """Targets that a config may name.

    Attributes:
        packages: additional packages, all of whose classes and functions are allowed (`--trust`).
        only: if not empty, only these packages, classes and functions are allowed in addition to `packages`.
    """

    packages: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def for_model(self, *more: str) -> "AllowedTargets":
        """For the config inside a checkpoint, of which only the model is built; `more` is allowed as well."""
        return replace(self, only=(*MODEL, *more))

    def for_data(self) -> "AllowedTargets":
        """For the config of a run of which only the data is built."""
        return replace(self, only=DATA)

    def resolve(self, target: str) -> Callable[..., Any]:
        """The class or function of a dotted name.

        Raises:
            ValueError: not allowed, or it does not exist; the message says what was expected or possibly meant.
        """
        parts = target.split(".")
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            raise ValueError(f"{target!r} is not a dotted name of a class or function")
        if any(part.startswith("_") for part in parts):
            raise ValueError(f"{target!r} is private")
        if self.only and not any(f"{target}.".startswith(f"{name}.") for name in (*self.only, *self.packages)):
            ours = any(parts[0] == package.split(".")[0] for package in ("ldm", *KINDS))
            advice = "" if ours else f"; --trust {parts[0]} allows it"
            raise ValueError(f"{target!r} is not needed for this: of a checkpoint's config, only {', '.join(self.only)} are built{advice}")
        for packages, resolve in ((self.packages, _anything), (("ldm",), _ours), (tuple(KINDS), _kind)):
            if any(target.startswith(package + ".") for package in packages):
                return resolve(target, packages)
        known = ", ".join(("ldm", *KINDS, *self.packages))
        raise ValueError(f"{target!r} is not in an allowed package ({known}); --trust {parts[0]} allows it")


def _ours(target: str, packages: tuple[str, ...]) -> Callable[..., Any]:
    package, _, name = target.rpartition(".")
    if target in SINGLE:
        return getattr(importlib.import_module(package), name)  # type: ignore[no-any-return]
    if package not in PUBLIC:
        raise ValueError(
            f"{target!r} is not public{did_you_mean(package, PUBLIC)} (configs name classes of {', '.join((*PUBLIC, *SINGLE))})"
        )
    module = importlib.import_module(package)
    if name not in module.__all__:
        raise ValueError(f"{package} has no {name!r}{did_you_mean(name, module.__all__)}")
    return _callable(getattr(module, name), target)


def _kind(target: str, packages: tuple[str, ...]) -> Callable[..., Any]:
    found = _callable(_lookup(target), target)
    package = max((p for p in packages if target.startswith(p + ".")), key=len)
    bases = tuple(_lookup(base) for base in KINDS[package])
    # An attribute path can leave the package through an import, so the class itself and the module that defines it are checked.
    if not (inspect.isclass(found) and issubclass(found, bases) and found.__module__.startswith(package)):
        raise ValueError(
            f"{target!r} is not in an allowed package: of {package}, configs name {' and '.join(b.__name__ for b in bases)} classes"
        )
    return found


def _anything(target: str, packages: tuple[str, ...]) -> Callable[..., Any]:
    found = _callable(_lookup(target), target)
    module = str(found.__module__)
    # `package.os.system` would leave the package through an import, and a file of somebody else may name it.
    if not any(f"{module}.".startswith(f"{package.partition('.')[0]}.") for package in packages):
        raise ValueError(f"{target!r} is not defined in a trusted package, but in {module}: trust that, and name it there")
    return found


def _callable(found: Any, target: str) -> Callable[..., Any]:
    if not (inspect.isclass(found) or inspect.isfunction(found) or inspect.isbuiltin(found)):
        raise ValueError(f"{target!r} is a {type(found).__name__}, expected a class or function")
    return found  # type: ignore[no-any-return]


def _lookup(target: str) -> Any:
    """Import the longest module prefix and take attributes from there."""
    parts = target.split(".")
    found: Any = None
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        try:
            found = importlib.import_module(name)
        except ImportError as error:
            if end == 1 or getattr(error, "name", None) not in (name, None):
                raise ValueError(f"{name} cannot be imported: {error}") from error
            break
    else:
        return found
    for i, part in enumerate(parts[end - 1 :], end - 1):
        if not hasattr(found, part):
            public = getattr(found, "__all__", None) or [n for n in dir(found) if not n.startswith("_")]
            raise ValueError(f"{'.'.join(parts[:i])} has no {part!r}{did_you_mean(part, public)}")
        found = getattr(found, part)
    return found


def did_you_mean(name: str, known: Any) -> str:
    """ "; did you mean 'x'?" if a similar name is known."""
    close = difflib.get_close_matches(name, list(map(str, known)), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
