"""Gives scores and masks their scale without any label: from image-report pairs alone.

Every sentence that affirms a finding, in a report of the validation split, is scored with its own image (matched) and
with images whose reports do not contain it (unmatched). As in training, images whose report says the same in other
words are left out (losses/claims.py): they would count what is true as unmatched. So are sentences on what every image
shows. Platt scaling is fitted to tell the two apart with equal weight on both:

    P(matched | score s) = sigmoid(scale * s + offset)

So 0.5 is where a sentence fits an image as well as not. An unmatched sentence may still happen to be true: scores are
therefore cautious, and not prevalences. Then the same pairs are scored by masks alone (model/masks.py): a threshold
whose masks tell matched from unmatched well (area under the curve) becomes 0.5 of the maps, before they spread
(ops/spread.py). The truth tables and masks of a phantom data set are never read here.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from glint.data.manifest import Study, read_manifest
from glint.errors import DataError, UsageError
from glint.eval.stats import auroc
from glint.eval.views import BATCHES
from glint.eval.views_cxr import load_pixels
from glint.infer.scan import encode_scan
from glint.io.volume import read_volume
from glint.losses.pairs import said_otherwise
from glint.model.folder import load_model, save_calibration
from glint.model.glint import GlintModel
from glint.text.clauses import analyse
from glint.text.semantics import sentences

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
MIN_SENTENCES = 20
MOST_SENTENCES = {False: 2000, True: 250}
"""Of radiographs, and of volumes, where a sentence costs more: so many are asked, spread evenly over all of them."""
MASK_THRESHOLDS = tuple(float(each) for each in 1 / (1 + np.exp(-np.linspace(-4, 2, 13))))
"""0.018 to 0.88, evenly in their logits."""
PLATEAU = 0.01
"""Areas under the curve that are no further apart are alike."""
RIDGE = 1e-4
"""Weak pull of the standardised scale towards 0: perfectly separable scores have no finite optimum."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Raw scores of sentence-image pairs, (S, B) or (T, S, B), and which of them belong together, (S, B)."""

    scores: Array
    matched: NDArray[np.bool_]

    def among(self, known: NDArray[np.bool_]) -> "Pairs":
        """Return N pairs, (N,) or (T, N): those that are set in `known` (S, B)."""
        return Pairs(self.scores[..., known], self.matched[known])


@dataclass(frozen=True, slots=True)
class Calibration:
    """score = sigmoid(scale * raw + offset); maps above `mask_threshold`, before it becomes 0.5, are masks."""

    scale: float
    offset: float
    mask_threshold: float


def calibrate(folder: str | Path, data: str | Path, *, split: str = "val", limit: int = 0) -> Calibration:
    """Fit a model's calibration on a split of image-report pairs and write it into the model folder.

    Args:
        folder: Model folder.
        data: Folder of the data set (manifest.parquet).
        split: Never a test split.
        limit: Use only so many studies; 0 means all.

    Raises:
        UsageError: `folder` is no folder.
        DataError: The data set cannot be used, or has too few affirming sentences.
    """
    if not Path(folder).is_dir():
        raise UsageError("only a model folder can be calibrated", where=str(folder), expected="a folder")
    studies = read_manifest(Path(data) / "manifest.parquet", split)
    studies = studies[:limit] if limit else studies
    model = load_model(folder)
    reports = [affirmed(study) for study in studies]
    texts, matched = affirmed_pairs(reports)
    if len(texts) < MIN_SENTENCES or len(studies) < 2:
        raise DataError(
            f"{len(texts)} sentences that affirm a finding, in {len(studies)} studies, are too few to calibrate",
            expected=f"at least {MIN_SENTENCES} in 2",
        )
    most = MOST_SENTENCES[model.cfg.data.volume is not None]
    asked = np.linspace(0, len(texts) - 1, min(len(texts), most)).astype(int)
    texts, matched = [texts[i] for i in asked], matched[asked]
    same = said_otherwise(texts, reports, model.text.frozen_vectors, torch.device("cpu"))
    known = matched | ~same.numpy()
    whole, masks = (pairs.among(known) for pairs in score_pairs(model, studies, texts, matched))
    found = Calibration(*platt(whole), best_threshold(masks.scores, masks.matched))
    save_calibration(Path(folder), found.scale, found.offset, found.mask_threshold)
    return found


