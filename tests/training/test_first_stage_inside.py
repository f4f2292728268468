"""A first stage that comes from no file is stored with stage two's weights."""

import torch

from ldm.diffusion import cosine
from ldm.first_stage import KLAutoencoder
from ldm.model import LatentDiffusion
from ldm.networks import UNet
from ldm.training import DiffusionTraining


def test_weights_of_a_first_stage_without_a_file_are_stored() -> None:
    stage = KLAutoencoder(channels=4, width=32, width_mult=[1, 2])
    network = UNet(in_channels=4, out_channels=4, width=32, width_mult=[1], attention_at=[], heads=1)
    training = DiffusionTraining(LatentDiffusion(stage, network, cosine()), optimizer=torch.optim.AdamW)
    inside = {f"first_stage.{name}" for name in stage.state_dict()}
    assert inside and inside <= training.weights().keys() and not inside & training.training_state().keys()
    training.model.load_state_dict(training.weights())
    stage.sha256 = "of a file"
    assert not inside & training.weights().keys()
