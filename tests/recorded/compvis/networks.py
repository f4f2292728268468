"""Recorded cases of networks and their parts."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.conditioning.label import ClassEmbedding
from ldm.config import AllowedTargets, build
from ldm.first_stage.loss import AutoencoderLoss
from ldm.first_stage.vq import Codebook
from ldm.interop.compvis import unet as unets
from ldm.interop.compvis.autoencoder import autoencoder
from ldm.interop.compvis.conditioner import rescaler
from ldm.interop.compvis.names import names_of, table_of
from ldm.interop.names import store
from ldm.interop.settings import Node, Settings
from ldm.networks.discriminator import PatchDiscriminator
from ldm.nn.attention import CrossAttention, SingleHeadAttention, attend_packed
from ldm.nn.transformer import TokenTransformer
from recorded.case import Case
from recorded.compvis.weights import from_compvis


def built(node: Node, weights: Mapping[str, Tensor]) -> nn.Module:
    """A network from its translated parameters, with weights by their names, in eval mode."""
    module = build(node, AllowedTargets()).eval()
    from_compvis(module, weights)
    return module  # type: ignore[no-any-return]


def unet(case: Case) -> dict[str, Tensor]:
    """Output and gradients of a UNet, and the output with the other meaning of heads where it was recorded."""
    net = built(unets.network(case.target, case.params), case.weights)
    x = case.inputs["x"].requires_grad_()
    y = case.inputs.get("y")
    vector = None if y is None else F.one_hot(y, case.params["num_classes"]).float()
    out = net(x, case.inputs["timesteps"], case.inputs.get("context"), vector)
    got = {"y": out}
    if "cotangent" in case.inputs:
        (out * case.inputs["cotangent"]).sum().backward()
        got["grad_x"] = x.grad
    grads = {ours: p.grad for ours, p in net.named_parameters() if p.grad is not None}
    table = {ours: entry for ours, entry in table_of(net).items() if ours in grads}
    got |= {f"grad_{theirs}": grad for theirs, grad in store(table, grads).items()}
    if "y_legacy_false" in case.outputs:
        other = built(unets.network(case.target, {**case.params, "legacy": False}), case.weights)
        got["y_legacy_false"] = other(x, case.inputs["timesteps"], case.inputs.get("context"), vector)
    return got  # type: ignore[return-value]


@torch.no_grad()
def kl(case: Case) -> dict[str, Tensor]:
    """Posterior, samples and reconstructions of a KL autoencoder."""
    stage = built(autoencoder(case.target, case.params), case.weights)
    x, noise = case.inputs["x"], case.inputs["noise"]
    q = stage.posterior(x)  # type: ignore[operator]
    std = torch.exp(0.5 * q.log_variance)
    sample = stage.encode(x, noise)  # type: ignore[operator]
    features = stage.encoder(x)  # type: ignore[operator]
    return {
        "encoder": features,
        "moments": stage.to_moments(features),  # type: ignore[operator]
        "mode": stage.encode(x),  # type: ignore[operator]
        "logvar": q.log_variance,
        "std": std,
        "sample": sample,
        "kl": q.kl(),
        "nll_of_sample": -torch.distributions.Normal(q.mean, std).log_prob(sample).flatten(1).sum(1),
        "dec_mode": stage.decode(stage.encode(x)),  # type: ignore[operator]
        "dec_sample": stage.decode(sample),  # type: ignore[operator]
    }


@torch.no_grad()
def vq(case: Case) -> dict[str, Tensor]:
    """Latents, codes and reconstructions of a VQ autoencoder, with and without quantisation."""
    stage = built(autoencoder(case.target, case.params), case.weights)
    x, z = case.inputs["x"], case.inputs["z"]
    whole = stage.reconstruct(x)  # type: ignore[operator]
    return {
        "prequant": whole.latent,
        "quant": stage.codebook.lookup(whole.codes),  # type: ignore[operator, union-attr]
        "indices": whole.codes.flatten(),
        "codebook_loss": whole.regularizer.mean(),
        "dec": whole.image,
        "iface_encode": stage.encode(x),  # type: ignore[operator]
        "iface_decode": stage.decode(z),  # type: ignore[operator]
        "iface_decode_noquant": stage.decoder(stage.from_codes(z)),  # type: ignore[operator]
    }


def quantizer(case: Case) -> dict[str, Tensor]:
    """The codebook alone: quantised latents, loss, indices and gradients, or a look-up."""
    p = Settings(case.target, case.params)
    book = Codebook(p.require("n_e"), p.require("e_dim"), p.take("beta", 0.25), p.take("legacy", True))
    sane = p.take("sane_index_shape", False)
    p.done()
    with torch.no_grad():
        book.embedding.weight.copy_(case.weights["embedding.weight"])
    if "indices" in case.inputs:
        if case.inputs["indices"].ndim == 1:
            return {"entry_raw": book.embedding(case.inputs["indices"])}
        found = book.lookup(case.inputs["indices"])
        return {"entry_bchw": found, "entry_raw": found.permute(0, 2, 3, 1)}
    z = case.inputs["z"].requires_grad_()
    quantised, loss, codes = book(z)
    indices = codes if sane else codes.flatten()
    grads: dict[str, Tensor | None] = {}
    if "cotangent" in case.inputs:
        (loss.mean() + (quantised * case.inputs["cotangent"]).sum()).backward()
        grads = {"grad_z": z.grad, "grad_codebook": book.embedding.weight.grad}
    return {"quant": quantised, "loss": loss.mean(), "indices": indices, **grads}  # type: ignore[dict-item]


@torch.no_grad()
def tokens(case: Case) -> dict[str, Tensor]:
    """The token transformer, before and after its unused head, at full length and shorter."""
    p = Settings(case.target, case.params)
    size = (p.take("vocab_size", 30522), p.take("max_seq_len", 77), p.require("n_embed"), p.require("n_layer"))
    transformer = TokenTransformer(*size, logit_head=True).eval()
    from_compvis(transformer, {key.removeprefix("transformer."): value for key, value in case.weights.items()})
    got: dict[str, Tensor] = {}
    for ending in (name.removeprefix("tokens") for name in case.inputs if name.startswith("tokens")):
        context = transformer(case.inputs[f"tokens{ending}"])
        got |= {f"context{ending}": context, f"logits{ending}": transformer.logits(context)}  # type: ignore[misc]
    return got


@torch.no_grad()
def label(case: Case) -> dict[str, Tensor]:
    """The class embedding."""
    p = Settings(case.target, case.params)
    classes, width, key = p.take("n_classes", 1000), p.require("embed_dim"), p.take("key", "class")
    p.done()
    embedding = ClassEmbedding(classes, width, null_class=False)
    embedding.load_state_dict(case.weights)
    context = embedding({"label": case.inputs[key]}, lambda x, scaled: x).context
    return {} if context is None else {"context": context}


@torch.no_grad()
def discriminator(case: Case) -> dict[str, Tensor]:
    """The patch discriminator in both modes, its running statistics, and both losses."""
    p = Settings(case.target, case.params)
    p.expect("use_actnorm", False)
    size = (p.take("input_nc", 3), p.take("ndf", 64), p.take("n_layers", 3))
    p.done()
    x, y = case.inputs["x"], case.inputs["y"]
    got: dict[str, Tensor] = {}
    for kind in ("hinge", "vanilla"):
        net = PatchDiscriminator(*size)
        from_compvis(net, case.weights)
        got[kind] = AutoencoderLoss(discriminator=net.train(), adversarial_loss=kind).adversary(x, y)[0]  # type: ignore[arg-type]
    net = PatchDiscriminator(*size)
    from_compvis(net, case.weights)
    got["logits_eval"] = net.eval()(x)
    got |= {"logits_train": net.train()(x), "logits_train_2": net(y)}
    state = net.state_dict()
    return got | {f"after.{theirs}": state[ours] for ours, theirs in names_of(net).items()}


@torch.no_grad()
def single_head_attention(case: Case) -> dict[str, Tensor]:
    """The autoencoder's attention block."""
    block = SingleHeadAttention(case.params["in_channels"])
    names = {"norm": "norm", "q": "q", "k": "k", "v": "v", "out": "proj_out"}
    block.load_state_dict(
        {f"{ours}.{leaf}": case.weights[f"{theirs}.{leaf}"] for ours, theirs in names.items() for leaf in ("weight", "bias")}
    )
    return {"y": block(case.inputs["x"])}


