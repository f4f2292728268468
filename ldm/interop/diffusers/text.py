"""The paper's text transformer <-> `LDMBertModel`, whose class lives in diffusers."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ldm.conditioning import BertTokenizer, Conditioner, TextTransformer
from ldm.interop.diffusers.files import BERT_WEIGHTS, read_settings, read_tensors, write_json, write_tensors
from ldm.interop.diffusers.settings import Settings
from ldm.interop.diffusers.weights import from_diffusers, to_diffusers
from ldm.interop.settings import Node
from ldm.nn import CrossAttention, TokenTransformer
from ldm.system.files import copy_file

LENGTH = 77  # of every caption in LDMTextToImagePipeline, fixed in its code
IGNORED = (  # say nothing about the numbers that come out
    "architectures",
    "attention_dropout",
    "activation_dropout",
    "classifier_dropout",
    "dropout",
    "dtype",
    "encoder_layerdrop",
    "init_std",
    "num_hidden_layers",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "pad_token_id",
)
TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def is_ldm_bert(conditioner: Conditioner) -> bool:
    """Whether `LDMTextToImagePipeline` would feed its transformer as we do: word pieces, 77 of them."""
    return (
        isinstance(conditioner, TextTransformer)
        and isinstance(conditioner.tokenizer, BertTokenizer)
        and conditioner.length == LENGTH
        and len(conditioner.transformer.blocks) > 0
    )


def write_bert(conditioner: TextTransformer, folder: Path) -> None:
    """`folder/config.json` and weights of an `LDMBertModel`; its unused head is zero where ours has none."""
    transformer = conditioner.transformer
    tensors = to_diffusers(transformer)
    vocabulary = transformer.tokens.num_embeddings
    tensors.setdefault("to_logits.weight", torch.zeros(vocabulary, transformer.width))
    tensors.setdefault("to_logits.bias", torch.zeros(vocabulary))
    attention = transformer.blocks[0].attention
    assert isinstance(attention, CrossAttention)
    config = {
        "architectures": ["LDMBertModel"],
        "model_type": "ldmbert",
        "vocab_size": vocabulary,
        "max_position_embeddings": transformer.length,
        "encoder_layers": len(transformer.blocks),
        "encoder_ffn_dim": 4 * transformer.width,
        "encoder_attention_heads": attention.heads,
        "head_dim": attention.q.out_features // attention.heads,
        "d_model": transformer.width,
        "activation_function": "gelu",
        "dropout": 0.0,
        "scale_embedding": False,
        "pad_token_id": 0,
    }
    write_tensors(folder / BERT_WEIGHTS, tensors)
    write_json(folder / "config.json", config)


def write_tokenizer(tokenizer: BertTokenizer, folder: Path) -> list[str]:
    """The vocabulary of a local tokenizer, or a note where it has to come from."""
    source = Path(tokenizer.source)
    if not (source / "vocab.txt").is_file():
        return [f"{folder.name}/ is not written: put vocab.txt of {tokenizer.source!r} there before the pipeline is loaded"]
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            copy_file(source / name, folder / name)
    if not (folder / "tokenizer_config.json").is_file():
        write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    return []


def read_bert(folder: Path) -> Node:
    """The conditioner's node from an `LDMBertModel` of others.

    Raises:
        MissingFile: no config.
        UserError: a transformer that `TextTransformer` cannot express.
    """
    path = folder / "config.json"
    settings = Settings(path, read_settings(path, "the settings of an LDMBertModel"))
    settings.ignore(*IGNORED)
    settings.expect("model_type", "ldmbert")
    settings.expect("activation_function", "gelu")
    settings.expect("scale_embedding", False)
    width = settings.take("d_model", 1280)
    settings.follows("encoder_ffn_dim", 5120, 4 * width)
    tokenizer = {"source": str(folder.parent / "tokenizer"), "vocabulary_size": settings.take("vocab_size", 30522)}
    made: dict[str, Any] = {
        "tokenizer": {"target": "ldm.conditioning.BertTokenizer", "params": tokenizer},
        "length": settings.take("max_position_embeddings", LENGTH),
        "width": width,
        "depth": settings.take("encoder_layers", 32),
        "heads": settings.take("encoder_attention_heads", 8),
        "head_channels": settings.take("head_dim", 64),
        "logit_head": True,
    }
    settings.done()
    return {"target": "ldm.conditioning.TextTransformer", "params": made}


def read_bert_weights(transformer: TokenTransformer, folder: Path) -> dict[str, Tensor]:
    """Weights under our names; the head is left out where our transformer has none."""
    tensors = read_tensors(folder, BERT_WEIGHTS)
    if transformer.logits is None:
        tensors = {name: value for name, value in tensors.items() if not name.startswith("to_logits.")}
    return from_diffusers(transformer, tensors, folder / BERT_WEIGHTS)
