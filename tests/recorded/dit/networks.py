"""Recorded cases of networks and their parts."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.conditioning import ClassVector
from ldm.diffusion import Guidance, linear
from ldm.diffusion.guidance import classifier_free
from ldm.diffusion.parameterization import Parameterization, Prediction
from ldm.diffusion.process import Process, RectifiedFlow
from ldm.first_stage import IdentityFirstStage
from ldm.interop.dit import from_state
from ldm.interop.dit.names import RULES, table_of
from ldm.interop.names import renamed, store
from ldm.model import LatentDiffusion
from ldm.networks.dit import DiT, DiTBlock, FinalLayer, position_table, rotary_table, rotate
from ldm.nn.embedding import timestep_embedding
from recorded.case import Case

SWITCHES = {"use_qknorm": "qk_norm", "use_swiglu": "swiglu", "use_rmsnorm": "rms_norm"}
GUIDED = 3  # channels that their guided forward guides


def network(params: dict[str, Any]) -> DiT:
    """Their constructor's arguments -> our network."""
    known = {"input_size", "patch_size", "in_channels", "hidden_size", "depth", "num_heads", "mlp_ratio", "class_dropout_prob"}
    known |= {"num_classes", "learn_sigma", "grads", "cfg", "cfg_interval_starts", "use_rope", "wo_shift", *SWITCHES}
    if unknown := params.keys() - known:
        raise ValueError(f"unknown arguments of a network: {', '.join(sorted(unknown))}")
    width, channels = params.get("hidden_size", 1152), params.get("in_channels", 4)
    return DiT(
        channels,
        channels,
        params.get("patch_size", 2),
        width,
        params.get("depth", 28),
        params.get("num_heads", 16),
        params.get("input_size", 32),
        params.get("mlp_ratio", 4.0),
        vector_channels=width,
        learn_sigma=params["learn_sigma"],
        rotary=params.get("use_rope", False),
        shift=not params.get("wo_shift", False),
        **{ours: params.get(name, False) for name, ours in SWITCHES.items()},  # type: ignore[arg-type]
    )


def conditioner(classes: int, width: int, rate: float) -> ClassVector:
    """Their table has a row for no class where labels were dropped."""
    return ClassVector(classes, width, rate, null_class=rate > 0)


def architecture(
    params: dict[str, Any], program: str, process: Process | None = None, parameterization: str | Parameterization = ""
) -> LatentDiffusion:
    """A complete model; of SiT's kind with the linear path by default."""
    net = network(params)
    labels = conditioner(params.get("num_classes", 1000), net.width, params.get("class_dropout_prob", 0.1))
    if process is None:
        process = linear() if program == "DiT" else RectifiedFlow(time_reversed=True, time_scale=1.0)
    parameterization = parameterization or ("eps" if program == "DiT" else "velocity")
    return LatentDiffusion(IdentityFirstStage(net.in_channels), net, process, labels, parameterization)


def model(params: dict[str, Any], weights: dict[str, Tensor], *more: Any) -> LatentDiffusion:
    """The same with the weights of a case, read as a checkpoint."""
    made = architecture(params, *more)
    made.load_state_dict(from_state(made, weights, {}, "the case").tensors)
    return made.eval()


def gradients(made: LatentDiffusion, names: list[str]) -> dict[str, Tensor]:
    """Gradients by their names, in their signs."""
    grads = {name: p.grad for name, p in made.named_parameters() if p.grad is not None}
    table = {name: entry for name, entry in table_of(made).items() if name in grads}
    theirs = store(table, grads)
    return {f"grad_{name}": theirs[name] for name in names}


