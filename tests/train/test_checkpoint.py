import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from glint.config.schema import OptimConfig
from glint.errors import TrainingError
from glint.train import checkpoint
from glint.train.optim import build_optimizer, rate_table
from glint.train.state import Task, TrainState


def make_state(seed: int, width: int = 3, teacher_seed: int | None = None) -> TrainState:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width))
    rebuilt: dict[str, nn.Module] = {}
    if teacher_seed is not None:
        torch.manual_seed(teacher_seed)
        rebuilt = {"teacher": nn.Linear(2, 2)}

    def objective(batch: object, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        raise NotImplementedError

    task = Task(objective, {"net": net}, lambda folder: None, kept={"ema": nn.Linear(2, 2)}, rebuilt=rebuilt)
    optimizer = build_optimizer(task.parameters(), OptimConfig())  # pyright: ignore[reportCallIssue]
    return TrainState(task, optimizer, rate_table(optimizer, OptimConfig(), 10))  # pyright: ignore[reportCallIssue]


def advance(state: TrainState, steps: int) -> None:
    for _ in range(steps):
        generator = torch.Generator().manual_seed(state.step)
        state.task.trained["net"](torch.randn(8, 4, generator=generator)).square().sum().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1


def same(a: TrainState, b: TrainState) -> bool:
    left, right = a.task.tensors() | a.named_moments(), b.task.tensors() | b.named_moments()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_save_and_load__everything_comes_back(tmp_path: Path):
    state = make_state(0, teacher_seed=5)
    advance(state, 3)
    state.window = {"loss|sum": 0.1 + 0.2, "loss|count": 2.0}
    checkpoint.save(state, tmp_path, keep=2)
    other = make_state(1, teacher_seed=5)
    assert not same(state, other)
    assert checkpoint.load_newest(other, tmp_path)
    assert same(state, other)
    assert (other.step, other.window) == (3, state.window)
    advance(state, 2)
    advance(other, 2)
    assert same(state, other)


def test_save__keeps_the_newest_and_no_rests(tmp_path: Path):
    state = make_state(0)
    for _ in range(4):
        advance(state, 1)
        checkpoint.save(state, tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_save__failing_write_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    state = make_state(0)
    advance(state, 1)
    checkpoint.save(state, tmp_path, keep=2)

    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    advance(state, 1)
    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(state, tmp_path, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.load_newest(make_state(3), tmp_path)


@pytest.mark.parametrize(
    "file", [checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE, checkpoint.MANIFEST]
)
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_load_newest__damaged_falls_back_with_a_warning(tmp_path: Path, file: str, damage: str):
    state = make_state(0)
    for _ in range(2):
        advance(state, 1)
        newest = checkpoint.save(state, tmp_path, keep=2)
    path = newest / file
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.unlink() if damage == "remove" else path.write_bytes(content[: -1 if damage == "truncate" else None])
    other = make_state(1)
    with pytest.warns(UserWarning, match="step-00000002 is damaged; going back"):
        assert checkpoint.load_newest(other, tmp_path)
    assert other.step == 1


def test_load_newest__clears_what_a_killed_save_left(tmp_path: Path):
    state = make_state(0)
    advance(state, 1)
    checkpoint.save(state, tmp_path, keep=2)
    (tmp_path / ".tmp-abc").mkdir()
    (tmp_path / ".tmp-abc" / checkpoint.WEIGHTS).write_bytes(b"half")
    assert checkpoint.load_newest(make_state(1), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_load_newest__nothing_there(tmp_path: Path):
    state = make_state(0)
    assert not checkpoint.load_newest(state, tmp_path / "none")
    advance(state, 1)
    shutil.rmtree(checkpoint.save(state, tmp_path, keep=2))
    assert not checkpoint.load_newest(state, tmp_path)


def test_load_newest__other_model_or_other_teacher(tmp_path: Path):
    state = make_state(0, teacher_seed=5)
    advance(state, 1)
    checkpoint.save(state, tmp_path, keep=2)
    with pytest.raises(TrainingError, match="another model"):
        checkpoint.load_newest(make_state(0, width=4, teacher_seed=5), tmp_path)
    with pytest.raises(TrainingError, match="frozen teacher is not the one"):
        checkpoint.load_newest(make_state(0, teacher_seed=6), tmp_path)
