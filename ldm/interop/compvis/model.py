"""A CompVis `LatentDiffusion` tree -> the node of ours, its objective, and how it was trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ldm.errors import UserError
from ldm.interop.compvis import text
from ldm.interop.compvis.config import Node, Parameters, kl_autoencoder, network, split, vq_autoencoder

KEYS = {  # their batch keys -> ours
    "LR_image": "low_res",
    "masked_image": "masked_image",
    "image": "image",
    "jpg": "image",
}
AUTOENCODERS = ("autoencoder.AutoencoderKL", "autoencoder.VQModel", "autoencoder.VQModelInterface", "vqgan.VQModel")
DIFFUSION = ("ddpm.LatentDiffusion", "ddpm.DDPM", "ddpm.Layout2ImgDiffusion")
LOSSES = (
    "torch.nn.Identity",
    "ldm.modules.losses.contperceptual.DummyLoss",
    "ldm.modules.losses.LPIPSWithDiscriminator",
    "ldm.modules.losses.contperceptual.LPIPSWithDiscriminator",
    "ldm.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
    "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
)
GUIDED_CLASSES = 1001  # ImageNet and, as index 1000, "no class"


@dataclass(frozen=True)
class Translated:
    """What a tree says.

    Attributes:
        model: node of `LatentDiffusion`.
        objective: node of `DiffusionObjective`.
        ema: whether the network's weights are averaged.
        train_conditioner: whether the conditioner learns.
        scheduler: their scheduler node, or none.
    """

    model: Node
    objective: Node
    ema: bool
    train_conditioner: bool
    scheduler: Node | None


def process(p: Parameters) -> Node:
    """`beta_schedule` and its numbers -> a process of ours."""
    kind, betas = p.take("beta_schedule", "linear"), p.take("given_betas")
    start, end, s = float(p.take("linear_start", 1e-4)), float(p.take("linear_end", 2e-2)), float(p.take("cosine_s", 8e-3))
    T = p.take("timesteps", 1000)
    if betas is not None:
        return {"target": "ldm.diffusion.from_betas", "params": {"betas": [float(b) for b in betas]}}
    if kind == "cosine":
        return {"target": "ldm.diffusion.cosine", "params": {"T": T, "s": s}}
    # Their "linear" is linear in sqrt(beta); their "sqrt_linear" is linear in beta.
    names = {"linear": "scaled_linear", "sqrt_linear": "linear", "sqrt": "sqrt"}
    if kind not in names:
        raise UserError(f"{p.target}: beta_schedule {kind!r} is unknown; there are {', '.join((*names, 'cosine'))}")
    return {"target": f"ldm.diffusion.{names[kind]}", "params": {"T": T, "start": start, "end": end}}


def first_stage(node: Any, channels: int) -> Node:
    """`first_stage_config` -> a first stage of ours; `channels` is the latent's depth where the tree itself has none."""
    target, params = split(node, "first_stage_config")
    loss = str((params.get("lossconfig") or {}).get("target", LOSSES[0]))
    if loss not in LOSSES:  # a frozen first stage has no use for it, but a wrong name is a wrong name
        raise UserError(f"first_stage_config: lossconfig: unknown target {loss!r}")
    if target.endswith(AUTOENCODERS):
        return autoencoder(target, params)
    if target.endswith("autoencoder.IdentityFirstStage"):
        return {"target": "ldm.first_stage.IdentityFirstStage", "params": {"channels": channels}}
    raise UserError(f"first_stage_config: unknown target {target!r}; there are {', '.join(AUTOENCODERS)} and IdentityFirstStage")


def autoencoder(target: str, params: Mapping[str, Any]) -> Node:
    """One of `AUTOENCODERS` -> a first stage of ours; its loss is another node."""
    return (kl_autoencoder if target.endswith("AutoencoderKL") else vq_autoencoder)(target, params)


def factor_of(stage: Node) -> int:
    """Downsampling factor of a first stage's node."""
    return int(2 ** (len(stage["params"].get("width_mult", [1])) - 1))


