"""Which sentence follows from which: by meaning of the frozen vectors, and never to a place that is not named."""

import torch

from glint.config.schema import TextConfig
from glint.losses.claims import follows, names_no_other_place
from glint.model.text import TextEncoder


def _follows(conclusions: list[str], premises: list[str]) -> list[list[bool]]:
    vectors = TextEncoder(TextConfig()).frozen_vectors
    return follows(conclusions, premises, vectors(conclusions), vectors(premises)).tolist()


def test_follows__the_less_definite_from_the_more_definite_only() -> None:
    texts = [
        "Pleural effusion.",
        "Small left pleural effusion.",
        "Right pleural effusion.",
        "There is a nodule.",
    ]
    assert _follows(texts, texts) == [
        [True, True, True, False],
        [False, True, False, False],
        [False, False, True, False],
        [False, False, False, True],
    ]


def test_names_no_other_place__reads_abbreviated_lobes() -> None:
    full, short = ["Mass in the left upper lobe."], ["LUL mass."]
    assert bool(names_no_other_place(full, short)) is bool(names_no_other_place(short, full)) is True
    assert not bool(names_no_other_place(["RLL mass."], full))
    assert not bool(names_no_other_place(full, ["Mass."]))


def test_follows__without_premises_nothing_does() -> None:
    vectors = torch.zeros(0, 4)
    assert follows(["Mass."], [], torch.ones(1, 4), vectors).shape == (1, 0)
