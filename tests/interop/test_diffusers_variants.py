"""First stages of diffusers with other group norms, and folders that have only a variant of their weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ldm.checkpoint.load import pretrained
from ldm.config import AllowedTargets, build
from ldm.errors import UserError
from ldm.interop.diffusers import read_folder, write_folder

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e .[dev]")
WEIGHTS = "diffusion_pytorch_model"


def kind(name: str, groups: int) -> Any:
    """A tiny first stage as its own class makes it, attention at every level, nothing at zero."""
    torch.manual_seed(0)
    if name == "AutoencoderKL":
        attends: dict[str, Any] = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    else:
        attends = {"down_block_types": ["AttnDownEncoderBlock2D"] * 2, "up_block_types": ["AttnUpDecoderBlock2D"] * 2}
    model = getattr(diffusers, name)(
        block_out_channels=[24, 48], latent_channels=4, layers_per_block=1, norm_num_groups=groups, sample_size=16, **attends
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.mark.parametrize("name", ["AutoencoderKL", "VQModel"])
@pytest.mark.parametrize("groups", [1, 4, 8, 12])
@torch.no_grad()
def test_other_group_norms_compute_what_theirs_do(tmp_path: Path, name: str, groups: int) -> None:
    theirs = kind(name, groups)
    theirs.save_pretrained(tmp_path / "in")
    ours = pretrained(str(tmp_path / "in"))
    x, z = torch.randn(1, 3, 16, 16), torch.randn(1, 4, 8, 8)
    encoded = theirs.encode(x)
    torch.testing.assert_close(ours.encode(x), encoded.latent_dist.mean if name == "AutoencoderKL" else encoded.latents)
    torch.testing.assert_close(ours.decode(z), theirs.decode(z).sample)
    found = read_folder(tmp_path / "in")
    back = build(found.node, AllowedTargets())
    back.load_state_dict(found.weights)
    write_folder(back, found.node, tmp_path / "out", 16)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["norm_num_groups"] == groups


def test_groups_that_do_not_divide_the_channels_are_refused(tmp_path: Path) -> None:
    kind("AutoencoderKL", 8).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"norm_num_groups": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"config\.json: norm_num_groups=32 .*divisor"):
        read_folder(tmp_path)


@pytest.mark.parametrize("variant,shards", [("fp16", False), ("bf16", False), ("fp16", True), ("non_ema", False)])
def test_a_variant_is_read_where_full_precision_is_not_there(tmp_path: Path, variant: str, shards: bool) -> None:
    theirs = kind("AutoencoderKL", 8)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(variant, torch.float32)
    theirs.to(dtype).save_pretrained(tmp_path, variant=variant, max_shard_size="100KB" if shards else "10GB")
    names = [path.name for path in tmp_path.glob("*.safetensors")]
    assert f"{WEIGHTS}.safetensors" not in names and (len(names) > 1) == shards
    ours = pretrained(str(tmp_path))
    assert torch.equal(ours.decoder.conv_in.weight, theirs.decoder.conv_in.weight.float())  # type: ignore[union-attr]
    # and where both are there, full precision is what counts
    kind("AutoencoderKL", 8).save_pretrained(tmp_path)
    assert torch.equal(pretrained(str(tmp_path)).decoder.conv_in.weight, kind("AutoencoderKL", 8).decoder.conv_in.weight)  # type: ignore[union-attr]


def test_wrapped_names_and_counters_are_no_obstacle(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    kind("AutoencoderKL", 8).save_pretrained(tmp_path)
    plain = pretrained(str(tmp_path)).state_dict()
    file = tmp_path / f"{WEIGHTS}.safetensors"
    state = {f"_orig_mod.{name}": value for name, value in load_file(file).items()}
    save_file({**state, "num_updates": torch.tensor(3)}, file)
    again = pretrained(str(tmp_path)).state_dict()
    assert all(torch.equal(again[name], plain[name]) for name in plain)
    save_file({**state, "unknown.weight": torch.ones(3)}, file)
    with pytest.raises(UserError, match=r"left over \['unknown.weight'\]"):
        pretrained(str(tmp_path))
