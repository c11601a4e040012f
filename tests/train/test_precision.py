import pytest
import torch

from glint.config.schema import TrainConfig
from glint.errors import TrainingError
from glint.train import precision


def cfg(**values: str) -> TrainConfig:
    return TrainConfig.model_validate(values)


@pytest.mark.parametrize(
    ("cuda", "amx", "expected"),
    [(True, False, ("cuda", "bf16")), (False, True, ("cpu", "bf16")), (False, False, ("cpu", "fp32"))],
)
def test_resolve__auto(monkeypatch: pytest.MonkeyPatch, cuda: bool, amx: bool, expected: tuple[str, str]):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(precision, "_has_amx", lambda: amx)
    resolved = precision.resolve(cfg())
    assert (resolved.device, resolved.precision) == expected


def test_resolve__explicit_values_stay():
    resolved = precision.resolve(cfg(device="cpu", precision="bf16"))
    assert (resolved.device, resolved.precision) == ("cpu", "bf16")


def test_resolve__cuda_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match="no CUDA device"):
        precision.resolve(cfg(device="cuda"))


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_autocast__matrix_products(name: str, dtype: torch.dtype):
    with precision.autocast(cfg(device="cpu", precision=name)):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
