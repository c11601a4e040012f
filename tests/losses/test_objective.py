"""The whole objective on three small images: which pairs it leaves out, and that every part reaches the total."""

import pytest
import torch

from glint.config import load_config
from glint.data.dataset import PairBatch
from glint.losses.objective import Objective
from glint.model.glint import GlintModel
from glint.text.semantics import flip_polarity, read_sentence

TINY = ["data.size_px=64", "vision.arch.widths=[8,8,16,16]", "vision.arch.neck_width=16", "loss.dfr=0"]


def objective(*overrides: str) -> Objective:
    torch.manual_seed(0)
    cfg = load_config("smoke", [*TINY, *overrides])
    return Objective(cfg, GlintModel(cfg), None)


def batch(*reports: str) -> PairBatch:
    read = [read_sentence(text) for text in reports]
    return PairBatch(
        images=torch.rand(len(reports), 1, 64, 64, generator=torch.Generator().manual_seed(1)),
        valid_px=torch.ones(len(reports), 64, 64, dtype=torch.bool),
        sentences=list(reports),
        owner=torch.arange(len(reports)),
        flips=[flip_polarity(text) for text in reports],
        states=[sentence.state for sentence in read],
        normal=[sentence.normal for sentence in read],
    )


def unknown_share(settings: list[str], *reports: str) -> float:
    _, report = objective(*settings)(batch(*reports), torch.Generator().manual_seed(0))
    return report["unknown"]


def test_objective__the_same_claim_in_other_words_is_left_out() -> None:
    reports = ("Small left pleural effusion.", "Pleural effusion.", "There is a pacemaker.")
    assert unknown_share([], *reports) == pytest.approx(1 / 9)  # the second sentence and the first image
    assert unknown_share(["loss.false_negatives=keep"], *reports) == 0.0


def test_objective__a_denial_is_a_negative_of_what_it_denies() -> None:
    reports = ("Pleural effusion.", "No pleural effusion.", "There is a pacemaker.")
    assert unknown_share(["loss.negated=contrast"], *reports) == 0.0


def test_objective__total_is_the_weighted_sum_of_its_parts() -> None:
    settings = ["loss.polarity=0.7", "loss.gate_off=0.2", "loss.gate_budget=0.3"]
    reports = ("There is a right pleural effusion.", "No pleural effusion.", "There is a pacemaker.")
    total, report = objective(*settings)(batch(*reports), torch.Generator().manual_seed(0))
    assert report["loss_polarity"] > 0
    expected = (
        report["loss_align"]
        + 0.7 * report["loss_polarity"]
        + 0.2 * report["loss_gate_off"]
        + 0.3 * report["loss_gate_budget"]
    )
    assert float(total.detach()) == pytest.approx(expected, rel=1e-5)