@torch.inference_mode()
def score_pairs(
    model: GlintModel, studies: Sequence[Study], texts: list[str], matched: NDArray[np.bool_]
) -> tuple[Pairs, Pairs]:
    """Score sentences with every image, each of which is read and encoded once.

    Args:
        model: The model.
        studies: B studies.
        texts: S sentences.
        matched: (S, B) whose report has which.

    Returns:
        Pairs (S, B); and the same scored by masks at MASK_THRESHOLDS, (T, S, B).
    """
    parts = list(_asked(model, studies, texts))
    whole, by_masks = (np.concatenate(each, axis=-1).astype(np.float64) for each in zip(*parts, strict=True))
    return Pairs(whole, matched), Pairs(by_masks, matched)


def _asked(model: GlintModel, studies: Sequence[Study], texts: list[str]) -> Iterator[tuple[Floats, Floats]]:
    """Yield scores before calibration (S, b) and scores from masks (T, S, b) of some images after the others."""
    thresholds = torch.tensor(MASK_THRESHOLDS)
    if model.cfg.data.volume is not None:
        for study in studies:
            raw, by_masks = encode_scan(model, read_volume(study.image)).raw_scores(texts, thresholds)
            yield raw[:, None], by_masks[..., None]
        return
    batch = BATCHES[False]
    for start in range(0, len(studies), batch):
        paths = [study.image for study in studies[start : start + batch]]
        images, fits = load_pixels(paths, model.cfg.data.size_px)
        valid = np.stack([np.asarray(fit.valid_patches(model.vision.patch[-1])).reshape(-1) for fit in fits])
        patches = model.project(model.vision(images).tokens, torch.from_numpy(valid))
        found = model.align_patches(patches, texts)
        yield found.scores.numpy(), model.mask_scores(found, texts, thresholds).numpy()


def best_threshold(scores: Array, matched: NDArray[np.bool_]) -> float:
    """Return a threshold whose scores (T, S, B) tell matched pairs from unmatched ones well.

    The area under the curve hardly changes over a wide range of thresholds, so that the best of them is an accident:
    it is the middle, in logits, of the range around the best in which the area is within PLATEAU of it. Pairs may have
    any shape. Maps that tell nothing stay as they are.
    """
    once = np.ones((1, matched.size))
    areas = np.array([float(auroc(once, each.ravel(), matched.ravel())[0]) for each in scores])
    if not np.ptp(areas) > PLATEAU:  # nothing to tell apart gives NaN
        return 0.5
    low = high = int(areas.argmax())
    while low > 0 and areas[low - 1] >= areas.max() - PLATEAU:
        low -= 1
    while high + 1 < len(areas) and areas[high + 1] >= areas.max() - PLATEAU:
        high += 1
    ends = np.array([MASK_THRESHOLDS[low], MASK_THRESHOLDS[high]])
    middle = float(np.log(ends / (1 - ends)).mean())
    return 1 / (1 + math.exp(-middle))


def affirmed_pairs(reports: Sequence[Sequence[str]]) -> tuple[list[str], NDArray[np.bool_]]:
    """Return the `affirmed` sentences of all reports, and which image's report (S, B) has which."""
    texts = sorted({text for report in reports for text in report})
    return texts, np.array([[text in report for report in reports] for text in texts])


def affirmed(study: Study) -> list[str]:
    """Return the sentences of a report that affirm a finding, each once."""
    found = sentences(study.report.read_text(encoding="utf-8"))
    return sorted({s.text for s in found if s.state == "present" and analyse(s.text).mentions})


def platt(pairs: Pairs) -> tuple[float, float]:
    """Return the scale and offset with the least class-balanced log loss."""
    centre, spread = float(pairs.scores.mean()), max(float(pairs.scores.std()), 1e-6)
    inputs, label = ((pairs.scores - centre) / spread).ravel(), pairs.matched.ravel()
    sign = np.where(label, 1.0, -1.0)
    weight = np.where(label, 0.5 / max(1, label.sum()), 0.5 / max(1, (~label).sum()))

    def loss(parameters: Array) -> tuple[float, Array]:
        slope, shift = parameters
        margin = sign * (slope * inputs + shift)
        # d/dm log(1 + e^-m) = -sigmoid(-m), in the form that cannot overflow.
        pull = -weight * sign * np.exp(-np.logaddexp(0.0, margin))
        value = float((weight * np.logaddexp(0.0, -margin)).sum() + RIDGE * slope**2)
        return value, np.array([(pull * inputs).sum() + 2 * RIDGE * slope, pull.sum()])

    slope, shift = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x
    return float(slope / spread), float(shift - slope * centre / spread)
