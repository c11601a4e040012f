"""Which images of a batch contradict a sentence? Found from the reports alone, without a vocabulary of findings.

A denied sentence says that its image lacks something; another report of the batch may affirm what it denies, in
other words. The frozen sentence encoder finds it: the affirmed forms of the two must be similar. Contrasting a
sentence with its negation on one image only would teach the style of the rewritten form (we saw exactly that).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glint.losses.claims import follows

if TYPE_CHECKING:
    from glint.data.dataset import PairBatch


@dataclass(frozen=True, slots=True)
class OppositePair:
    """A claim, its denial, an image whose report affirms the claim and one whose report denies it."""

    affirmed: str
    denied: str
    image_with: int
    image_without: int


def opposite_pairs(
    batch: "PairBatch", vectors: Callable[[list[str]], Tensor], generator: torch.Generator
) -> list[OppositePair]:
    """Return at most one pair per image of the batch, drawn at random.

    Args:
        batch: Sentences with their states and their safely turned forms (None where there is none).
        vectors: Frozen sentence vectors (S, E) of a list of sentences.
        generator: CPU generator of the step.
    """
    affirmed = [i for i, state in enumerate(batch.states) if state == "present" and not batch.normal[i]]
    denied = [
        i
        for i, state in enumerate(batch.states)
        if state == "absent" and batch.flips[i] and not batch.normal[i]
    ]
    if not affirmed or not denied:
        return []
    # Both sides as affirmations: "no effusion" is compared as "effusion"; "no left effusion" leaves the right open.
    turned, claims = [str(batch.flips[i]) for i in denied], [batch.sentences[i] for i in affirmed]
    owner = batch.owner.cpu()
    similar = follows(turned, claims, vectors(turned), vectors(claims)).cpu()
    similar &= owner[denied][:, None] != owner[affirmed][None]
    candidates = similar.nonzero()
    drawn = candidates[torch.randperm(len(candidates), generator=generator)[: len(batch.images)]]
    return [
        _pair(batch, denied[int(d)], affirmed[int(a)], owner, number) for number, (d, a) in enumerate(drawn)
    ]


def _pair(batch: "PairBatch", denied: int, affirmed: int, owner: Tensor, number: int) -> OppositePair:
    """Take the words of the denial and of the affirmation by turns, where the latter can be negated.

    "No effusion or nodule" turns into "effusion and nodule", which one of the two does not make true: of such
    lists the words of the affirmation are taken whenever possible.
    """
    claim, denial = str(batch.flips[denied]), batch.sentences[denied]
    negated = batch.flips[affirmed]
    if negated and (number % 2 or " and " in claim):
        claim, denial = batch.sentences[affirmed], negated
    return OppositePair(claim, denial, int(owner[affirmed]), int(owner[denied]))
