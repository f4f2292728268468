"""What readers of a page need to know about a run: its device, size, speed, time and cost, and its last numbers."""

import re
from collections.abc import Sequence
from statistics import median

from ldm.evaluation.names import STAMP
from ldm.evaluation.runs import Run, flat, last
from ldm.system.progress import clock

CHANNEL = re.compile(r"validation_(.*)_(\d+)")  # other names that end in a number are of optimizers or their groups
MACHINE = {
    "images_per_second": "throughput, images/s",
    "device_memory_gib": "peak memory of the device, GiB",
    "process_memory_gib": "peak memory of the process, GiB",
}
UNITS = MACHINE | {
    "lr": "learning rate",
    "psnr": "PSNR, dB",
    "kl": "KL, nats per latent element",
    "colour_drift": "colour drift, 8-bit levels",
}
UNKNOWN = "not recorded"


def title(name: str) -> str:
    """A number of metrics.csv for readers, with its unit."""
    bare = name.removeprefix("validation_")
    text = UNITS.get(bare) or (learning_rate(bare[3:]) if bare.startswith("lr_") else bare.replace("_", " "))
    return text if bare == name else f"validation: {text}"


def learning_rate(index: str) -> str:
    """That of another optimizer or group of parameters than the first: "1", or "0.1" for the second group of the first optimizer."""
    numbers = [str(int(number) + 1) for number in index.split(".") if number.isdecimal()]
    return "learning rate, " + ", ".join(f"{name} {number}" for name, number in zip(("optimizer", "group"), numbers, strict=False))


def facts(run: Run, price: float | None = None) -> dict[str, str]:
    """By name; `price` of an hour replaces that of the training."""
    return {**progress(run), **machine(run), **time_and_cost(run, price), **numbers(run)}


def progress(run: Run) -> dict[str, str]:
    """Steps and images."""
    config = flat(run.config)
    steps, batch = config.get("trainer.params.steps"), config.get("data.params.batch_size")
    found = {"steps": f"{run.steps:,}" + (f" of {steps:,}" if isinstance(steps, int) and steps != run.steps else "")}
    return found | ({"batch": f"{batch:,}", "images seen": f"{run.steps * batch:,}"} if isinstance(batch, int) else {})


def machine(run: Run) -> dict[str, str]:
    """Device, parameters and speed; of the last session if the run was resumed elsewhere."""
    session = run.sessions[-1] if run.sessions else {}
    several = f"{session['devices']} x " if session.get("devices", 1) > 1 else ""
    parts = {name.replace("_", " "): count for name, count in session.get("parameters", {}).items()}
    found = {
        "device": several + session.get("device", UNKNOWN),
        "parameters": ", ".join(f"{name} {millions(count)}" for name, count in parts.items()) or UNKNOWN,
        "precision": session.get("precision", UNKNOWN),
    }
    if "trained_parameters" in session:
        found["trained parameters"] = millions(session["trained_parameters"])
    if "ema_decay" in session:
        found["averaged weights"] = "none" if session["ema_decay"] is None else f"EMA, decay {session['ema_decay']:g}"
    speed = run.values("images_per_second")
    found["throughput"] = f"{median(speed):.4g} images/s (median)" if speed else UNKNOWN
    memory = {title(name): run.values(name) for name in ("device_memory_gib", "process_memory_gib")}
    return found | {name: f"{max(values):.2f}" for name, values in memory.items() if values}


def millions(count: int) -> str:
    """ "4.19 M", or the number itself if it is small."""
    return f"{count / 1e6:,.2f} M" if count >= 10_000 else f"{count:,}"


def time_and_cost(run: Run, price: float | None) -> dict[str, str]:
    """When it was started, the time of all steps with validation and saving, and its price."""
    sessions, seconds = run.sessions or [{}], last(run.values("seconds") or [0.0])
    price = sessions[-1].get("price_per_hour") if price is None else price
    cost = UNKNOWN if not seconds else "no price given" if price is None else f"{seconds / 3600 * price:.2f} at {price:g} per hour"
    stamp = STAMP.match(run.name)
    date, _, hour = (sessions[0].get("time") or (stamp[1] if stamp else "")).partition("T")
    return {
        "started": f"{date} {hour[:5].replace('-', ':')}" if hour else UNKNOWN,
        "training time": clock(seconds) if seconds else UNKNOWN,
        "cost": cost,
    }


def numbers(run: Run) -> dict[str, str]:
    """The last loss and validation."""
    names = [name for name in run.series if name == "loss" or (name.startswith("validation_") and not CHANNEL.fullmatch(name))]
    return {f"{title(name)}, last": f"{last(run.values(name)):.4g}" for name in names}


def side_by_side(runs: Sequence[Run], price: float | None = None) -> tuple[list[tuple[str, str]], list[tuple[str, ...]]]:
    """Facts that all runs share, and rows of those that differ."""
    found = [facts(run, price) for run in runs]
    rows = [(key, *(one.get(key, "-") for one in found)) for key in dict.fromkeys(key for one in found for key in one)]
    return [row[:2] for row in rows if len(set(row[1:])) == 1], [row for row in rows if len(set(row[1:])) > 1]  # type: ignore[misc]
