"""What other programs store beside weights: left out and said so, whatever reads the file; and nothing of it is ever executed."""

import argparse
import builtins
import collections
import datetime
import decimal
import enum
import functools
import os
import pathlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from recorded import read_case
from safetensors.torch import save_file
from torch import Tensor

from ldm.checkpoint.load import load_model, pretrained
from ldm.checkpoint.read import read_source
from ldm.errors import MissingFile, UserError
from ldm.evaluation.weightfiles import read_state as read_metric_weights
from ldm.interop.compvis import read_state
from ldm.system.weights import read_checkpoint

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "compvis"
State = dict[str, Any]
WHOLE = read_case(FOLDER, "ldm_uncond_kl_std")
STAGE = read_case(FOLDER, "kl_noattn")
UNET = "model.diffusion_model."


def whole(folder: Path, state: State, name: str = "model.ckpt") -> Path:
    """A recorded model with another state dict, its YAML beside it."""
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": WHOLE.params["model"]}))
    if name.endswith(".safetensors"):
        save_file({key: value.contiguous().clone() for key, value in state.items()}, folder / name, {"format": "pt"})
    else:
        torch.save({"state_dict": state, "global_step": 7}, folder / name)
    return folder / name


def stage(folder: Path, state: State) -> Path:
    """A recorded first stage with another state dict, its YAML beside it."""
    params = {**STAGE.params, "lossconfig": {"target": "torch.nn.Identity"}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": params}}))
    torch.save({"state_dict": state}, folder / "model.ckpt")
    return folder / "model.ckpt"


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


STEPS = {f"ddim_{name}": torch.zeros(4) for name in ("sigmas", "alphas", "alphas_prev", "sqrt_one_minus_alphas")}
TABLES = {"lvlb_weights": torch.ones(1000), "log_sigmas": torch.ones(1000), "logvar": torch.zeros(1000)}
COUNTERS = {"num_updates": torch.tensor(3), "first_stage_model.model_ema.decay": torch.tensor(0.9)}
POSITIONS = {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}


@pytest.mark.parametrize("more", [STEPS, TABLES, COUNTERS, POSITIONS], ids=["sampler", "tables", "counters", "positions"])
def test_what_follows_from_other_numbers_is_left_out_and_said_so(tmp_path: Path, more: State, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    plain = load_model(str(whole(tmp_path, WHOLE.weights))).model.state_dict()
    path = whole(tmp_path, WHOLE.weights | more)
    assert same(load_model(str(path)).model.state_dict(), plain)
    told = set(more) - {"lvlb_weights"}  # of every official checkpoint, and checked
    assert f"left out {len(told)} keys" in caplog.text and sorted(told)[0] in caplog.text


def test_averages_of_a_first_stage_are_left_out(tmp_path: Path) -> None:
    plain = read_source(str(stage(tmp_path, STAGE.weights))).weights.tensors
    averages = {f"model_ema.{key.replace('.', '')}": value + 1 for key, value in STAGE.weights.items()}
    tables = {"betas": torch.ones(1000), "sqrt_alphas_cumprod": torch.ones(1000), "model_ema.decay": torch.tensor(0.99)}
    path = stage(tmp_path, STAGE.weights | averages | tables | {"epoch": 3})
    source = read_source(str(path))
    assert same(source.weights.tensors, plain)
    assert f"left out {len(averages) + 3} keys" in " ".join(source.notes) and "epoch" in " ".join(source.notes)
    assert same(pretrained(str(path)).state_dict(), plain)


@pytest.mark.parametrize("name", ["ddim", "what.position", "model.diffusion_model.ddim", "first_stage_model.encoder.extra.weight", "decay"])
def test_unknown_weights_stay_errors(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"1 keys are left over, {name}"):
        load_model(str(whole(tmp_path, WHOLE.weights | {name: torch.ones(2)})))


WRAPPED: dict[str, Callable[[str], str]] = {
    "module": lambda key: f"module.{key}",
    "compiled": lambda key: f"_orig_mod.{key}",
    "both": lambda key: f"_orig_mod.module.{key}",
    "other way round": lambda key: f"module._orig_mod.{key}",
    "inside": lambda key: key.replace(UNET, f"{UNET}_orig_mod.").replace("model_ema.diffusion_model", "model_ema.diffusion_model_orig_mod"),
    "in the middle": lambda key: key.replace(UNET, "model._orig_mod.diffusion_model."),
    "averages too": lambda key: key.replace(UNET, f"{UNET}module.").replace("model_ema.diffusion_model", "model_ema.diffusion_modelmodule"),
    "mixed": lambda key: f"module.{key}" if key.startswith("first_stage_model") else f"_orig_mod.{key}",
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_names_of_wrapped_models_are_those_of_what_is_wrapped(tmp_path: Path, kind: str) -> None:
    state = {WRAPPED[kind](key): value for key, value in WHOLE.weights.items()}
    assert state.keys() != WHOLE.weights.keys()
    path = whole(tmp_path, state)
    assert same(read_state(path), WHOLE.weights)
    load_model(str(path))


def test_two_entries_that_become_one_are_refused(tmp_path: Path) -> None:
    path = whole(tmp_path, {**WHOLE.weights, "module.betas": torch.ones(1000)})
    with pytest.raises(UserError, match="module.betas and another entry are both betas"):
        load_model(str(path))


def test_numbers_words_and_nothing_among_tensors_are_passed_over(tmp_path: Path) -> None:
    others = {"epoch": 3, "lr": 0.1, "name": "x", "best": None, "done": True, "sizes": [1, 2]}
    source = read_source(str(whole(tmp_path, {**WHOLE.weights, **others})))
    assert "ignored entries that are not tensors: epoch, lr, name, best" in source.notes[0]
    with pytest.raises(UserError, match="'optimizer' is a dict with tensors inside"):
        load_model(str(whole(tmp_path, {**WHOLE.weights, "optimizer": {"state": [torch.ones(1)]}})))


@pytest.mark.parametrize("yaml_name", ["config.yaml", "model.yaml", "elsewhere/x.yaml"])
def test_their_names_in_safetensors_are_read_with_the_yaml(script, tmp_path: Path, yaml_name: str) -> None:
    path = whole(tmp_path, WHOLE.weights, "model.safetensors")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "config.yaml").rename(tmp_path / yaml_name)
    words = ["--config", tmp_path / yaml_name] if "/" in yaml_name else []
    done = script("scripts/sample.py", path, "--n", 1, "--steps", 2, "--device", "cpu", "--outdir", tmp_path / "out", *words)
    assert done.returncode == 0, done.stderr
    loaded = load_model(str(path), config=str(tmp_path / yaml_name) if words else None)
    assert same(loaded.model.state_dict(), load_model(str(whole(tmp_path, WHOLE.weights))).model.state_dict())


def test_without_its_yaml_a_safetensors_file_says_what_is_missing(tmp_path: Path) -> None:
    path = whole(tmp_path, WHOLE.weights, "x.safetensors")
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(MissingFile, match=r"x\.safetensors: no config of this project inside; .*--config FILE, or put x\.yaml or"):
        load_model(str(path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="a file of a diffusers folder; name the folder"):
        load_model(str(path))


def of_module(module: str, made: type) -> type:
    """A class as if another program's module had it."""
    made.__module__, made.__qualname__ = module, made.__name__
    sys.modules.setdefault(module, types.ModuleType(module)).__dict__[made.__name__] = made
    return made


class PosixPath:
    """A path of Python 3.13, whose module is another one."""

    def __init__(self, *parts: str) -> None: ...

    def __reduce__(self) -> Any:
        return type(self), ("/x",)


OfPython313: Any = PosixPath if sys.version_info < (3, 13) else pathlib.PosixPath
if sys.version_info < (3, 13):
    of_module("pathlib._local", PosixPath)
Color = enum.Enum("Color", "RED", module="pytorch_lightning.utilities.colors")
of_module("pytorch_lightning.utilities.colors", Color)


def objects() -> dict[str, Any]:
    """What people keep among hyperparameters."""
    net = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(net.parameters())
    now = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    return {
        "path": pathlib.PurePosixPath("/x"),
        "path of 3.13": OfPython313("/x"),
        "times": [now, now.date(), datetime.timedelta(3)],
        "partial": functools.partial(torch.optim.AdamW, lr=1e-4),
        "optimizer": [torch.optim.AdamW, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 3)],
        "collections": [collections.Counter("aab"), collections.deque([1, 2], maxlen=3), collections.OrderedDict(a=1)],
        "more collections": [collections.defaultdict(list, a=[1]), collections.ChainMap({}, {}), collections.UserDict(a=1)],
        "namespaces": [argparse.Namespace(a=1), types.SimpleNamespace(a=1)],
        "enum": Color["RED"],
        "torch": [torch.device("cpu"), torch.float16, torch.Size([1]), torch.__version__],
        "numpy": [np.float32(2), np.arange(3), np.str_("a"), np.random.default_rng(0), np.array(["a", 1], dtype=object)],
        "numbers": [decimal.Decimal("1.5"), 1j, range(3), slice(1, 2), ..., b"\x00\xff", bytearray(b"a")],
    }


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("name", objects())
def test_harmless_objects_among_hyperparameters_are_no_obstacle(tmp_path: Path, name: str, legacy: bool) -> None:
    content = {"state_dict": {"a": torch.ones(2)}, "hyper_parameters": {"x": objects()[name]}}
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not legacy)
    assert torch.equal(read_state(tmp_path / "model.ckpt")["a"], torch.ones(2))


class Payload:
    """Pickled, it asks its reader to make a call."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def payloads(mark: str) -> dict[str, Any]:
    """Calls that would leave a mark."""
    return {
        "system": Payload(os.system, f"touch {mark}"),
        "eval": Payload(builtins.eval, f"open({mark!r}, 'w')"),
        "open": Payload(builtins.open, mark, "w"),
        "partial": Payload(functools.partial(os.system, f"touch {mark}")),
        "inside a harmless one": functools.partial(os.system, f"touch {mark}"),
        "getattr": Payload(builtins.getattr, "x", "upper"),
        "import": Payload(__import__, "antigravity"),
        "in a set of optimizers": [torch.optim.AdamW, Payload(os.mkdir, mark)],
    }


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("name", payloads(""))
def test_no_call_in_a_checkpoint_is_ever_made(tmp_path: Path, name: str, legacy: bool) -> None:
    mark = tmp_path / "mark"
    content = {"state_dict": {"a": torch.ones(1)}, "hyper_parameters": payloads(str(mark))[name]}
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"model\.ckpt: refused, because it names ") as error:
        read_state(tmp_path / "model.ckpt")
    assert not mark.exists() and "weights_only" not in str(error.value)


READERS: dict[str, Callable[[Path], Any]] = {
    "released": read_state,
    "training state": read_checkpoint,
    "metric": lambda path: read_metric_weights(path, "weights"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("fault", ["cut", "pickle overwritten", "an object", "text", "empty"])
def test_a_damaged_checkpoint_never_gets_the_advice_to_execute_it(tmp_path: Path, reader: str, fault: str) -> None:
    path = tmp_path / "model.ckpt"
    content = {"state_dict": {"a": torch.ones(64)}, "x": argparse.Namespace(a=1) if fault == "an object" else 1}
    torch.save(content, path, _use_new_zipfile_serialization=fault != "pickle overwritten")
    data = path.read_bytes()
    if fault == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif fault == "pickle overwritten":
        path.write_bytes(data.replace(b"state_dict", b"state\x93ict"))
    elif fault in ("text", "empty"):
        path.write_bytes(b"name: x\n" if fault == "text" else b"")
    if (reader, fault) == ("released", "an object"):
        return  # read, with a stand-in
    with pytest.raises(UserError, match=r"model\.ckpt: ") as error:
        READERS[reader](path)
    text = str(error.value)
    assert "weights_only" not in text and "torch.load" not in text and "\n" not in text
