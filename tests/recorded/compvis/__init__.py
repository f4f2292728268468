"""Recorded cases of the public reference, and what runs each kind.

The kind of a case follows from its target and parameters; its name does not count. Weights of a case are read
like a user's checkpoint.
"""

from recorded.case import Case, Runner, Unsupported, nothing
from recorded.compvis import losses, maths, networks, sampling, whole

RUNNERS: tuple[tuple[tuple[str, ...], Runner], ...] = (
    (("openaimodel.UNetModel",), networks.unet),
    (("openaimodel.EncoderUNetModel",), networks.classifier),
    (("autoencoder.AutoencoderKL",), networks.kl),
    (("autoencoder.VQModel", "autoencoder.VQModelInterface"), networks.vq),
    (("quantize.VectorQuantizer2",), networks.quantizer),
    (("encoders.modules.BERTEmbedder", "encoders.modules.TransformerEmbedder"), networks.tokens),
    (("encoders.modules.ClassEmbedder",), networks.label),
    (("encoders.modules.SpatialRescaler",), networks.spatial_rescaler),
    (("model.NLayerDiscriminator",), networks.discriminator),
    (("model.AttnBlock",), networks.single_head_attention),
    (("attention.CrossAttention",), networks.cross_attention),
    (("QKVAttentionLegacy", "QKVAttention"), networks.packed_attention),
    (("get_timestep_embedding",), maths.first_stage_embedding),
    (("timestep_embedding",), maths.embedding),
    (("DiagonalGaussianDistribution",), maths.gaussian),
    (("DDPM.register_schedule",), maths.schedule_tables),
    (("util.make_ddim_*",), maths.ddim_tables),
    (("ema.LitEma",), maths.ema),
    (
        (
            "lr_scheduler.LambdaWarmUpCosineScheduler",
            "lr_scheduler.LambdaWarmUpCosineScheduler2",
            "lr_scheduler.LambdaLinearScheduler",
        ),
        maths.learning_rate,
    ),
    (("losses.LPIPSWithDiscriminator", "contperceptual.LPIPSWithDiscriminator"), losses.kl_loss),
    (("vqperceptual.VQLPIPSWithDiscriminator",), losses.vq_loss),
    (("DDIMSampler", "PLMSSampler"), sampling.ddim_and_plms),
)
UNSUPPORTED: tuple[tuple[str, dict[str, bool], str], ...] = (
    ("model.LinAttnBlock", {}, "no official config uses linear attention (attn_type: linear)"),
    ("LatentDiffusion.get_fold_unfold", {}, "no official config cuts latents into patches (split_input_params)"),
    ("model.NLayerDiscriminator", {"use_actnorm": True}, "no official config uses ActNorm"),
)


def runner_for(case: Case) -> Runner | None:
    """The runner of a case's kind; None if there is none."""
    first = _targets(case)[0]
    for ending, params, reason in UNSUPPORTED:
        if first.endswith(ending) and params.items() <= case.params.items():
            return nothing(Unsupported(reason))
    if first.endswith(("ddpm.LatentDiffusion", "ddpm.DDPM", "ddpm.Layout2ImgDiffusion")):
        return _of_diffusion(case)
    return next((runner for endings, runner in RUNNERS if any(f".{first}".endswith(f".{ending}") for ending in endings)), None)


def _of_diffusion(case: Case) -> Runner | None:
    """Cases of a model: distinguished by the groups of their parameters, then by their inputs."""
    if "model" in case.params:
        return whole.checkpoint
    if "common" in case.params:
        return losses.diffusion_losses
    if "unet_config" in case.params:
        return whole.conditioning
    groups = [value for value in case.params.values() if isinstance(value, dict)]
    return sampling.ancestral if groups and all("unet_config" in group for group in groups) else None


def _targets(case: Case) -> list[str]:
    return case.target.replace("|", " ").replace("/", " ").split() or [""]
