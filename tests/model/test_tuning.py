"""Tuning modes: nothing changes before the first step, only what should learn does, and models come back bit-equal."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from glint.config.schema import AlignConfig, DataConfig, GlintConfig, VisionConfig
from glint.errors import ConfigError
from glint.model.folder import load_model, save_model
from glint.model.glint import GlintModel
from glint.model.teacher import Teacher
from glint.model.vision.base import ImageEncoder
from glint.model.vision.registry import build_vision, resolve_vision
from glint.model.vision.tuning import TokenBlock, TunedEncoder, add_adapters, tune

ARCHS: dict[str, dict[str, Any]] = {
    "dinov3-vit": {"width": 48, "depth": 4, "heads": 3},
    "dinov3-convnext": {"widths": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "neck_width": 48},
    "convnet": {"widths": [8, 16, 24], "depths": [0, 1, 1], "neck_width": 48},
}
EVERYWHERE = ("full", "frozen", "blocks")
CASES = [(name, mode) for name in ARCHS for mode in EVERYWHERE] + [
    ("dinov3-vit", "lora"),
    ("dinov3-vit", "adapters"),
]


def settings(name: str, mode: str, **more: Any) -> VisionConfig:
    return VisionConfig.model_validate({"name": name, "arch": ARCHS[name], "tuning": mode, **more})


def plain(name: str) -> ImageEncoder:
    """The encoder with statistics of batches it has seen, so that training and evaluation differ in a ConvNet."""
    torch.manual_seed(0)
    encoder = build_vision(settings(name, "full"))
    encoder(torch.rand(4, 1, 64, 64))
    return encoder


def learning(net: torch.nn.Module) -> set[str]:
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}


def step(encoder: ImageEncoder, images: torch.Tensor) -> None:
    """Two updates: the last projections first, and then what lies before them."""
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        output = encoder(images)
        (output.tokens.square().mean() + sum(level.square().mean() for level in output.levels)).backward()
        optimizer.step()


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_tune__student_and_teacher_are_bit_equal_at_step_0(name: str, mode: str) -> None:
    images = torch.rand(3, 1, 64, 64)
    encoder = plain(name)
    reference = encoder.train(mode == "full")(images)
    student = tune(encoder, settings(name, mode)).train()
    teacher = Teacher(student)
    student.train()
    ours, theirs = student(images), teacher(images)
    assert ours.grid == theirs.grid == reference.grid
    for found in (ours, theirs):
        assert torch.equal(found.tokens, reference.tokens)
        assert len(found.levels) == len(reference.levels) > 0
        assert all(torch.equal(a, b) for a, b in zip(found.levels, reference.levels, strict=True))


@pytest.mark.parametrize(("name", "mode"), [case for case in CASES if case[1] not in ("full", "frozen")])
def test_tune__only_what_was_added_changes_in_training(name: str, mode: str) -> None:
    images = torch.rand(3, 1, 64, 64)
    student = tune(plain(name), settings(name, mode)).train()
    before = {key: value.clone() for key, value in student.state_dict().items()}
    start, names = student(images), learning(student)
    step(student, images)
    changed = {key for key, value in student.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == names  # statistics of normalisation stay, too
    end = student(images)
    assert not torch.equal(end.tokens, start.tokens)
    moved = [not torch.equal(a, b) for a, b in zip(start.levels, end.levels, strict=True)]
    assert all(moved) if mode in ("lora", "adapters") else not any(moved)


@pytest.mark.parametrize("name", ARCHS)
def test_tune__frozen_has_nothing_to_learn_and_stays_in_evaluation(name: str) -> None:
    student = tune(plain(name), settings(name, "frozen")).train()
    assert isinstance(student, TunedEncoder)
    assert not learning(student)
    assert not any(module.training for module in student.encoder.modules())
    assert not student(torch.rand(2, 1, 64, 64)).tokens.requires_grad


def test_tune__lora_is_on_queries_and_values_of_every_block() -> None:
    student = tune(plain("dinov3-vit"), settings("dinov3-vit", "lora", tuning_rank=4))
    assert {name.split("encoder.net.model.layer.")[1].split(".default")[0] for name in learning(student)} == {
        f"{block}.attention.{part}_proj.lora_{side}" for block in range(4) for part in "qv" for side in "AB"
    }
    assert sum(p.numel() for p in student.parameters() if p.requires_grad) == 4 * 2 * 2 * 48 * 4


def test_tune__adapters_add_eight_percent_to_a_vit_b() -> None:
    with torch.device("meta"):
        arch = {"width": 768, "depth": 12, "heads": 12}
        student = tune(
            build_vision(VisionConfig(name="dinov3-vit", arch=arch)), settings("dinov3-vit", "adapters")
        )
    added = sum(p.numel() for p in student.parameters() if p.requires_grad)
    assert added == 12 * 2 * (768 * 192 + 192 + 192 * 768 + 768)
    assert added / sum(p.numel() for p in student.parameters()) == pytest.approx(0.08, abs=0.005)


class Qkv(torch.nn.Module):
    """Attention with one projection and a bare tensor as output, as in our V-JEPA."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj(torch.nn.functional.scaled_dot_product_attention(q, k, v))


