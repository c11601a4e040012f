"""Low-rank adaptation (LoRA, arXiv 2106.09685) of attention, by peft: y = W x + B A x, with B = 0 at the start.

Image and text encoders share it. Queries and values learn; keys too where one matrix makes all three.
"""

import importlib
from collections.abc import Iterable
from typing import Any

from torch import nn

from glint.errors import ConfigError

# Names of the last part of a module, in the encoders that we know.
QUERY_VALUE = {"q_proj", "v_proj", "query", "value", "q", "v", "qkv", "Wqkv"}


def query_value(net: nn.Module) -> list[nn.Linear]:
    """Return the projections of a network that make the queries and values of attention."""
    return [
        module
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in QUERY_VALUE
    ]


def add_lora(net: nn.Module, blocks: Iterable[nn.Module], rank: int, where: str) -> None:
    """Add low-rank matrices to the attention in `blocks` of `net`, in place; nothing else in `net` learns.

    They stay apart from the weights, in the state dict too: merged ones would round differently, and could not be
    trained further as they were.

    Raises:
        ConfigError: No attention there, or peft is not installed.
    """
    wanted = {id(linear) for block in blocks for linear in query_value(block)}
    names = [name for name, module in net.named_modules() if id(module) in wanted]
    if not names:
        raise ConfigError(
            f"{type(net).__name__} has no attention that low-rank matrices could be added to",
            where=where,
            expected="a transformer, with projections named " + ", ".join(sorted(QUERY_VALUE)),
            fix="use another tuning (full, frozen or blocks), or another encoder",
        )
    peft = _peft(where)
    # alpha = rank: the change is B A itself, so that another rank needs no other learning rate.
    config = peft.LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=names)
    net.requires_grad_(False)
    peft.inject_adapter_in_model(config, net)


def _peft(where: str) -> Any:
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise ConfigError(
            f"LoRA needs the package peft ({error})",
            where=where,
            fix="pip install 'glint-radiology[lora]', or pip install peft",
        ) from error