@torch.no_grad()
def classifier(case: Case) -> dict[str, Tensor]:
    """The classifier on noisy latents."""
    net = built(unets.classifier(case.target, case.params), case.weights)
    return {"logits": net(case.inputs["x"], case.inputs["timesteps"])}


@torch.no_grad()
def spatial_rescaler(case: Case) -> dict[str, Tensor]:
    """The conditioner of semantic maps."""
    made = build(rescaler(Settings(case.target, case.params)), AllowedTargets())
    state = {name.replace("channel_mapper.", "conv."): value for name, value in case.weights.items()}
    made.load_state_dict(state)
    return {"y": made(case.inputs["x"])}


@torch.no_grad()
def cross_attention(case: Case) -> dict[str, Tensor]:
    """Cross-attention alone, also with a mask."""
    p = Settings(case.target, case.params)
    width = p.require("query_dim")
    block = CrossAttention(width, p.take("heads", 8), p.take("dim_head", 64), p.take("context_dim"))
    p.take("dropout")
    p.done()
    names = {"to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "out."}
    block.load_state_dict(
        {
            ours + name.removeprefix(theirs): value
            for name, value in case.weights.items()
            for theirs, ours in names.items()
            if name.startswith(theirs)
        }
    )
    x, context = case.inputs["x"], case.inputs.get("context")
    got = {"y": block(x, context)}
    if "mask" in case.inputs:
        got["y_masked"] = block(x, context, case.inputs["mask"].bool())
    return got


def packed_attention(case: Case) -> dict[str, Tensor]:
    """Both channel layouts of fused self-attention; layout and heads stand in the outputs' names."""
    got = {}
    for key in case.outputs:
        layout, heads = key.split("_h")
        got[key] = attend_packed(case.inputs["qkv"], int(heads), qkv_by_head=layout == "legacy")
    return got
