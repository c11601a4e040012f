"""The model card written beside trained weights: what was trained, on what, how to use it, what it is not."""

from glint.config import dump_config
from glint.config.schema import GlintConfig
from glint.model.text_models import known


def _sentence_encoder(cfg: GlintConfig) -> str:
    """Name the sentence encoder, with the licence of its weights where we know it."""
    traits = known(cfg.text.name)
    return f"{cfg.text.name} ({traits.licence})" if traits else cfg.text.name


def _licence(cfg: GlintConfig) -> str:
    """Return a paragraph on what the weights of the encoder ask of models derived from them, or ""."""
    terms = str(cfg.vision.arch.get("licence", ""))
    return f"The image encoder started from weights of others. {terms}.\n\n" if terms else ""


def _size(cfg: GlintConfig) -> str:
    """Say what the encoder saw of an image."""
    if cfg.data.volume is None:
        return f"{cfg.data.size_px} pixels"
    sides, spacing = (
        " x ".join(f"{n:g}" for n in v) for v in (cfg.data.volume.crop, cfg.data.volume.spacing_mm)
    )
    return f"{sides} voxels of {spacing} mm"


def _start(cfg: GlintConfig) -> str:
    """Say which model this one went on from, or ""."""
    if not cfg.train.start:
        return ""
    start = cfg.train.start
    return (
        f"It began with the weights of `{start}`; what that model learned from belongs to this one, too.\n\n"
    )


def write_card(cfg: GlintConfig) -> str:
    """Return the card (Markdown) of a model that was trained by a recipe."""
    return f"""# {cfg.name}

Trained by GLINT on image-report pairs of `{cfg.data.manifest}`, without masks or boxes:
{cfg.train.steps} steps of {cfg.train.batch_size} studies at {_size(cfg)}, seed {cfg.train.seed}.
Alignment: {cfg.align.type}; image encoder: {cfg.vision.name}; sentence encoder: {_sentence_encoder(cfg)}.

{_start(cfg)}{_licence(cfg)}Research software, not a medical device: not validated for clinical use.

## Use

    glint ground IMAGE -q "There is a pleural effusion." --model FOLDER

## Recipe

```yaml
{dump_config(cfg)}```
"""