class QkvBlock(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn, self.mlp = Qkv(width), torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


@pytest.mark.parametrize("mode", ["lora", "adapters"])
def test_tune__attention_with_a_single_projection(mode: str) -> None:
    encoder = plain("dinov3-vit")
    net: Any = encoder
    net.net.model.layer = torch.nn.ModuleList(QkvBlock(48) for _ in range(2))
    encoder.forward = lambda images: torch.nn.Sequential(*encoder.blocks())(images)  # type: ignore[method-assign]
    tokens = torch.rand(2, 5, 48)
    before = encoder(tokens)
    student: Any = tune(encoder, settings("dinov3-vit", mode))
    after = student.encoder(tokens)
    assert torch.equal(before, after)
    after.sum().backward()
    touched = [
        name for name, p in student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    ]
    assert len(touched) == (2 if mode == "lora" else 8)  # lora_B; weight and bias of each `up`
    assert all("qkv.lora_B" in name or ".up." in name for name in touched)


def test_add_adapters__computes_what_the_blocks_of_alta_do() -> None:
    block: Any = QkvBlock(48)
    attn, mlp = block.attn, block.mlp
    add_adapters(block, 0)
    behind, beside = block.attn, block.mlp
    for adapter in (behind, beside):
        assert adapter.down.out_features == 12
        torch.nn.init.normal_(adapter.up.weight)
        torch.nn.init.normal_(adapter.up.bias)

    def bottleneck(adapter: Any, z: torch.Tensor) -> torch.Tensor:
        return adapter.up(torch.nn.functional.gelu(adapter.down(z)))

    x = torch.rand(2, 5, 48)
    attended = attn(x)
    middle = x + attended + bottleneck(behind, attended)
    expected = middle + mlp(middle) + 0.5 * bottleneck(beside, middle)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("mode", ["lora", "adapters"])
@pytest.mark.parametrize("name", ["convnet", "dinov3-convnext"])
def test_resolve_vision__encoders_without_attention_are_refused(name: str, mode: str) -> None:
    cfg = GlintConfig(data=DataConfig(size_px=64), vision=settings(name, mode))
    with pytest.raises(ConfigError, match=rf"no attention[\s\S]*vision\.tuning = {mode}"):
        resolve_vision(cfg)


def test_tune__says_how_to_install_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"needs the package peft[\s\S]*glint-radiology\[lora\]"):
        tune(plain("dinov3-vit"), settings("dinov3-vit", "lora"))


@pytest.mark.parametrize("width", [40, 96, 100, 192])
def test_token_block__any_width_and_the_identity_at_first(width: int) -> None:
    tokens = torch.rand(2, 7, width)
    assert torch.equal(TokenBlock(width)(tokens), tokens)


def test_token_block__matches_torch_attention() -> None:
    block = TokenBlock(128)
    for linear in (block.proj, block.fc2):
        torch.nn.init.normal_(linear.weight, std=0.05)
    torch.nn.init.uniform_(block.scale1)
    torch.nn.init.uniform_(block.scale2)
    reference = torch.nn.MultiheadAttention(128, 2, batch_first=True)
    reference.load_state_dict(
        {
            "in_proj_weight": block.qkv.weight,
            "in_proj_bias": block.qkv.bias,
            "out_proj.weight": block.proj.weight,
            "out_proj.bias": block.proj.bias,
        }
    )
    tokens = torch.rand(2, 9, 128)
    normed = block.norm1(tokens)
    x = tokens + block.scale1 * reference(normed, normed, normed, need_weights=False)[0]
    x = x + block.scale2 * block.fc2(torch.nn.functional.gelu(block.fc1(block.norm2(x))))
    torch.testing.assert_close(block(tokens), x)


@pytest.mark.parametrize("mode", ["frozen", "blocks", "lora", "adapters"])
def test_save_model__a_tuned_model_comes_back_bit_equal(mode: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    cfg = GlintConfig(
        data=DataConfig(size_px=64),
        vision=settings("dinov3-vit", mode),
        align=AlignConfig(dim=16, gate_dim=16),
    )
    model = GlintModel(cfg)
    images = torch.rand(2, 1, 64, 64)
    if mode != "frozen":
        step(model.vision, images)
    save_model(model, tmp_path, "")
    again = load_model(tmp_path)
    queries = ["There is a pleural effusion."]
    assert torch.equal(
        model.predict(images, None, queries).maps_SBP, again.predict(images, None, queries).maps_SBP
    )
    assert again.cfg.vision.tuning == mode
    assert learning(again) == learning(model)
