from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glint.config.schema import DataConfig
from glint.data.dataset import PairBatch, PairDataset
from glint.data.mirror import mirror_some
from glint.text.semantics import Sentence


def batch_of(texts: list[str], images: int, per_image: int) -> PairBatch:
    pixels = torch.arange(images * 12, dtype=torch.uint8).view(images, 1, 3, 4)
    return PairBatch(
        images=pixels,
        valid_px=pixels[:, 0] % 4 > 0,  # the first column is padding
        sentences=texts,
        owner=torch.arange(images).repeat_interleave(per_image),
        flips=[f"No {text}" for text in texts],
        states=["present"] * len(texts),
        normal=[False] * len(texts),
        reports=[
            [Sentence(text, "present", False) for text in texts[n * per_image : (n + 1) * per_image]]
            for n in range(images)
        ],
    )


def test_mirror_some__image_mask_and_sentences_turn_together():
    batch = batch_of(["Left effusion.", "RUL mass."] * 40, images=40, per_image=2)
    before = batch.images.clone()
    turned = mirror_some(batch, torch.Generator().manual_seed(0))
    which = [not torch.equal(a, b) for a, b in zip(turned.images, before, strict=True)]
    assert 8 < sum(which) < 32
    assert torch.equal(batch.images, before)  # the batch that came in is as it was
    for image, flipped in enumerate(which):
        expected = before[image].flip(-1) if flipped else before[image]
        assert torch.equal(turned.images[image], expected)
        assert torch.equal(turned.valid_px[image], expected[0] % 4 > 0)
        own = ["Right effusion.", "LUL mass."] if flipped else ["Left effusion.", "RUL mass."]
        assert turned.sentences[2 * image : 2 * image + 2] == own
        assert turned.flips[2 * image : 2 * image + 2] == [f"No {text}" for text in own]


def test_mirror_some__an_image_with_a_sentence_that_cannot_turn_stays():
    batch = batch_of(["Left effusion.", "Middle lobe mass."] * 20, images=20, per_image=2)
    turned = mirror_some(batch, torch.Generator().manual_seed(0))
    assert torch.equal(turned.images, batch.images)
    assert turned.sentences == batch.sentences


def test_mirror_some__sentences_that_were_not_drawn_turn_too_or_hold_the_image():
    batch = batch_of(["Left effusion."] * 40, images=40, per_image=1)
    whole = [[*drawn, Sentence("RUL mass.", "present", False)] for drawn in batch.reports]
    turned = mirror_some(replace(batch, reports=whole), torch.Generator().manual_seed(0))
    for sentence, report in zip(turned.sentences, turned.reports, strict=True):
        assert report[1].text == ("LUL mass." if sentence == "Right effusion." else "RUL mass.")
    held = [[*drawn, Sentence("Middle lobe mass.", "present", False)] for drawn in batch.reports]
    turned = mirror_some(replace(batch, reports=held), torch.Generator().manual_seed(0))
    assert torch.equal(turned.images, batch.images)


def test_mirror_some__images_without_reports():
    turned = mirror_some(batch_of([], images=20, per_image=0), torch.Generator().manual_seed(0))
    assert not torch.equal(turned.images, batch_of([], 20, 0).images)


@pytest.mark.parametrize(
    ("mirror", "expected"), [(False, ["Left mass."]), (True, ["Left mass.", "Right mass."])]
)
def test_texts__has_the_mirrored_sentences_too(pairs_manifest: Path, mirror: bool, expected: list[str]):
    data = PairDataset(pairs_manifest, "train", DataConfig(size_px=64, mirror=mirror))  # pyright: ignore[reportCallIssue]
    data.reports = [[Sentence("Left mass.", "present", False)]]
    assert [text for text in data.texts() if not text.startswith("No ")] == expected


def test_config__mirrored_ct_is_refused():
    with pytest.raises(ValueError, match="liver"):
        DataConfig.model_validate({"mirror": True, "volume": {"preset": "debug"}})
