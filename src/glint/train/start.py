"""Training goes on from a saved model: what its weights need is taken from it, the rest from the recipe."""

from typing import TYPE_CHECKING

from glint.config.schema import GlintConfig

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

    Where the saved one drew the line of its masks is forgotten: it was fitted to maps that training will change.

    Raises:
        WeightsError: They are damaged, or do not fit.
    """
    from glint.model.folder import load_weights

    load_weights(model, name, new="vision.")
    model.mask_threshold.fill_(0.5)
