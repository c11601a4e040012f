"""Which sentence of a batch is true of which image, as far as the reports say. Axes: S unique sentences, B studies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glint.losses.claims import follows

if TYPE_CHECKING:
    from glint.data.dataset import PairBatch

Vectors = Callable[[list[str]], Tensor]


@dataclass(frozen=True, slots=True)
class Pairs:
    """S unique sentences against the B images of a batch.

    Attributes:
        texts: The S sentences.
        positive: (S, B) the report of the image has the sentence, word for word.
        unknown: (S, B) it has not, but one that says the same in other words: neither positive nor negative.
        affirms: (S,) the sentence names something that can be seen.
    """

    texts: list[str]
    positive: Tensor
    unknown: Tensor
    affirms: Tensor

    @property
    def claims(self) -> Tensor:
        """(S, B) the report affirms the sentence."""
        return self.positive & self.affirms[:, None]


def find_pairs(batch: "PairBatch", vectors: Vectors, *, negated: bool, mask: bool) -> Pairs:
    """Read pairs off the reports of a batch.

    Args:
        batch: Sentences drawn from reports, and the whole reports.
        vectors: Frozen vectors (n, E) of n sentences.
        negated: Whether sentences that deny something, or call it normal, are among the S.
        mask: Whether to look for pairs that are unknown; no pair is when False.
    """
    ordinary = [i for i in range(len(batch.states)) if negated or _affirms(batch.states[i], batch.normal[i])]
    reports = [[sentence.text for sentence in report] for report in batch.reports]
    texts, positive = _told([batch.sentences[i] for i in ordinary], reports, batch.owner.device)
    affirming = {batch.sentences[i] for i in ordinary if _affirms(batch.states[i], batch.normal[i])}
    affirm = torch.tensor([text in affirming for text in texts], dtype=torch.bool, device=positive.device)
    claims = [[s.text for s in report if _affirms(s.state, s.normal)] for report in batch.reports]
    same = said_otherwise(texts, claims, vectors, positive.device) if mask else torch.zeros_like(positive)
    return Pairs(texts, positive, same & affirm[:, None] & ~positive, affirm)


def _affirms(state: str, normal: bool) -> bool:
    """Say whether a sentence names something that can be seen: neither denied nor declared normal."""
    return state != "absent" and not normal


def said_otherwise(
    texts: list[str], claims: Sequence[Sequence[str]], vectors: Vectors, device: torch.device
) -> Tensor:
    """Return (S, B) bool: a report has an affirmation from which the sentence follows.

    Args:
        texts: S affirmative sentences.
        claims: What each of B reports affirms.
        vectors: Frozen vectors (n, E) of n sentences.
        device: Where the result is.
    """
    if not texts or not any(claims):
        return torch.zeros(len(texts), len(claims), dtype=torch.bool, device=device)
    premises, told = _told([text for own in claims for text in own], claims, device)
    same = follows(texts, premises, vectors(texts), vectors(premises)).to(device)
    return same.float() @ told.float() > 0


def _told(
    texts: list[str], reports: Sequence[Sequence[str]], device: torch.device
) -> tuple[list[str], Tensor]:
    """Return unique texts and the mask (S, B) of the images whose report has them, word for word."""
    index = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    told = torch.zeros(len(index), len(reports), dtype=torch.bool, device=device)
    for image, report in enumerate(reports):
        told[[index[text] for text in report if text in index], image] = True
    return list(index), told
