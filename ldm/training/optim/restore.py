"""Restore optimizers and schedules from a checkpoint, with changed settings if the config was changed on resuming."""

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ldm.errors import UserError
from ldm.training.optim.factories import RATES, Named, OptimizerFactory, Scheduled, SchedulerFactory, scheduled
from ldm.training.resuming import OPTIMIZER, SCHEDULER, Changes

Factories = tuple[OptimizerFactory, SchedulerFactory | None]
PROGRESS = ("last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_is_initial")  # state of schedules


def restore(pair: Scheduled, saved: dict[str, Any], schedule: dict[str, Any] | None, named: Named, step: int, changes: Changes) -> None:
    """Restore an optimizer and its schedule; settings that were changed since are taken from the config.

    Args:
        pair: optimizer and schedule as built from the config.
        saved, schedule: their states in the checkpoint.
        named: their parameters.
        step: step of the checkpoint.
        changes: changes of the config.

    Raises:
        UserError: a change that has no effect, or that is incompatible with their states.
        ValueError, KeyError: states of other parameters.
    """
    if not changes.without:
        pair[0].load_state_dict(saved)
        if pair[1] is not None and schedule is not None:
            pair[1].load_state_dict(schedule)
        return
    new = scheduled(*changes.new, named)
    unused = [path for path, factories in changes.without.items() if not has_effect(path, new, scheduled(*factories, named))]
    if unused:
        raise UserError(f"cannot be changed on resuming: {', '.join(unused)}: has no effect with the other settings")
    device = named[0][1].device
    if problem := trial_error(changes.old, changes.new, device, step):
        causes = [path for path, factories in changes.without.items() if not trial_error(changes.old, factories, device, step)]
        raise UserError(f"cannot be changed on resuming: {', '.join(causes or changes.without)}: {problem}")
    initial = [
        path
        for path, (without, _) in changes.without.items()
        if path.startswith(OPTIMIZER) and only_affects_start(changes.old[0], changes.new[0], without, device)
    ]
    if initial:
        raise UserError(f"cannot be changed on resuming: {', '.join(initial)}: only has an effect at the start of training")
    carry_over(pair, saved, schedule, scheduled(*changes.old, named), new, step)


def has_effect(path: str, new: Scheduled, other: Scheduled) -> bool:
    """Whether a setting makes a difference between what is built with and without it."""
    if path.startswith(SCHEDULER) and isinstance(new[1], LambdaLR):  # a function, which cannot be compared
        return True
    return settings(new) != settings(other)


def settings(pair: Scheduled) -> Any:
    """All settings of an optimizer and its schedule."""
    optimizer, scheduler = pair
    groups = [{**group, "params": len(group["params"])} for group in optimizer.param_groups]
    return groups, None if scheduler is None else (type(scheduler), scheduler.state_dict())


def trial_error(old: Factories, new: Factories, device: torch.device, step: int) -> str:
    """Try the change with a small matrix; returns the error, or ""."""
    try:
        trial_weight(new, device, old, step)
    except UserError as error:
        return str(error)
    except Exception as error:  # optimizers raise many kinds
        return f"the optimizer's state in the checkpoint is incompatible ({type(error).__name__}: {error})"
    return ""


def trial_weight(factories: Factories, device: torch.device, old: Factories | None = None, step: int = 0) -> torch.Tensor:
    """A small matrix after some steps of a new optimizer, or of one that continues from the state of an `old` one at a step."""
    weight = nn.Parameter(torch.linspace(-1, 1, 4, device=device).view(2, 2))
    named = [("weight", weight)]

    def steps(optimizer: Optimizer) -> None:
        for i in range(2):
            weight.grad = torch.sin(3 * weight.detach() + i)
            optimizer.step()

    if old is None:
        pair = scheduled(*factories, named)
    else:
        optimizer, schedule = scheduled(*old, named)
        steps(optimizer)
        pair = scheduled(*factories, named)
        state = None if schedule is None else schedule.state_dict()
        carry_over(pair, optimizer.state_dict(), state, scheduled(*old, named), scheduled(*factories, named), step)
    steps(pair[0])
    return weight.detach()


def only_affects_start(old: OptimizerFactory, new: OptimizerFactory, without: OptimizerFactory, device: torch.device) -> bool:
    """Whether a setting, changed in `new` but not in `without`, changes a new run but not one that continues from `old`."""
    (new_run, new_run_without), (resumed, resumed_without) = (
        [trial_weight((one, None), device, state) for one in (new, without)] for state in (None, (old, None))
    )
    # Another implementation of the same, such as a fused one, differs by rounding only.
    return not torch.allclose(new_run, new_run_without) and torch.equal(resumed, resumed_without)


def carry_over(pair: Scheduled, saved: dict[str, Any], schedule: dict[str, Any] | None, old: Scheduled, new: Scheduled, step: int) -> None:
    """Load both states, then set what differs between `old` and `new`, built from the old and the new config, without steps."""
    optimizer, scheduler = pair
    fresh = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, before, now in zip(optimizer.param_groups, old[0].param_groups, new[0].param_groups, strict=True):
        group |= {k: v for k, v in now.items() if k not in ("params", *RATES) and (k not in before or before[k] != v)}
        old_rate, rate = (one.get("initial_lr", one["lr"]) for one in (before, now))
        if old_rate != rate:
            group["lr"] = group["lr"] * rate / old_rate if old_rate else rate
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
