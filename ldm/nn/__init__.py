"""Building blocks: tensors in, tensors out. One family for the UNet, the autoencoder and the text encoder."""

from ldm.nn.attention import AttentionPool2d, CrossAttention, SelfAttention2d, SpatialTransformer
from ldm.nn.conv import Downsample, ResBlock, Upsample, group_norm
from ldm.nn.embedding import timestep_embedding
from ldm.nn.transformer import TokenTransformer

__all__ = [
    "AttentionPool2d",
    "CrossAttention",
    "Downsample",
    "ResBlock",
    "SelfAttention2d",
    "SpatialTransformer",
    "TokenTransformer",
    "Upsample",
    "group_norm",
    "timestep_embedding",
]
