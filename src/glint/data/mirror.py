"""Mirrored images with mirrored sentences: twice the anatomy, and every finding on both sides.

A report of a mirrored radiograph is the report with left and right exchanged, but for what has no counterpart on the
other side: the heart is then seen on the right, as in dextrocardia, and letters that are burnt in are mirrored as well.
"""

from dataclasses import replace

import torch
from torch import Tensor

from glint.data.dataset import PairBatch
from glint.text.sides import mirrored

SHARE = 0.5


def mirror_some(batch: PairBatch, generator: torch.Generator) -> PairBatch:
    """Mirror half of the images (B, C, Y, X) of which every sentence can be mirrored, and their sentences with them.

    Args:
        batch: Of radiographs, before or after augmentation.
        generator: CPU generator; chooses the images.
    """
    chosen = torch.rand(len(batch.images), generator=generator) < SHARE
    reports = [[mirrored(sentence.text) for sentence in report] for report in batch.reports]
    for image, report in enumerate(reports):
        chosen[image] &= None not in report
    turned = chosen[batch.owner.cpu()].tolist()
    return replace(
        batch,
        images=_turned(batch.images, chosen),
        valid_px=_turned(batch.valid_px, chosen),
        sentences=[
            str(mirrored(text)) if turn else text for text, turn in zip(batch.sentences, turned, strict=True)
        ],
        flips=[
            mirrored(flip) if turn and flip is not None else flip
            for flip, turn in zip(batch.flips, turned, strict=True)
        ],
        reports=[
            [replace(s, text=str(text)) for s, text in zip(report, texts, strict=True)] if turn else report
            for report, texts, turn in zip(batch.reports, reports, chosen.tolist(), strict=True)
        ],
    )


def _turned(images: Tensor, chosen: Tensor) -> Tensor:
    images = images.clone()
    rows = chosen.to(images.device)
    images[rows] = images[rows].flip(-1)
    return images
