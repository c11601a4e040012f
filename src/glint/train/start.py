"""Training goes on from a saved model: what its weights need is taken from it, the rest from the recipe."""

from glint.config.schema import GlintConfig

SHAPES = ("type", "dim", "gate_dim", "gate_space", "gate_activation", "pool")
"""Settings of `align` that decide which weights there are and what they mean."""


def resolve_start(cfg: GlintConfig) -> GlintConfig:
    """Return the recipe with encoders and gate of the model in `train.start`; as it is when there is none.

    Raises:
        UsageError: There is no such model.
        WeightsError: Its folder is incomplete.
    """
    if not cfg.train.start:
        return cfg
    from glint.model.folder import load_recipe

    there = load_recipe(cfg.train.start)
    align = cfg.align.model_copy(update={name: getattr(there.align, name) for name in SHAPES})
    return cfg.model_copy(update={"vision": there.vision, "text": there.text, "align": align})
