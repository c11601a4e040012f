"""Losses against hand-written loops, golden values and limits."""

import math

import pytest
import torch

from glint.losses.alignment import multi_positive_nce, polarity_contrast
from glint.losses.dense import dense_feature_loss
from glint.losses.sparsity import gate_budget, gate_off


def slow_nce(scores: list[list[float]], positive: list[list[bool]], tau: float) -> float:
    def one_way(rows: list[list[float]], pos: list[list[bool]]) -> float:
        losses = []
        for row, marks in zip(rows, pos, strict=True):
            others = sum(math.exp(x / tau) for x, m in zip(row, marks, strict=True) if not m)
            losses += [
                -x / tau + math.log(math.exp(x / tau) + others) for x, m in zip(row, marks, strict=True) if m
            ]
        return sum(losses) / len(losses)

    def flip(m: list[list[float]]) -> list[list[float]]:
        return [list(column) for column in zip(*m, strict=True)]

    return (one_way(scores, positive) + one_way(flip(scores), flip(positive))) / 2  # type: ignore[arg-type]


def test_multi_positive_nce__equals_the_definition() -> None:
    torch.manual_seed(1)
    scores, positive = torch.rand(5, 4), torch.rand(5, 4) < 0.4
    positive[0, 0] = True
    expected = slow_nce(scores.tolist(), positive.tolist(), 0.2)
    assert float(multi_positive_nce(scores, positive, torch.tensor(0.2))) == pytest.approx(expected, rel=1e-5)


def test_multi_positive_nce__golden() -> None:
    # By hand: rows (2 log(1+e^-7) + log(1+e^-5+e^-3)) / 3, columns (log(1+e^-8) + log(1+e^-4) + log(1+e^-6)) / 3.
    scores = torch.tensor([[0.8, 0.1, 0.8], [0.0, 0.5, 0.2]])
    positive = torch.tensor([[True, False, True], [False, True, False]])
    assert float(multi_positive_nce(scores, positive, torch.tensor(0.1))) == pytest.approx(
        0.0129616, abs=1e-6
    )


def test_multi_positive_nce__a_second_positive_is_no_negative() -> None:
    positive = torch.tensor([[True, True]])
    assert float(
        multi_positive_nce(torch.tensor([[0.9, 0.1]]), positive, torch.tensor(0.1))
    ) == pytest.approx(0.0)


def test_multi_positive_nce__an_unknown_pair_is_as_if_it_were_not_there() -> None:
    torch.manual_seed(2)
    scores, positive = torch.rand(4, 3), torch.eye(4, 3, dtype=torch.bool)
    unknown = torch.zeros_like(positive)
    unknown[3] = True  # the last sentence is unknown to all images
    tau = torch.tensor(0.1)
    expected = multi_positive_nce(scores[:3], positive[:3], tau)
    torch.testing.assert_close(multi_positive_nce(scores, positive, tau, unknown), expected)
    changed = scores.clone()
    changed[3] += 5.0
    torch.testing.assert_close(multi_positive_nce(changed, positive, tau, unknown), expected)


def test_multi_positive_nce__no_negative_left_gives_zero_and_a_finite_gradient() -> None:
    scores = torch.rand(2, 2, requires_grad=True)
    positive = torch.eye(2, dtype=torch.bool)
    loss = multi_positive_nce(scores, positive, torch.tensor(0.1), ~positive)
    loss.backward()
    assert float(loss) == 0.0
    assert torch.equal(scores.grad, torch.zeros(2, 2))  # type: ignore[arg-type]


def test_multi_positive_nce__tiny_temperature_stays_finite() -> None:
    scores = torch.tensor([[1.0, -1.0], [1.0, -1.0]], requires_grad=True)
    loss = multi_positive_nce(scores, torch.eye(2, dtype=torch.bool), torch.tensor(1e-3))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()  # type: ignore[union-attr]


def test_polarity_contrast__needs_both_images_right() -> None:
    yes, no, tau = torch.tensor([0.5]), torch.tensor([-0.5]), torch.tensor(0.1)
    assert float(polarity_contrast(yes, no, tau)) < 0.01
    assert float(polarity_contrast(yes, yes, tau)) > 2  # a text-only bias cannot win
    assert float(polarity_contrast(no, no, tau)) > 2


def test_gate_off__only_sees_unmatched_pairs() -> None:
    gate = torch.tensor([[1.0, 0.3]])
    assert float(gate_off(gate, torch.tensor([[False, True]]))) == pytest.approx(0.3)
    assert float(gate_off(gate, torch.tensor([[False, False]]))) == 0.0


def test_gate_budget__punishes_flooding_and_dead_gates_only() -> None:
    fine = torch.tensor([[0.9, 0.0, 0.0, 0.0]])
    assert float(gate_budget(fine, 0.3, 0.5)) == 0.0
    assert float(gate_budget(torch.full((1, 4), 0.8), 0.3, 0.5)) == pytest.approx(0.25)
    assert float(gate_budget(torch.full((1, 4), 0.1), 0.3, 0.5)) == pytest.approx(0.16)


@pytest.mark.parametrize("metric", ["cosine", "smooth_l1", "gram"])
def test_dense_feature_loss__zero_at_the_teacher_and_no_gradient_into_it(metric: str) -> None:
    torch.manual_seed(0)
    student = torch.randn(2, 6, 8, requires_grad=True)
    teacher = torch.randn(2, 6, 8, requires_grad=True)
    assert float(dense_feature_loss((teacher,), (teacher,), metric)) == pytest.approx(0.0, abs=1e-6)  # type: ignore[arg-type]
    dense_feature_loss((student,), (teacher,), metric).backward()  # type: ignore[arg-type]
    assert teacher.grad is None
    assert float(student.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_dense_feature_loss__cosine_is_bounded_by_two() -> None:
    x = torch.randn(1, 5, 8)
    assert float(dense_feature_loss((x,), (-x,), "cosine")) == pytest.approx(2.0, abs=1e-5)
