"""Training goes on from a saved model: what its weights need is taken from it, the rest from the recipe."""

from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from glint.config.schema import GlintConfig
from glint.config.volume import VolumeConfig

if TYPE_CHECKING:
    from glint.model.glint import GlintModel

SHAPES = ("type", "dim", "gate_dim", "gate_space", "gate_activation", "pool")
"""Settings of `align` that decide which weights there are and what they mean."""


def resolve_start(cfg: GlintConfig) -> GlintConfig:
    """Return the recipe with encoders and gate of the model in `train.start`; as it is when there is none.

    Settings that the recipe itself gives in `vision.arch` win: parts that they add start anew.

    Raises:
        UsageError: There is no such model.
        WeightsError: Its folder is incomplete.
    """
    if not cfg.train.start:
        return cfg
    from glint.model.folder import load_recipe

    there = load_recipe(cfg.train.start)
    align = cfg.align.model_copy(update={name: getattr(there.align, name) for name in SHAPES})
    vision = there.vision.model_copy(update={"arch": there.vision.arch | cfg.vision.arch})
    return cfg.model_copy(update={"vision": vision, "text": there.text, "align": align})


def load_start(model: "GlintModel", name: str) -> None:
    """Give a model all weights of a saved one; parts of its image encoder that the saved one lacks stay as they are.

    Windows of CT that the saved one did not see (`data.volume.windows_hu`) begin with weight zero. Where the saved one
    drew the line of its masks is forgotten: it was fitted to maps that training will change.

    Raises:
        WeightsError: They are damaged, or do not fit.
    """
    from glint.model.folder import load_recipe, load_weights

    had, has = (channels(cfg.data.volume) for cfg in (load_recipe(name), model.cfg))
    load_weights(model, name, new="vision.", adapt=partial(_with_channels, had=had, has=has))
    model.mask_threshold.fill_(0.5)


def channels(volume: VolumeConfig | None) -> list[object]:
    """Return what each input channel of an image encoder shows."""
    if volume is None:
        return ["grey"]
    return [*volume.windows_hu, *(["side"] if volume.side else [])]


def _with_channels(tensors: dict[str, Tensor], had: list[object], has: list[object]) -> dict[str, Tensor]:
    """Return weights of an encoder of some channels for one of others: the same, and zero for those it had not."""
    if had == has:
        return tensors
    first = next(k for k, v in tensors.items() if k.startswith("vision.") and v.shape[1:2] == (len(had),))
    old = tensors[first]
    wider = old.new_zeros(old.shape[0], len(has), *old.shape[2:])
    for number, channel in enumerate(has):
        if channel in had:
            wider[:, number] = old[:, had.index(channel)]
    return tensors | {first: wider}
