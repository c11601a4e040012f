import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from glint.config.schema import OptimConfig, VisionConfig
from glint.model.vision.registry import build_vision
from glint.model.vision.tuning import tune
from glint.train.optim import build_optimizer, is_vector, rate_table, set_rates

CFG = OptimConfig(lr=1.0, vision_lr=0.5, text_lr=0.1, weight_decay=0.2, warmup_steps=4)  # pyright: ignore[reportCallIssue]


def parameters() -> dict[str, nn.Parameter]:
    names = {
        "model.vision.stem.weight": (4, 3),
        "model.vision.norm.weight": (4,),
        "model.vision.cls_token": (1, 1, 4),
        "model.text.net.layer.weight": (4, 4),
        "model.text.adapter.weight": (4, 4),
        "model.align.gate.beta": (),
        "model.align.image.weight": (4, 4),
    }
    return {name: nn.Parameter(torch.ones(shape)) for name, shape in names.items()}


def test_build_optimizer__rate_and_decay_of_each_parameter():
    named = parameters()
    found = {
        name: (group["lr"], group["weight_decay"])
        for group in build_optimizer(named, CFG).param_groups
        for name, parameter in named.items()
        if any(parameter is member for member in group["params"])
    }
    assert found == {
        "model.vision.stem.weight": (0.5, 0.2),
        "model.vision.norm.weight": (0.5, 0.0),
        "model.vision.cls_token": (0.5, 0.0),
        "model.text.net.layer.weight": (0.1, 0.2),
        "model.text.adapter.weight": (1.0, 0.2),
        "model.align.gate.beta": (1.0, 0.0),
        "model.align.image.weight": (1.0, 0.2),
    }


@pytest.mark.parametrize("name", ["dinov3-vit", "dinov3-convnext", "convnet"])
def test_build_optimizer__deeper_blocks_learn_slower(name: str):
    encoder = build_vision(VisionConfig(name=name))
    model = nn.ModuleDict({"vision": encoder, "align": nn.Linear(3, 3)})
    named = {key: p for key, p in model.named_parameters() if p.requires_grad}
    cfg = CFG.model_copy(update={"layer_decay": 0.5})
    rate = {
        id(p): group["lr"]
        for group in build_optimizer(named, cfg, [model]).param_groups
        for p in group["params"]
    }
    blocks = encoder.blocks()
    for above, block in enumerate(reversed(blocks), 1):
        assert {rate[id(p)] for p in block.parameters()} == {0.5 * 0.5**above} or not list(block.parameters())
    inside = {id(p) for block in blocks for p in block.parameters()}
    first, last = (
        next(key for key in keys if id(named[key]) not in inside)
        for keys in (list(named), [key for key in reversed(named) if key.startswith("vision")])
    )
    below_all = {} if name == "dinov3-convnext" else {first: 0.5 * 0.5 ** (len(blocks) + 1)}
    for key, expected in (below_all | {last: 0.5, "align.weight": 1.0}).items():
        assert rate[id(named[key])] == expected, key


def test_build_optimizer__new_blocks_learn_at_the_full_rate():
    cfg = VisionConfig(name="dinov3-vit", tuning="blocks")
    encoder = tune(build_vision(cfg), cfg)
    named = {f"vision.{key}": p for key, p in encoder.named_parameters() if p.requires_grad}
    groups = build_optimizer(named, CFG.model_copy(update={"layer_decay": 0.5}), [encoder]).param_groups
    assert {group["lr"] for group in groups} == {0.5}


@given(steps=st.integers(1, 300), warmup=st.integers(0, 400))
def test_rate_table__warms_up_peaks_and_ends_near_zero(steps: int, warmup: int):
    cfg = CFG.model_copy(update={"warmup_steps": warmup})
    optimizer = build_optimizer({"head.weight": nn.Parameter(torch.ones(2, 2))}, cfg)
    rates = rate_table(optimizer, cfg, steps)[:, 0].tolist()
    assert len(rates) == steps
    assert all(0 < rate <= 1 for rate in rates)
    peak = min(warmup, steps)
    assert rates[max(peak - 1, 0)] == pytest.approx(1.0)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    if steps - peak > 20:
        assert rates[-1] < 0.01
        assert rates[peak + (steps - peak) // 2] == pytest.approx(
            0.5 + 0.5 * math.cos(math.pi * ((steps - peak) // 2) / (steps - peak))
        )


def test_set_rates__each_group_its_own():
    optimizer = build_optimizer(parameters(), CFG)
    set_rates(optimizer, rate_table(optimizer, CFG, 10)[0])
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([0.025, 0.125, 0.25])


def test_is_vector__counts_long_axes():
    assert is_vector(torch.ones(1, 1, 7))
    assert not is_vector(torch.ones(2, 7))
