"""Optimizers and their schedules, built from the factories of a config."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ldm.errors import UserError
from ldm.ranges import number

OptimizerFactory = Callable[..., Optimizer]
SchedulerFactory = Callable[..., LRScheduler]
Named = list[tuple[str, nn.Parameter]]
Scheduled = tuple[Optimizer, LRScheduler | None]
RATES = ("lr", "initial_lr")


def scheduled(factory: OptimizerFactory, scheduler: SchedulerFactory | None, named: Named) -> Scheduled:
    """An optimizer of named parameters, and its schedule if there is one.

    Raises:
        UserError: invalid arguments.
    """
    with naming("model.params.optimizer", factory):
        optimizer = factory(named)
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"it builds a {type(optimizer).__name__}, expected a torch.optim.Optimizer")
        for group in optimizer.param_groups:
            number(**{name: value for name, value in group.items() if isinstance(value, float)})
            number(0, **{name: group[name] for name in RATES if isinstance(group.get(name), float)})
    if scheduler is None:
        return optimizer, None
    with naming("model.params.scheduler", scheduler):
        return optimizer, scheduler(optimizer)


@contextmanager
def naming(path: str, factory: Callable[..., Any]) -> Iterator[None]:
    """Context in which errors of a factory of the config are prefixed with its path.

    Raises:
        UserError: in place of every other error.
    """
    try:
        yield
    except Exception as error:  # torch raises many kinds
        kind = "" if isinstance(error, ValueError | UserError) else f"{type(error).__name__}: "
        function = getattr(factory, "func", factory)
        raise UserError(f"{path}: {getattr(function, '__name__', function)}: {kind}{error}") from error
