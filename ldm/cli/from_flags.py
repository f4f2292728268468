"""What flags ask for: a model, one that guides it, sampler settings."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from ldm.checkpoint.guides import load_worse
from ldm.checkpoint.load import LoadedModel, load_model
from ldm.config import AllowedTargets, trust_packages
from ldm.errors import MissingFile, UserError
from ldm.precision import for_sampling
from ldm.sampling.generate import SamplerSettings, sampler_named, takes_eta
from ldm.system.device import pick_device, pick_devices


def load_from_flags(flags: argparse.Namespace) -> LoadedModel:
    """The model of the first argument, on the requested device."""
    if flags.batch < 1:
        raise UserError(f"--batch {flags.batch}: expected at least 1")
    if flags.config is not None and not Path(flags.config).is_file():
        raise MissingFile(f"--config {flags.config}: no such file")
    trust_packages(flags.trust)
    device = pick_devices(flags.device)[0] if hasattr(flags, "processes") else pick_device(flags.device)
    flags.precision = for_sampling(flags.precision, device)  # what is recorded is what was computed in
    loaded = load_model(
        flags.model,
        flags.first_stage,
        flags.allow_other_first_stage,
        AllowedTargets(tuple(flags.trust)),
        flags.config,
        flags.raw,
        flags.tokenizer,
    )
    loaded.model.to(device).requires_grad_(False)
    return loaded


def worse_from_flags(flags: argparse.Namespace, guided: LoadedModel) -> LoadedModel | None:
    """The model of `--autoguide`, on the device of the one that it guides; None without the flag.

    Raises:
        MissingFile, UserError: nothing there, or a model that cannot guide this one.
    """
    if flags.autoguide is None:
        return None
    worse = load_worse(
        flags.autoguide, guided, flags.allow_other_first_stage, AllowedTargets(tuple(flags.trust)), flags.raw, flags.tokenizer
    )
    worse.model.to(guided.model.device).requires_grad_(False)
    return worse


def settings_from_flags(flags: argparse.Namespace, config: dict[str, Any]) -> SamplerSettings:
    """The flags, where given, over the config's `sampling:`."""
    keys = [field.name for field in fields(SamplerSettings)]
    chosen = {key: value for key, value in (config.get("sampling") or {}).items() if key in keys}
    chosen |= {key: getattr(flags, key) for key in keys if getattr(flags, key) is not None}
    if flags.eta is None and not takes_eta(sampler_named(chosen.get("sampler", "ddim"))):
        chosen.pop("eta", None)
    return SamplerSettings(**chosen)
