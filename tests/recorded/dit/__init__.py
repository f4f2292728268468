"""Recorded cases of DiT, SiT, LightningDiT and EDM, and what runs each kind.

The kind of a case follows from its target and parameters; its name does not count. Weights of a case are read like
a user's checkpoint.
"""

from recorded.case import Case, Runner, Unsupported, nothing
from recorded.dit import edm, networks, sampling, transport

PROGRAMS = ("DiT", "SiT", "LightningDiT", "EDM", "EDM2")
RUNNERS: tuple[tuple[str, Runner], ...] = (
    ("models.DiT", networks.whole),
    ("models.SiT", networks.whole),
    ("lightningdit.LightningDiT", networks.whole),
    ("models.DiTBlock", networks.block),
    ("models.SiTBlock", networks.block),
    ("lightningdit.LightningDiTBlock", networks.block),
    ("FinalLayer", networks.final_layer),
    ("rmsnorm.RMSNorm", networks.rms_norm),
    ("LabelEmbedder", networks.labels),
    ("get_2d_sincos_pos_embed", networks.positions),
    ("VisionRotaryEmbeddingFast", networks.rotary),
    ("TimestepEmbedder.timestep_embedding", networks.times),
    ("transport.path.ICPlan", transport.path),
    ("transport.Transport.training_losses", transport.losses),
    ("transport.Transport.sample", transport.times),
    ("img_latent_dataset.ImgLatentDataset", transport.latents),
    ("transport.Sampler.sample_ode", sampling.ode),
    ("transport.Sampler.sample_sde", nothing(Unsupported("sampling of SiT by an SDE is not built: the ODE is"))),
    ("diffusion.create_diffusion", sampling.diffusion),
    ("networks.EDMPrecond", edm.preconditioning),
    ("loss.EDMLoss", edm.losses),
    ("generate.edm_sampler", edm.sampler),
    ("training_loop.EDM2Loss", edm.uncertainty),
    ("training_loop.learning_rate_schedule", nothing(Unsupported("EDM2's learning rate schedule is not built"))),
)


def runner_for(case: Case) -> Runner | None:
    """The runner of a case's kind; None if there is none."""
    words = case.target.replace("|", " ").split() or [""]
    program, _, rest = words[0].partition(".")
    if program not in PROGRAMS:
        return None
    if rest == "generate.edm_sampler" and "data" not in case.params:
        return edm.steps
    return next((runner for ending, runner in RUNNERS if f".{rest}".endswith(f".{ending}")), None)
