"""Self-distillation: its parts against what defines them, and where gradients go."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from glint.config.schema import PretrainConfig, VisionConfig
from glint.data.dataset import PairBatch
from glint.losses.dense import gram_distance
from glint.losses.distill import SelfDistillation, cross_entropy, koleo, mean_token, sinkhorn
from glint.losses.views import crop
from glint.model.vision.registry import build_vision


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 4, size: int = 64) -> PairBatch:
    images = torch.rand(count, 1, size, size, generator=seeded(0))
    valid = torch.ones(count, size, size, dtype=torch.bool)
    return PairBatch(images, valid, [], torch.zeros(0, dtype=torch.int64), [], [], [], [])


def objective(name: str, **settings: float) -> SelfDistillation:
    arch = {"width": 64, "depth": 2, "heads": 1} if name == "dinov3-vit" else {"widths": [8, 8, 16]}
    torch.manual_seed(0)
    vision = build_vision(VisionConfig(name=name, arch=arch))  # pyright: ignore[reportArgumentType]
    return SelfDistillation(PretrainConfig(method="dino", prototypes=16, **settings), vision)  # pyright: ignore


@pytest.mark.parametrize("name", ["convnet", "dinov3-vit"])
def test_self_distillation__gradient_reaches_the_student_and_nothing_else(name: str) -> None:
    task = objective(name)
    loss, report = task(batch(), seeded(1))
    loss.backward()
    assert {"loss_dino", "loss_ibot", "loss_koleo", "loss_gram", "teacher_spread"} == report.keys()
    assert all(p.grad is not None for p in task.heads.parameters())
    trained = [p for p in task.vision.parameters() if p.requires_grad]
    assert sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in trained) > 0.8 * len(trained)
    assert task.anchor is not None
    for module in (task.teacher, task.teacher_heads, task.anchor):
        assert all(not p.requires_grad and p.grad is None for p in module.parameters())


def test_self_distillation__the_anchor_stays_and_the_teacher_follows() -> None:
    task = objective("convnet", ema=0.5)
    assert task.anchor is not None
    start = {name: value.clone() for name, value in task.anchor.state_dict().items()}
    with torch.no_grad():
        for parameter in task.vision.parameters():
            parameter.add_(1.0)
    task.update_teacher()
    assert all(torch.equal(value, start[name]) for name, value in task.anchor.state_dict().items())
    for mine, old, student in zip(
        task.teacher.encoder.parameters(),
        task.anchor.encoder.parameters(),
        task.vision.parameters(),
        strict=True,
    ):
        assert torch.allclose(mine, (old + student) / 2, atol=1e-6)


def test_self_distillation__ibot_looks_under_masks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    task = objective("convnet", gram=0.0, local_crops=0)
    seen: list[torch.Tensor] = []
    real = SelfDistillation._patch_loss

    def remember(
        self: SelfDistillation, s: torch.Tensor, t: torch.Tensor, scored: torch.Tensor
    ) -> torch.Tensor:
        seen.append(scored)
        return real(self, s, t, scored)

    monkeypatch.setattr(SelfDistillation, "_patch_loss", remember)
    loss, report = task(batch(), seeded(1))
    assert "loss_gram" not in report
    assert torch.isfinite(loss)
    assert 0.1 < float(seen[0].float().mean()) < 0.9


@given(seed=st.integers(0, 200), rows=st.integers(2, 40), columns=st.integers(2, 12))
def test_sinkhorn__rows_sum_to_one_and_columns_are_even(seed: int, rows: int, columns: int) -> None:
    q = sinkhorn(torch.randn(rows * columns, columns, generator=seeded(seed)), iterations=50)
    assert torch.allclose(q.sum(1), torch.ones(len(q)), atol=1e-4)
    assert torch.allclose(q.sum(0) / len(q), torch.full((columns,), 1 / columns), atol=1e-2)


def test_sinkhorn__cannot_collapse() -> None:
    logits = torch.zeros(12, 3)
    logits[:, 0] = 5.0  # every token likes the first prototype best
    logits += 0.01 * torch.randn(12, 3, generator=seeded(0))
    assert float(sinkhorn(logits, 50).mean(0).max()) < 0.4


def test_cross_entropy__equals_torch_on_hard_targets() -> None:
    logits, target = torch.randn(5, 7, generator=seeded(0)), torch.tensor([0, 3, 6, 2, 2])
    hard = F.one_hot(target, 7).float()
    assert torch.allclose(cross_entropy(logits, hard), F.cross_entropy(logits, target))


def test_koleo__even_vectors_cost_less_than_crowded_ones() -> None:
    even = torch.eye(6)
    crowded = torch.eye(6)[:1] + 0.01 * torch.randn(6, 6, generator=seeded(0))
    assert float(koleo(even)) == pytest.approx(
        -0.5 * torch.tensor(2.0).log().item(), abs=1e-4
    )  # distance sqrt(2)
    assert float(koleo(crowded)) > float(koleo(even)) + 2


def test_mean_token__padding_does_not_count() -> None:
    tokens = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert float(mean_token(tokens, torch.tensor([[True, True, False]]))) == 2.0


@given(seed=st.integers(0, 100))
def test_gram_distance__knows_no_rotation_and_counts_kept_pairs_only(seed: int) -> None:
    tokens = torch.randn(2, 5, 4, generator=seeded(seed))
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=seeded(seed + 1))).Q
    assert float(gram_distance(tokens, tokens @ rotation)) < 1e-10
    changed = tokens.clone()
    changed[:, 4] = torch.randn(2, 4, generator=seeded(seed + 2))
    kept = torch.tensor([[True, True, True, True, False]]).expand(2, -1)
    assert float(gram_distance(tokens, changed, kept)) < 1e-10
    assert float(gram_distance(tokens, changed)) > 1e-6


@given(seed=st.integers(0, 100), side=st.sampled_from([32, 64]))
def test_crop__stays_in_range_and_takes_the_mask_along(seed: int, side: int) -> None:
    images = torch.rand(3, 1, 64, 64, generator=seeded(seed))
    valid = torch.ones(3, 64, 64, dtype=torch.bool)
    valid[:, :, 32:] = False
    views, kept = crop(images, valid, (0.3, 0.9), side, seeded(seed))
    assert views.shape == (3, 1, side, side)
    assert 0 <= float(views.min()) <= float(views.max()) <= 1
    assert float((views * ~kept[:, None]).abs().max()) == 0
    share = kept.float().mean()
    assert 0 <= float(share) < 1


def test_crop__shows_a_piece_of_the_image_in_place() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    views, _ = crop(ramp, torch.ones(1, 64, 64, dtype=torch.bool), (0.25, 0.25), 32, seeded(3))
    row = views[0, 0, 16]
    assert bool((row.diff() >= 0).all())  # left stays left: never a flip
    assert float(row[-1] - row[0]) == pytest.approx(0.5, abs=0.15)  # half the side, contrast aside
