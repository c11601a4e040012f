"""Turns raw scores into calibrated ones without any label: from image-report pairs alone.

Every sentence that affirms something, in a report of the validation split, is scored with its own image
(matched) and with images whose reports do not contain it (unmatched). Platt scaling is fitted to tell the two
apart with equal weight on both:

    P(matched | score s) = sigmoid(scale * s + offset)

So 0.5 is where a sentence fits an image as well as not. An unmatched sentence may happen to be true: scores are
therefore cautious, and not prevalences. The truth tables of a phantom data set are never read here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from glint.data.manifest import Study, read_manifest
from glint.errors import DataError, UsageError
from glint.eval.views import BATCHES
from glint.eval.views_cxr import load_pixels
from glint.infer.scan import encode_scan
from glint.io.volume import read_volume
from glint.model.folder import load_model, save_calibration
from glint.model.glint import GlintModel
from glint.text.semantics import sentences

Array = NDArray[np.float64]
MIN_SENTENCES = 20
RIDGE = 1e-4
"""Weak pull of the standardised scale towards 0: perfectly separable scores have no finite optimum."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Raw scores of sentence-image pairs and which of them belong together."""

    scores: Array
    matched: NDArray[np.bool_]


def calibrate(
    folder: str | Path, data: str | Path, *, split: str = "val", limit: int = 0
) -> tuple[float, float]:
    """Fit a model's calibration on a split of image-report pairs and write it into the model folder.

    Args:
        folder: Model folder.
        data: Folder of the data set (manifest.parquet).
        split: Never a test split.
        limit: Use only so many studies; 0 means all.

    Returns:
        Scale and offset.

    Raises:
        UsageError: `folder` is no folder.
        DataError: The data set cannot be used, or has too few affirming sentences.
    """
    if not Path(folder).is_dir():
        raise UsageError("only a model folder can be calibrated", where=str(folder), expected="a folder")
    studies = read_manifest(Path(data) / "manifest.parquet", split)
    scale, offset = platt(score_pairs(load_model(folder), studies[:limit] if limit else studies))
    save_calibration(Path(folder), scale, offset)
    return scale, offset


def score_pairs(model: GlintModel, studies: Sequence[Study]) -> Pairs:
    """Score every affirming sentence with every image; sentences found in several reports match all of them."""
    reports = [_affirmed(study) for study in studies]
    texts = sorted({text for report in reports for text in report})
    if len(texts) < MIN_SENTENCES or len(studies) < 2:
        raise DataError(
            f"{len(texts)} different affirming sentences in {len(studies)} studies are too few to calibrate",
            expected=f"at least {MIN_SENTENCES}",
        )
    matched = np.array([[text in report for report in reports] for text in texts])
    return Pairs(_raw_scores(model, studies, texts), matched)


def _affirmed(study: Study) -> frozenset[str]:
    found = sentences(study.report.read_text(encoding="utf-8"))
    return frozenset(s.text for s in found if s.state == "present")


@torch.inference_mode()
def _raw_scores(model: GlintModel, studies: Sequence[Study], texts: list[str]) -> Array:
    """Return (S, B) scores before calibration."""
    if model.cfg.data.volume is not None:
        return np.stack([_raw_of_scan(model, study.image, texts) for study in studies], axis=1)
    columns: list[Array] = []
    batch = BATCHES[False]
    for start in range(0, len(studies), batch):
        paths = [study.image for study in studies[start : start + batch]]
        images, fits = load_pixels(paths, model.cfg.data.size_px)
        valid = np.stack([np.asarray(fit.valid_patches(model.vision.patch[-1])).reshape(-1) for fit in fits])
        tokens = model.vision(images).tokens
        columns.append(model.align_features(tokens, torch.from_numpy(valid), texts).scores.double().numpy())
    return np.concatenate(columns, axis=1)


def _raw_of_scan(model: GlintModel, path: Path, texts: list[str]) -> Array:
    """Return (S,) scores of a scan, from windows as at inference."""
    found = encode_scan(model, read_volume(path)).ask(texts)
    return np.concatenate([part.raw for part in found]).astype(np.float64)


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
