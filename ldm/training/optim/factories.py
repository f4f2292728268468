"""Optimizers and their schedules: built from the config's factories, and restored from a checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ldm.errors import UserError
from ldm.ranges import number
from ldm.training.resuming import OPTIMIZER, SCHEDULER, Changes

OptimizerFactory = Callable[..., Optimizer]
SchedulerFactory = Callable[..., LRScheduler]
Named = list[tuple[str, nn.Parameter]]
Factories = tuple[OptimizerFactory, SchedulerFactory | None]
Scheduled = tuple[Optimizer, LRScheduler | None]
RATES = ("lr", "initial_lr")
PROGRESS = ("last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_is_initial")  # state of schedules


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
        made = getattr(factory, "func", factory)
        raise UserError(f"{path}: {getattr(made, '__name__', made)}: {kind}{error}") from error


def restore(made: Scheduled, saved: dict[str, Any], schedule: dict[str, Any] | None, named: Named, step: int, changes: Changes) -> None:
    """Restore an optimizer and its schedule; settings that were changed since are taken from the config.

    Args:
        made: optimizer and schedule as built from the config.
        saved, schedule: their states in the checkpoint.
        named: their parameters.
        step: step of the checkpoint.
        changes: changes of the config.

    Raises:
        UserError: a change that has no effect, or that is incompatible with their states.
        ValueError, KeyError: states of other parameters.
    """
    if not changes.without:
        load(made, saved, schedule)
        return
    new = scheduled(*changes.new, named)
    idle = [path for path, factories in changes.without.items() if not counts(path, new, scheduled(*factories, named))]
    if idle:
        raise UserError(f"cannot be changed on resuming: {', '.join(idle)}: has no effect with the other settings")
    device = named[0][1].device
    if problem := rehearse(changes.old, changes.new, device, step):
        guilty = [path for path, factories in changes.without.items() if not rehearse(changes.old, factories, device, step)]
        raise UserError(f"cannot be changed on resuming: {', '.join(guilty or changes.without)}: {problem}")
    factories = (changes.old[0], changes.new[0])
    early = [path for path, others in changes.without.items() if path.startswith(OPTIMIZER) and only_begins(*factories, others[0], device)]
    if early:
        raise UserError(f"cannot be changed on resuming: {', '.join(early)}: only has an effect at the start of training")
    carry_over(made, saved, schedule, scheduled(*changes.old, named), new, step)


def load(made: Scheduled, saved: dict[str, Any], schedule: dict[str, Any] | None) -> None:
    """Load both states unchanged."""
    optimizer, scheduler = made
    optimizer.load_state_dict(saved)
    if scheduler is not None and schedule is not None:
        scheduler.load_state_dict(schedule)


def counts(path: str, new: Scheduled, other: Scheduled) -> bool:
    """Whether a setting makes a difference between what is built with and without it."""
    if path.startswith(SCHEDULER) and isinstance(new[1], LambdaLR):  # a function, which cannot be compared
        return True
    return settings(new) != settings(other)


def settings(made: Scheduled) -> Any:
    """All settings of an optimizer and its schedule."""
    optimizer, scheduler = made
    groups = [{**group, "params": len(group["params"])} for group in optimizer.param_groups]
    return groups, None if scheduler is None else (type(scheduler), scheduler.state_dict())


def rehearse(old: Factories, new: Factories, device: torch.device, step: int) -> str:
    """Try the change with a small matrix; returns the error, or ""."""
    try:
        rehearsed(new, device, old, step)
    except UserError as error:
        return str(error)
    except Exception as error:  # optimizers raise many kinds
        return f"the optimizer's state in the checkpoint is incompatible ({type(error).__name__}: {error})"
    return ""


def rehearsed(factories: Factories, device: torch.device, old: Factories | None = None, step: int = 0) -> torch.Tensor:
    """A small matrix after some steps of a new optimizer, or of one that continues from the state of an `old` one at a step."""
    weight = nn.Parameter(torch.linspace(-1, 1, 4, device=device).view(2, 2))
    named = [("weight", weight)]

    def steps(optimizer: Optimizer) -> None:
        for i in range(2):
            weight.grad = torch.sin(3 * weight.detach() + i)
            optimizer.step()

    made = scheduled(*factories, named)
    if old is not None:
        before = scheduled(*old, named)
        steps(before[0])
        made = scheduled(*factories, named)
        state = None if before[1] is None else before[1].state_dict()
        carry_over(made, before[0].state_dict(), state, scheduled(*old, named), scheduled(*factories, named), step)
    steps(made[0])
    return weight.detach()


def only_begins(old: OptimizerFactory, new: OptimizerFactory, without: OptimizerFactory, device: torch.device) -> bool:
    """Whether a setting, changed in `new` but not in `without`, changes a new run but not one that continues from `old`."""
    (begun, begun_without), (going, going_without) = (
        [rehearsed((one, None), device, state) for one in (new, without)] for state in (None, (old, None))
    )
    # Another implementation of the same, such as a fused one, differs by rounding only.
    return not torch.allclose(begun, begun_without) and torch.equal(going, going_without)


def carry_over(made: Scheduled, saved: dict[str, Any], schedule: dict[str, Any] | None, old: Scheduled, new: Scheduled, step: int) -> None:
    """Load both states, then set what differs between `old` and `new`, built from the old and the new config, without steps."""
    optimizer, scheduler = made
    fresh = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, before, now in zip(optimizer.param_groups, old[0].param_groups, new[0].param_groups, strict=True):
        group |= {k: v for k, v in now.items() if k not in ("params", *RATES) and (k not in before or before[k] != v)}
        was, rate = (one.get("initial_lr", one["lr"]) for one in (before, now))
        if was != rate:
            group["lr"] = group["lr"] * rate / was if was else rate
            group["initial_lr"] = rate
    if scheduler is None:
        if old[1] is not None:
            for group, one in zip(optimizer.param_groups, fresh, strict=True):
                group["lr"] = one["lr"]
    elif isinstance(scheduler, LambdaLR):
        scheduler.last_epoch = schedule["last_epoch"] if schedule else step
        factors = [function(scheduler.last_epoch) for function in scheduler.lr_lambdas]
        for group, rate, factor in zip(optimizer.param_groups, scheduler.base_lrs, factors, strict=True):
            group["initial_lr"], group["lr"] = rate, rate * factor
    elif schedule is not None and type(scheduler) is type(old[1]):
        assert old[1] is not None and new[1] is not None
        before, now = old[1].state_dict(), new[1].state_dict()
        scheduler.load_state_dict(schedule | {k: v for k, v in now.items() if k not in PROGRESS and before.get(k) != v})
    else:
        raise UserError("only ldm.training's schedules can start in the middle of a run")
    if scheduler is not None:
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
