"""Tiny random text encoders on disk, laid out as their repositories are."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
)

WORDS = [
    *("there", "is", "a", "no", "in", "the", "right", "left", "small", "large"),
    *("pleural", "effusion", "nodule", "pneumothorax", "lung", "."),
]
SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}


def write_tokenizer(folder: Path, *, side: str = "right", last_only: bool = False) -> None:
    """Words, between [CLS] and [SEP]; with `last_only` just the [SEP] behind them, as Qwen3-Embedding does."""
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]  # padding is number 1, as MPNet wants
    vocab = {word: i for i, word in enumerate([*special, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A [SEP]" if last_only else "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, padding_side=side, **tokens).save_pretrained(folder)


def write_bert(folder: Path) -> BertModel:
    """A plain BERT with safetensors, 48 positions."""
    net = _random(BertModel(BertConfig(**SIZES, pad_token_id=1, max_position_embeddings=48)))
    net.save_pretrained(folder)
    write_tokenizer(folder)
    return net


def write_cxr_bert(folder: Path) -> BertModel:
    """CXR-BERT's layout: a pickled state dict with heads, classes of its own in config and tokenizer, dropout 0.25."""
    config = BertConfig(**SIZES, hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.25)
    net = _random(BertModel(config, add_pooling_layer=False))
    folder.mkdir()
    tensors = {f"bert.{name}": value for name, value in net.state_dict().items()}
    tensors |= {
        "cls.predictions.bias": torch.zeros(40),
        "cls_projection_head.dense.weight": torch.ones(8, 32),
    }
    torch.save(tensors, folder / "pytorch_model.bin")
    own = {"AutoConfig": "configuration_cxrbert.CXRBertConfig", "AutoModel": "modeling_cxrbert.CXRBertModel"}
    described = config.to_dict() | {
        "model_type": "cxr-bert",
        "architectures": ["CXRBertModel"],
        "auto_map": own,
    }
    (folder / "config.json").write_text(json.dumps(described | {"projection_size": 128}))
    tokenizer = {"AutoTokenizer": ["configuration_cxrbert.CXRBertTokenizer", None]}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "CXRBertTokenizer", "auto_map": tokenizer})
    )
    (folder / "configuration_cxrbert.py").write_text("raise RuntimeError('code of the repository was run')\n")
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n"
    )
    return net.eval()


def write_mpnet(folder: Path) -> MPNetModel:
    """all-mpnet-base-v2's layout: files of sentence-transformers beside the model; 50 positions hold 48 tokens."""
    net = _random(MPNetModel(MPNetConfig(**SIZES, max_position_embeddings=50, pad_token_id=1)))
    net.save_pretrained(folder)
    write_tokenizer(folder)
    write_sentence_transformers(folder, {"pooling_mode_mean_tokens": True}, length=16)
    return net


def write_modernbert(folder: Path) -> ModernBertModel:
    """BioClinical-ModernBERT's architecture."""
    special = {"pad_token_id": 1, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    net = _random(ModernBertModel(ModernBertConfig(**SIZES, **special, max_position_embeddings=64)))
    net.save_pretrained(folder)
    write_tokenizer(folder)
    return net


def write_qwen3(folder: Path, side: str = "left") -> Qwen3Model:
    """Qwen3-Embedding's layout: causal, a token behind the text, weights in bf16."""
    net = Qwen3Model(Qwen3Config(**SIZES, num_key_value_heads=1, head_dim=16, max_position_embeddings=64))
    net = _random(net).to(torch.bfloat16)
    net.save_pretrained(folder)
    write_tokenizer(folder, side=side, last_only=True)
    return net.float()


def write_sentence_transformers(folder: Path, pooling: dict[str, Any], length: int = 0) -> None:
    """Write the files that say how vectors are made."""
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": False} | pooling))
    parts = ("Transformer", "Pooling", "Normalize")
    modules = [{"idx": i, "type": f"sentence_transformers.models.{part}"} for i, part in enumerate(parts)]
    (folder / "modules.json").write_text(json.dumps(modules, indent=2))
    if length:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length}))


def _random(net: Any) -> Any:
    """Weights large enough for padding and order to show."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.3, generator=generator)
    return net.eval()
