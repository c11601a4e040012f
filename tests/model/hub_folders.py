"""Weights for tests: small models of transformers in hub folders, with every parameter random."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn


@torch.no_grad()
def randomise(net: nn.Module, seed: int = 0) -> None:
    """Fill every parameter: a fresh model has ones and zeros, which would hide a tensor in the wrong place."""
    torch.manual_seed(seed)
    for name, parameter in net.named_parameters():
        noise = torch.randn(parameter.shape)
        small = parameter.dim() > 1 and "token" not in name and "position" not in name
        parameter.copy_(noise * parameter[0].numel() ** -0.5 if small else 0.7 + 0.3 * noise)


def write_hub_folder(net: Any, folder: Path, preprocessor: dict[str, Any] | None, shard: str = "1GB") -> Path:
    """Write a model as transformers does, with a preprocessor_config.json beside it."""
    randomise(net)
    net.save_pretrained(folder, max_shard_size=shard)
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def parameters(net: nn.Module) -> int:
    """Return how many numbers a model learns."""
    return sum(parameter.numel() for parameter in net.parameters())
