"""The model card: it says what was done, and what the weights it started from ask for."""

from glint.config import GlintConfig
from glint.train.card import write_card


def test_write_card__says_what_was_trained_and_can_be_read_back(tiny_cfg: GlintConfig) -> None:
    card = write_card(tiny_cfg)
    assert "6 steps of 8 studies at 64 pixels" in card
    assert "not a medical device" in card
    assert "started from weights of others" not in card


def test_write_card__carries_the_terms_of_the_encoder(tiny_cfg: GlintConfig) -> None:
    terms = "DINOv3 License: derivatives carry the same agreement"
    vision = tiny_cfg.vision.model_copy(update={"arch": dict(tiny_cfg.vision.arch) | {"licence": terms}})
    card = write_card(tiny_cfg.model_copy(update={"vision": vision}))
    assert f"The image encoder started from weights of others. {terms}.\n" in card


def test_write_card__names_the_model_that_training_went_on_from(tiny_cfg: GlintConfig) -> None:
    assert "began with the weights" not in write_card(tiny_cfg)
    train = tiny_cfg.train.model_copy(update={"start": "runs/spots/model"})
    card = write_card(tiny_cfg.model_copy(update={"train": train}))
    assert "It began with the weights of `runs/spots/model`" in card
