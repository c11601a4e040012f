"""AdamW with one learning rate per part of the model, and the whole schedule computed beforehand.

A schedule that is an array indexed by step has no state that could get lost.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from glint.config.schema import OptimConfig
from glint.model.vision.base import ImageEncoder


def build_optimizer(
    parameters: dict[str, nn.Parameter], cfg: OptimConfig, modules: Iterable[nn.Module] = ()
) -> torch.optim.AdamW:
    """Return AdamW over groups (learning rate x weight decay); norms, biases and scalars do not decay.

    Args:
        parameters: What to optimise, by full name.
        cfg: Rates.
        modules: Where image encoders are looked for, whose blocks `cfg.layer_decay` counts.
    """
    encoders = [m for module in modules for m in module.modules() if isinstance(m, ImageEncoder)]
    above = {key: count for encoder in encoders for key, count in blocks_above(encoder).items()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = 0.0 if is_vector(parameter) else cfg.weight_decay
        rate = base_rate(name, cfg) * cfg.layer_decay ** above.get(id(parameter), 0)
        groups.setdefault((rate, decay), []).append(parameter)
    options = [{"params": ps, "lr": lr, "base_lr": lr, "weight_decay": wd} for (lr, wd), ps in groups.items()]
    return torch.optim.AdamW(options, betas=(0.9, 0.95), fused=True)


def base_rate(name: str, cfg: OptimConfig) -> float:
    """Return the peak learning rate of a parameter by its name."""
    parts = name.split(".")
    if "vision" in parts:
        return cfg.vision_lr
    if "text" in parts and "adapter" not in parts:
        return cfg.text_lr
    return cfg.lr


def blocks_above(encoder: ImageEncoder) -> dict[int, int]:
    """Return, by id of a parameter, by how many layers the end of the encoder is above it (BEiT, MAE).

    What is registered before the blocks (patch embedding, stem) lies below block 1, n + 1 layers deep; block i of n is
    n + 1 - i deep; what comes after (last norm, neck, new blocks) is not deep at all.
    """
    blocks = encoder.blocks()
    level = {id(p): i for i, block in enumerate(blocks, 1) for p in block.parameters()}
    depths: dict[int, int] = {}
    met = False
    for parameter in encoder.parameters():
        met = met or id(parameter) in level
        below = level.get(id(parameter), len(blocks) + 1 if met else 0)
        depths[id(parameter)] = len(blocks) + 1 - below
    return depths


def is_vector(parameter: Tensor) -> bool:
    """Return True for norms, biases, tokens and scalars: at most one axis longer than 1."""
    return sum(length > 1 for length in parameter.shape) <= 1


def rate_table(optimizer: torch.optim.Optimizer, cfg: OptimConfig, steps: int) -> Tensor:
    """Return (steps, groups) learning rates: linear warm-up, then a cosine to zero at the end."""
    warmup = min(cfg.warmup_steps, steps)
    factors = [
        (step + 1) / warmup
        if step < warmup
        else 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (steps - warmup))
        for step in range(steps)
    ]
    base = torch.tensor([group["base_lr"] for group in optimizer.param_groups], dtype=torch.float64)
    return torch.tensor(factors, dtype=torch.float64)[:, None] * base


def set_rates(optimizer: torch.optim.Optimizer, rates: Tensor) -> None:
    """Give each group its learning rate for the coming step."""
    for group, rate in zip(optimizer.param_groups, rates.tolist(), strict=True):
        group["lr"] = rate
