"""Conditioning (Sec. 3.3): a condition y becomes tokens, channels or a vector for the network."""

from ldm.conditioning.base import Conditioner, Conditioning, Encode, Joint, TextConditioner, Unconditional
from ldm.conditioning.given import GivenContext
from ldm.conditioning.image import ConcatImage, LabelMap, Rescaler
from ldm.conditioning.label import ClassEmbedding, ClassVector, LabelVector
from ldm.conditioning.layout import BoxTokenizer, LayoutTransformer
from ldm.conditioning.number import NumberVector
from ldm.conditioning.pretrained_text import PretrainedText
from ldm.conditioning.text import TextTransformer
from ldm.conditioning.tokenizers import BertTokenizer, WordPieces, WordTokenizer

__all__ = [
    "BertTokenizer",
    "BoxTokenizer",
    "ClassEmbedding",
    "ClassVector",
    "ConcatImage",
    "Conditioner",
    "Conditioning",
    "Encode",
    "GivenContext",
    "Joint",
    "LabelMap",
    "LabelVector",
    "LayoutTransformer",
    "NumberVector",
    "PretrainedText",
    "Rescaler",
    "TextConditioner",
    "TextTransformer",
    "Unconditional",
    "WordPieces",
    "WordTokenizer",
]
