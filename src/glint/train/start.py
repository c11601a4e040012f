"""Training goes on from a saved model: what its weights need is taken from it, the rest from the recipe."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glint.config.schema import GlintConfig
from glint.config.volume import VolumeConfig

if TYPE_CHECKING:
    from glint.model.glint import GlintModel

SHAPES = ("type", "dim", "gate_dim", "gate_space", "gate_activation", "pool")
"""Settings of `align` that decide which weights there are and what they mean."""

LATERALS = "vision.laterals."
STAGES, LAST_GAIN = "vision.stages.", ".second.1.weight"
"""Begin and end of the name of the gain with which a residual block of a stage joins what goes past it."""


def resolve_start(cfg: GlintConfig) -> GlintConfig:
    """Return the recipe with encoders and gate of the model in `train.start`; as it is when there is none.

    Settings that the recipe itself gives in `vision.arch`, and its `text.negation`, win: parts that are new start anew.

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
    text = there.text.model_copy(update={"negation": cfg.text.negation})
    return cfg.model_copy(update={"vision": vision, "text": text, "align": align})


def load_start(model: "GlintModel", name: str) -> None:
    """Give a model all weights of a saved one; parts of its image encoder that the saved one lacks stay as they are.

    Windows of CT that the saved one did not see (`data.volume.windows_hu`), and residual blocks that its stages lacked,
    begin with weight zero. Where the saved one drew the line of its masks is forgotten: it was fitted to maps that
    training will change.

    Raises:
        WeightsError: They are damaged, or do not fit.
    """
    from glint.model.folder import load_recipe, load_weights

    own = model.state_dict()
    had, has = (_channels(cfg.data.volume) for cfg in (load_recipe(name), model.cfg))

    def adapt(saved: dict[str, Tensor]) -> dict[str, Tensor]:
        new = {key: value for key, value in own.items() if key.startswith("vision.")}
        for key in new:
            if key.startswith(STAGES) and key.endswith(LAST_GAIN):
                new[key] = torch.zeros_like(new[key])
        return new | _with_channels(_with_laterals(saved, own), own, had, has)

    load_weights(model, name, adapt)
    model.mask_threshold.fill_(0.5)


def frozen_start(name: str) -> "GlintModel":
    """Return the model that training goes on from as it was, for the targets of mixed images.

    Raises:
        WeightsError: It is damaged.
    """
    from glint.model.folder import load_model

    return load_model(name).eval().requires_grad_(False)


def _with_laterals(saved: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of a ConvNet for one with finer tokens: the stages that join its neck begin with weight zero.

    The neck counts its stages from the finest, so that those which were there move up.
    """
    had, has = _laterals(saved), _laterals(own)
    if not 0 < had < has:
        return saved
    silent = [f"{LATERALS}{number}.1.weight" for number in range(has - had)]
    return {_moved_up(key, has - had): value for key, value in saved.items()} | {
        key: torch.zeros_like(own[key]) for key in silent
    }


def _moved_up(key: str, more: int) -> str:
    """Return the name of a weight behind `more` finer stages."""
    if not key.startswith(LATERALS):
        return key
    number, rest = key.removeprefix(LATERALS).split(".", 1)
    return f"{LATERALS}{int(number) + more}.{rest}"


def _laterals(tensors: dict[str, Tensor]) -> int:
    """Return how many stages join the neck of a ConvNet; 0 for other encoders."""
    return len({key.removeprefix(LATERALS).split(".")[0] for key in tensors if key.startswith(LATERALS)})


def _channels(volume: VolumeConfig | None) -> list[object]:
    """Return what each input channel of an image encoder shows."""
    if volume is None:
        return ["grey"]
    return [*volume.windows_hu, *(["side"] if volume.side else [])]


def _with_channels(
    tensors: dict[str, Tensor], own: dict[str, Tensor], had: list[object], has: list[object]
) -> dict[str, Tensor]:
    """Return weights of an encoder of channels `had` for one of these and more: zero for those that are new.

    Weights stay as they are when no channel is new, and when one is gone: that they do not fit is said elsewhere.
    As many windows with other limits are taken for the same channels.
    """
    if len(has) <= len(had) or not all(channel in has for channel in had):
        return tensors
    for name, old in tensors.items():
        shape = (*old.shape[:1], len(has), *old.shape[2:])
        if old.shape[1:2] == (len(had),) and name in own and own[name].shape == shape:
            wider = old.new_zeros(shape)
            for number, channel in enumerate(had):
                wider[:, has.index(channel)] = old[:, number]
            return tensors | {name: wider}
    return tensors
