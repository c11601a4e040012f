"""Opposite pairs: found across reports by meaning, never on the same image, drawn by the generator alone."""

import torch

from glint.config.schema import TextConfig
from glint.data.dataset import PairBatch
from glint.losses.polarity import opposite_pairs
from glint.model.text import TextEncoder

SENTENCES = [
    "There is a right pleural effusion.",
    "No pleural effusion.",
    "No pneumothorax.",
    "The heart is normal.",
]
FLIPS = [
    "There is no right pleural effusion.",
    "Pleural effusion.",
    "Pneumothorax.",
    "The heart is not normal.",
]


def batch(owner: list[int]) -> PairBatch:
    return PairBatch(
        images=torch.zeros(3, 1, 8, 8),
        valid_px=torch.ones(3, 8, 8, dtype=torch.bool),
        sentences=SENTENCES,
        owner=torch.tensor(owner),
        flips=list(FLIPS),
        states=["present", "absent", "absent", "absent"],
        normal=[False, False, False, True],
        reports=[[], [], []],
    )


def test_opposite_pairs__finds_the_denial_of_the_same_thing_only() -> None:
    vectors = TextEncoder(TextConfig()).frozen_vectors
    pairs = opposite_pairs(batch([0, 1, 1, 2]), vectors, torch.Generator().manual_seed(0))
    assert [(p.affirmed, p.denied, p.image_with, p.image_without) for p in pairs] == [
        ("Pleural effusion.", "No pleural effusion.", 0, 1)
    ]


def test_opposite_pairs__none_within_one_image() -> None:
    vectors = TextEncoder(TextConfig()).frozen_vectors
    assert opposite_pairs(batch([1, 1, 2, 2]), vectors, torch.Generator().manual_seed(0)) == []


def test_opposite_pairs__a_denial_of_the_left_does_not_contradict_the_right() -> None:
    left = batch([0, 1, 1, 2])
    left.sentences[1], left.flips[1] = "No left pleural effusion.", "Left pleural effusion."
    vectors = TextEncoder(TextConfig()).frozen_vectors
    try:
        assert opposite_pairs(left, vectors, torch.Generator().manual_seed(0)) == []
    finally:
        left.sentences[1], left.flips[1] = "No pleural effusion.", "Pleural effusion."
