"""Do two sentences make the same claim? Answered from the texts alone, without a vocabulary of findings.

Two affirmations are taken for the same claim when their frozen sentence vectors are similar, and the first follows
from the second when it names no place that the second does not: "effusion" follows from "left pleural effusion", not
the other way round. Used to find contradictions (polarity.py) and pairs that are wrongly taken for negatives.
"""

import re
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SIMILAR = 0.7
"""Cosine of frozen sentence vectors from which two affirmations count as the same claim. On the phantom's training
sentences 0.92 of the pairs above it are about the same finding (docs/decisions.md)."""
_WORDS = (
    *("left", "right", "bilateral", "upper", "middle", "mid", "lower", "apex", "apical"),
    *("base", "basal", "basilar", "hilum", "hilar"),
)
_PLACE = re.compile(r"\b(" + "|".join(_WORDS) + r")\b")
_ABBREVIATED = {
    "lul": "left upper",
    "lll": "left lower",
    "rul": "right upper",
    "rml": "right middle",
    "rll": "right lower",
}
_LOBE = re.compile(r"\b(" + "|".join(_ABBREVIATED) + r")\b")


def follows(conclusions: list[str], premises: list[str], vectors_K: Tensor, vectors_L: Tensor) -> Tensor:
    """Return (K, L) bool: conclusion k is the claim of premise l, or a less definite form of it.

    Args:
        conclusions: K affirmative sentences.
        premises: L affirmative sentences.
        vectors_K: (K, E) frozen vectors of the conclusions.
        vectors_L: (L, E) frozen vectors of the premises.
    """
    similar = F.normalize(vectors_K, dim=-1) @ F.normalize(vectors_L, dim=-1).T > SIMILAR
    return similar & names_no_other_place(conclusions, premises).to(similar.device)


def names_no_other_place(conclusions: list[str], premises: list[str]) -> Tensor:
    """Return (K, L) bool: every place that conclusion k names is named by premise l, too."""
    named_K, named_L = (
        torch.tensor([_places(text) for text in texts], dtype=torch.int64)
        for texts in (conclusions, premises)
    )
    return (named_K[:, None] & ~named_L[None]) == 0


@lru_cache(maxsize=100_000)
def _places(text: str) -> int:
    """Return the set of places that a sentence names, one bit a word."""
    full = _LOBE.sub(lambda match: _ABBREVIATED[match[0]], text.lower())
    return sum(1 << _WORDS.index(word) for word in set(_PLACE.findall(full)))