def latent_diffusion(target: str, params: Mapping[str, Any]) -> Translated:
    """The parameters of `LatentDiffusion` (or `DDPM`, which works on pixels).

    Raises:
        UserError: an unknown target or parameter, or one whose meaning this project does not have.
    """
    if not target.endswith(DIFFUSION):
        raise UserError(f"unknown target {target!r}: expected one of {', '.join(DIFFUSION)}")
    p = Parameters(target, params)
    unet_target, unet_params = split(p.require("unet_config"), "unet_config")
    if not unet_target.endswith("openaimodel.UNetModel"):
        raise UserError(f"unet_config: unknown target {unet_target!r}")
    net = network(unet_target, unet_params)["params"]
    pixels = target.endswith("ddpm.DDPM")
    channels = p.take("channels", net["out_channels"])
    stage_node = {"target": "autoencoder.IdentityFirstStage"} if pixels else p.require("first_stage_config")
    stage = first_stage(stage_node, channels)
    made: Node = {"first_stage": stage, "network": {"target": "ldm.networks.UNet", "params": net}, "process": process(p)}
    cond = "__is_unconditional__" if pixels else p.require("cond_stage_config")
    key = p.take("conditioning_key")
    concat_mode, batch_key = p.take("concat_mode", True), p.take("cond_stage_key", "image")
    conditioner = _conditioner(cond, key or ("concat" if concat_mode else "crossattn"), batch_key, net, stage)
    if conditioner is not None:
        made["conditioner"] = conditioner
    made["parameterization"] = p.take("parameterization", "eps")
    scale = float(p.take("scale_factor", 1.0))
    made["scale"] = "std" if p.take("scale_by_std", False) else scale
    objective = _objective(p, made)
    ema, trainable, scheduler = p.take("use_ema", True), p.take("cond_stage_trainable", False), p.take("scheduler_config")
    _pass_over(p)
    return Translated({"target": "ldm.model.LatentDiffusion", "params": made}, objective, ema, trainable, scheduler)


def _pass_over(p: Parameters) -> None:
    """Parameters that change neither the model nor its training here, and those that must have their usual value."""
    for key in ("image_size", "first_stage_key", "log_every_t", "monitor", "clip_denoised", "cond_stage_forward"):
        p.take(key)
    for key in ("ckpt_path", "ignore_keys", "load_only_unet"):  # where weights come from is said elsewhere
        p.take(key)
    for key in ("load_ema", "reset_ema", "reset_num_ema_updates", "keep_num_ema_updates", "make_it_fit"):  # of loading their files
        p.take(key)
    p.expect("unet_trainable", True)
    p.expect("ucg_training", None, {})
    for key, usual in (("num_timesteps_cond", 1), ("v_posterior", 0.0), ("use_positional_encodings", False)):
        p.expect(key, usual, None)
    p.done()


def _objective(p: Parameters, model: Node) -> Node:
    T = model["process"]["params"].get("T") or len(model["process"]["params"]["betas"])
    learned = p.take("learn_logvar", False)
    initial = float(p.take("logvar_init", 0.0))
    if initial and not learned:
        raise UserError(f"{p.target}: logvar_init={initial} without learn_logvar is not supported")
    made = {
        "loss": p.take("loss_type", "l2"),
        "simple_weight": float(p.take("l_simple_weight", 1.0)),
        "vlb_weight": float(p.take("original_elbo_weight", 0.0)),
        "vlb": "original",
        "log_variances": T if learned else None,
        "initial_log_variance": initial,
    }
    return {"target": "ldm.diffusion.DiffusionObjective", "params": made}


def _conditioner(cond: Any, key: str, batch_key: str, net: Node, stage: Node) -> Node | None:
    extra = net["in_channels"] - net["out_channels"]
    if cond == "__is_unconditional__":
        return None
    if key not in ("concat", "crossattn", "adm", "hybrid"):
        raise UserError(f"conditioning_key {key!r} is unknown; there are concat, crossattn, adm and hybrid")
    if cond == "__is_first_stage__":
        return _through_first_stage(key, batch_key, extra, net["out_channels"], factor_of(stage))
    target, params = split(cond, "cond_stage_config")
    if target == "torch.nn.Identity":
        return _identity(key, batch_key, extra, net)
    for ending, made, keys in _CONDITIONERS:
        if target.endswith(ending):
            if key not in keys:
                raise UserError(f"cond_stage_config: {target} with conditioning_key {key!r} is not supported")
            return made(Parameters(target, params))
    raise UserError(
        f"cond_stage_config: unknown target {target!r}; there are __is_unconditional__, __is_first_stage__, torch.nn.Identity and of "
        f"ldm.modules.encoders.modules {', '.join(ending.rpartition('.')[2] for ending, _, _ in _CONDITIONERS)}"
    )