def whole(case: Case) -> dict[str, Tensor]:
    """Outputs, gradients, dropped labels, and the guided forward."""
    program = case.target.partition(".")[0]
    made = model(case.params, case.weights, program)
    net: DiT = made.network  # type: ignore[assignment]
    inputs = case.inputs

    def forward(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """In their sign, and with variances where theirs has them."""
        vector = made.condition({"label": y}).vector
        return net.with_variances(x, t, None, vector) if program == "DiT" else -net(x, t, None, vector)

    x = inputs["x"].requires_grad_()
    y = forward(x, inputs["t"], inputs["y"])
    (y * inputs["cotangent"]).sum().backward()
    got = {"y": y, "grad_x": x.grad, **gradients(made, case.params.get("grads", []))}
    with torch.no_grad():
        if "uniform" in inputs:
            where = (inputs["uniform"] < case.params["class_dropout_prob"]).tolist()
            got["y_train_dropped"] = forward(inputs["x"], inputs["t"], made.conditioner.drop({"label": inputs["y"]}, where)["label"])
        for scale in case.params.get("cfg", []):
            got[f"cfg{scale}"] = _guided(case, forward, Guidance(scale, channels=GUIDED))
            for start in case.params.get("cfg_interval_starts", []):
                got[f"cfg{scale}_from{start}"] = _guided(case, forward, Guidance(scale, (0.0, 1.0 - start), channels=GUIDED))
    return got  # type: ignore[return-value]


def _guided(case: Case, forward: Any, guidance: Guidance) -> Tensor:
    """Their guided forward on a doubled batch: both halves have the guided channels, and each its own others."""
    half, t = case.inputs["cfg_x"].chunk(2)[0], case.inputs["cfg_t"]
    known, null = forward(torch.cat([half, half]), t, case.inputs["cfg_y"]).chunk(2)
    both = torch.cat([known, null])
    process = RectifiedFlow()
    guided = classifier_free(lambda *_: Prediction(both, both), lambda *_: Prediction(known, known), guidance, process)
    first = guided(half, 1.0 - float(t[0]) if guidance.interval != (0.0, 1.0) else 0.5).z_0
    return torch.cat([first, torch.cat([first[:, :GUIDED], null[:, GUIDED:]], dim=1)])


def part(module: nn.Module, weights: dict[str, Tensor], ours: str, prefix: str) -> nn.Module:
    """A part of a network with its weights."""
    names = {renamed(f"{ours}{name}", {}, RULES).removeprefix(prefix): name for name in module.state_dict()}
    module.load_state_dict({names[name]: value for name, value in weights.items()})
    return module


def block(case: Case) -> dict[str, Tensor]:
    """One block, with gradients."""
    p = case.params
    options = {ours: p.get(name, False) for name, ours in SWITCHES.items()}
    made = DiTBlock(p["hidden_size"], p["num_heads"], p.get("mlp_ratio", 4.0), shift=not p.get("wo_shift", False), **options)
    part(made, case.weights, "blocks.0.", "blocks.0.")
    side = p.get("rope_grid")
    table = rotary_table(p["hidden_size"] // p["num_heads"], side, side) if side else None
    x, c = case.inputs["x"].requires_grad_(), case.inputs["c"].requires_grad_()
    y = made(x, F.silu(c), table)
    (y * case.inputs["cotangent"]).sum().backward()
    ours = {renamed(f"blocks.0.{name}", {}, RULES).removeprefix("blocks.0."): value for name, value in made.named_parameters()}
    return {"y": y, "grad_x": x.grad, "grad_c": c.grad, **{f"grad_{name}": ours[name].grad for name in p.get("grads", [])}}  # type: ignore[dict-item]


@torch.no_grad()
def final_layer(case: Case) -> dict[str, Tensor]:
    """The last norm and linear map."""
    p = case.params
    made = FinalLayer(p["hidden_size"], p["patch_size"] ** 2 * p["out_channels"], p.get("use_rmsnorm", False))
    part(made, case.weights, "final.", "final_layer.")
    return {"y": made(case.inputs["x"], F.silu(case.inputs["c"]))}


@torch.no_grad()
def rms_norm(case: Case) -> dict[str, Tensor]:
    """The norm of a block with RMSNorm."""
    made = DiTBlock(case.params["dim"], 1, rms_norm=True).norm1
    made.load_state_dict(case.weights)
    return {"y": made(case.inputs["x"])}


@torch.no_grad()
def labels(case: Case) -> dict[str, Tensor]:
    """The table of classes: plain, with labels dropped by hand, and by chance."""
    p, label = case.params, case.inputs["labels"]
    made = conditioner(p["num_classes"], p["hidden_size"], p["dropout_prob"])
    made.load_state_dict({"embedding.weight": case.weights["embedding_table.weight"]})

    def rows(where: Tensor | None) -> Tensor:
        batch = {"label": label} if where is None else made.drop({"label": label}, where.tolist())
        return made(batch, lambda x, scaled: x).vector  # type: ignore[no-any-return]

    got = {"eval": rows(None), "train": rows(case.inputs["uniform"] < made.uncond_prob if made.uncond_prob else None)}
    return got | ({"forced": rows(case.inputs["force_drop_ids"] == 1)} if made.uncond_prob else {})


def positions(case: Case) -> dict[str, Tensor]:
    """Tables of positions."""
    return {f"dim{width}_grid{side}": position_table(width, side, side) for width, side in case.params["sizes"]}


def rotary(case: Case) -> dict[str, Tensor]:
    """Tables of rotary positions, and queries turned by them."""
    table = rotary_table(case.params["head_dim"], case.params["grid"], case.params["grid"])
    return {"freqs_cos": table[0], "freqs_sin": table[1], "rotated": rotate(case.inputs["x"], table)}


def times(case: Case) -> dict[str, Tensor]:
    """Sinusoidal features of the time."""
    return {f"dim{width}_maxperiod{m}": timestep_embedding(case.inputs["t"], width, m) for width, m in case.params["sizes"]}
