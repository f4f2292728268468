"""Diagnostics of a first stage: statistics of its latents, codebook, colours and adversary over many images.

Stage two inherits all defects: a dead channel costs capacity, a codebook of which a tenth is used is a smaller codebook, and a
denoiser cannot correct a decoder's colours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ldm.first_stage.base import Reconstruction
from ldm.first_stage.vq import use_of_codes

COLOURS = {1: ("grey",), 3: ("red", "green", "blue")}


@dataclass(frozen=True)
class Health:
    """Statistics of a first stage over a set of images; all float64 on the CPU.

    Attributes:
        mean, std: `(c,)`, of every latent channel over images and positions.
        overall_std: of all channels together, around their common mean: what App. G divides by.
        kl: `(c,)`, KL of the posterior from N(0, 1) in nats per latent element; None without a posterior.
        code_counts: `(|Z|,)`, how often each code was chosen; None without a codebook.
        colour: `(C,)`, mean of reconstruction minus image in 8-bit levels.
    """

    mean: Tensor
    std: Tensor
    overall_std: float
    kl: Tensor | None
    code_counts: Tensor | None
    colour: Tensor

    def gap(self, scale: float = 1.0) -> Tensor:
        """Nats per element, `(c,)`, from a normal with each channel's mean and deviation, times `scale`, to N(0, 1).

        Of the aggregate latents, not of one image's posterior: how far they are from the noise that sampling starts from.
        """
        variance = (self.std * scale).square()
        return 0.5 * ((self.mean * scale).square() + variance - 1.0 - variance.clamp(min=1e-30).log())

    def scaled_gap(self) -> float:
        """Mean of `gap` after dividing latents by `overall_std`, as in stage two."""
        return float(self.gap(1.0 / max(self.overall_std, 1e-15)).mean())

    def codebook(self) -> tuple[float, float, float] | None:
        """Share of the codebook in use, perplexity of the codes, and the largest share possible with this number of positions."""
        if self.code_counts is None:
            return None
        share, perplexity = use_of_codes(self.code_counts)
        return float(share), float(perplexity), min(1.0, float(self.code_counts.sum()) / len(self.code_counts))

    def scalars(self) -> dict[str, float]:
        """All statistics by name, for logging; those per channel end in `_<channel>`."""
        values = {"prior_gap": float(self.gap().mean()), "prior_gap_scaled": self.scaled_gap()}
        if self.kl is not None:
            values["kl"] = float(self.kl.mean())
        if (codebook := self.codebook()) is not None:
            values["codebook_usage"], values["codebook_perplexity"] = codebook[:2]
        values["colour_drift"] = float(self.colour.abs().max())
        channels = {"latent_mean": self.mean, "latent_std": self.std, "kl": self.kl, "colour_drift": self.colour}
        for name, series in channels.items():
            values |= {f"{name}_{i}": value for i, value in enumerate([] if series is None else series.tolist())}
        return values

    def warnings(self) -> dict[str, str]:
        """Warnings by kind."""
        sick = {"latent": self.mean + self.std, "KL": self.kl, "reconstructions' colour": self.colour}
        if broken := [name for name, numbers in sick.items() if numbers is not None and not bool(numbers.isfinite().all())]:
            return {"not finite": f"of the {', '.join(broken)} not all numbers are finite: the weights or their average have diverged"}
        if self.overall_std < 1e-3:
            return {"latent": f"the latent's standard deviation is {self.overall_std:.2g}: the encoder may have collapsed"}
        found = {}
        if quiet := _numbers(self.std < 0.05 * self.overall_std):
            found["quiet channels"] = (
                f"latent channels {quiet} hardly vary (below 1/20 of the overall deviation): they carry almost no information"
            )
        if self.kl is not None and (silent := _numbers(self.kl < 0.01)):
            found["silent channels"] = (
                f"latent channels {silent} follow the prior whatever the image (KL below 0.01 nats): the KL weight is high"
            )
        if self.scaled_gap() > 0.5:
            found["prior gap"] = (
                f"scaled to unit deviation, latents are {self.scaled_gap():.2g} nats per element from the standard normal that sampling "
                f"starts from; channel means are {', '.join(f'{m:.2g}' for m in (self.mean / self.overall_std).tolist())} deviations"
            )
        codebook = self.codebook()
        if codebook is not None and codebook[0] < 0.05 * codebook[2]:
            reach = "" if codebook[2] == 1.0 else f", where the images looked at could use {codebook[2]:.1%}"
            found["codebook"] = f"only {codebook[0]:.2%} of the codebook is in use{reach}: it may be collapsing"
        if self.code_counts is not None and len(self.code_counts) > 1 and (most := self.code_counts.max() / self.code_counts.sum()) > 0.95:
            # Rare codes may all occur occasionally, so that the share in use looks fine.
            found["one code"] = f"one code stands for {float(most):.1%} of all positions: the codebook may be collapsing"
        if float(self.colour.abs().max()) > 4.0:
            names = COLOURS.get(len(self.colour), tuple(map(str, range(len(self.colour)))))
            shifts = ", ".join(f"{name} {shift:+.1f}" for name, shift in zip(names, self.colour.tolist(), strict=True))
            found["colour"] = f"reconstructions drift in colour: {shifts} of 255 levels on average"
        return found


class HealthMeter:
    """Accumulates the statistics of `Health` batch by batch; sums are float64, so the batch size does not matter.

    Args:
        codebook_size: |Z|; None without a codebook.
    """

    def __init__(self, codebook_size: int | None = None) -> None:
        self.codebook_size = codebook_size
        self.elements = 0  # positions of the latent, per channel
        self.images = 0
        self.sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, x: Tensor, y: Reconstruction) -> None:
        """Add images `(B, C, H, W)` in [-1, 1] and their reconstruction."""
        z = y.latent.float().cpu().double()
        self.images += len(x)
        self.elements += z.numel() // z.shape[1]
        # Decoder outputs exceed the range slightly; what is shown and measured is clipped.
        drift = (y.image.float().clamp(-1, 1) - x.float()).mean(dim=(2, 3)).cpu().double() * 127.5
        sums = {"z": z.sum(dim=(0, 2, 3)), "zz": z.square().sum(dim=(0, 2, 3)), "colour": drift.sum(dim=0)}
        if y.posterior is not None:
            sums["kl"] = y.posterior.kl_of_channels().cpu().double().sum(dim=0)
        if y.codes is not None and self.codebook_size is not None:
            sums["codes"] = torch.bincount(y.codes.flatten().cpu(), minlength=self.codebook_size)
        self.sums = {name: self.sums.get(name, 0) + value for name, value in sums.items()}

    def health(self) -> Health:
        """Statistics of all added images.

        Raises:
            ValueError: no images were added.
        """
        if not self.images:
            raise ValueError("no images were added")
        mean, square = self.sums["z"] / self.elements, self.sums["zz"] / self.elements
        return Health(
            mean=mean,
            std=(square - mean.square()).clamp(min=0).sqrt(),
            overall_std=float((square.mean() - mean.mean().square()).clamp(min=0).sqrt()),  # keeps NaN, as max() does not
            kl=self.sums["kl"] / self.elements if "kl" in self.sums else None,
            code_counts=self.sums.get("codes"),
            colour=self.sums["colour"] / self.images,
        )


def balance_warnings(latest: Mapping[str, float]) -> dict[str, str]:
    """Warnings about the balance of autoencoder and discriminator (App. G), from the latest training scalars.

    Args:
        latest: with `discriminator_right`, the discriminator's accuracy over patches; without it the adversary is not active yet.
    """
    right = latest.get("discriminator_right")
    if right is None:
        return {}
    if right > 0.98:
        return {"discriminator": f"the discriminator is right about {right:.1%} of patches: it has won, and its gradients no longer help"}
    if right < 0.4:  # an untrained discriminator, and a balanced one, reach 0.5
        return {"discriminator": f"the discriminator is right about {right:.1%} of patches: it points the wrong way"}
    return {}


def _numbers(chosen: Tensor) -> str:
    return ", ".join(map(str, chosen.nonzero().flatten().tolist()))