def _image(key: str, channels: int, **more: Any) -> Node:
    return {"target": "ldm.conditioning.ConcatImage", "params": {"key": key, "channels": channels, **more}}


def _through_first_stage(key: str, batch_key: str, extra: int, z: int, factor: int) -> Node:
    """The conditioner is the first stage itself; its latents are not scaled. A further channel is the mask (inpainting)."""
    if key != "concat":
        raise UserError(f"cond_stage_config __is_first_stage__ with conditioning_key {key!r} is not supported")
    image = _image(KEYS.get(batch_key, "masked_image"), z, encode=True, scaled=False)
    if extra == z:
        return image
    if extra != z + 1:
        raise UserError(f"cond_stage_config __is_first_stage__: unet_config has {extra} channels beside z, expected {z} or {z + 1}")
    mask = _image("mask", 1, factor=factor, signed=True)
    return {"target": "ldm.conditioning.Joint", "params": {"parts": [image, mask]}}


def _identity(key: str, batch_key: str, extra: int, net: Node) -> Node:
    """The condition goes to the network as the batch gives it."""
    image = _image(KEYS.get(batch_key, "low_res"), extra)
    tokens = {"target": "ldm.conditioning.GivenContext", "params": {"width": net["context_channels"]}}
    if key == "concat":
        return image
    if key == "crossattn":
        return tokens
    if key == "hybrid":
        return {"target": "ldm.conditioning.Joint", "params": {"parts": [image, tokens]}}
    return {"target": "ldm.conditioning.LabelVector", "params": {"num_classes": net["vector_channels"]}}


def _class(p: Parameters) -> Node:
    classes, width = p.take("n_classes", 1000), p.require("embed_dim")
    p.take("key")
    p.done()
    null = classes == GUIDED_CLASSES
    made = {"num_classes": classes - int(null), "width": width, "null_class": null}
    return {"target": "ldm.conditioning.ClassEmbedding", "params": made}


def _tokens(p: Parameters) -> Node:
    width, depth, vocabulary = p.require("n_embed"), p.require("n_layer"), p.take("vocab_size", 30522)
    length, text = p.take("max_seq_len", 77), p.take("use_tokenizer", True)
    p.take("device")
    p.expect("embedding_dropout", 0.0)
    p.done()
    made: Node = {"width": width, "depth": depth, "logit_head": True}
    if text:
        tokenizer = {"target": "ldm.conditioning.BertTokenizer", "params": {"vocabulary_size": vocabulary}}
        return {"target": "ldm.conditioning.TextTransformer", "params": {"tokenizer": tokenizer, "length": length, **made}}
    if length % 3 == 1:
        raise UserError(f"{p.target}: max_seq_len {length} is neither three tokens per object nor two more for the crop")
    boxes = {"max_objects": length // 3, "vocabulary": vocabulary, "crop": length % 3 == 2}
    tokenizer = {"target": "ldm.conditioning.BoxTokenizer", "params": boxes}
    return {"target": "ldm.conditioning.LayoutTransformer", "params": {"tokenizer": tokenizer, **made}}


def _tokens_without_tokenizer(p: Parameters) -> Node:
    p.left.setdefault("use_tokenizer", False)
    return _tokens(p)


def rescaler(p: Parameters) -> Node:
    """`SpatialRescaler` -> `Rescaler`."""
    made = {
        "in_channels": p.take("in_channels", 3),
        "out_channels": p.take("out_channels"),
        "stages": p.take("n_stages", 1),
        "factor": float(p.take("multiplier", 0.5)),
        "method": p.take("method", "bilinear"),
        "bias": p.take("bias", False),
    }
    p.done()
    return {"target": "ldm.conditioning.Rescaler", "params": made}


def _label_map(p: Parameters) -> Node:
    inner = rescaler(p)
    return {"target": "ldm.conditioning.LabelMap", "params": {"num_classes": inner["params"]["in_channels"], "rescaler": inner}}


_CONDITIONERS = (
    ("encoders.modules.ClassEmbedder", _class, ("crossattn",)),
    ("encoders.modules.BERTEmbedder", _tokens, ("crossattn",)),
    ("encoders.modules.TransformerEmbedder", _tokens_without_tokenizer, ("crossattn",)),
    ("encoders.modules.SpatialRescaler", _label_map, ("concat",)),
    ("encoders.modules.FrozenCLIPEmbedder", text.clip, ("crossattn",)),
    ("encoders.modules.FrozenOpenCLIPEmbedder", text.open_clip, ("crossattn",)),
)
