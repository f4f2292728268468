"""Conditioning (Sec. 3.3): what y is becomes tokens, channels or a vector for the UNet."""

from ldm.conditioning.base import Conditioner, Conditioning, Encode, Joint, Unconditional
from ldm.conditioning.image import ConcatImage
from ldm.conditioning.label import ClassEmbedding
from ldm.conditioning.text import TextTransformer
from ldm.conditioning.tokenizers import BertTokenizer, WordTokenizer

__all__ = [
    "BertTokenizer",
    "ClassEmbedding",
    "ConcatImage",
    "Conditioner",
    "Conditioning",
    "Encode",
    "Joint",
    "TextTransformer",
    "Unconditional",
    "WordTokenizer",
]
