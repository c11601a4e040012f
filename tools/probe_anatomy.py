"""Linear patch probe: how well do the tokens of a frozen encoder tell which organ lies behind a patch?

    python tools/probe_anatomy.py runs/start/encoder runs/adapted/encoder --data data/phantom-cxr

A ridge regression from one token to the organs at its place, fitted on one half of the test patients and measured on
the other: AUROC over patches, mean over organs, with a bootstrap over patients. Masks of organs exist for test studies
only, and this measures encoders; nothing is chosen by it. `random:NAME` stands for an encoder with random weights.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from glint.config.schema import DataConfig, VisionConfig
from glint.data.dataset import PairDataset
from glint.model.vision.base import ImageEncoder
from glint.model.vision.registry import build_vision

PATCHES = 100  # of an image: neighbours tell the same, and the bootstrap counts patients anyway
RIDGE = 1e-4  # share of the number of tokens, after standardising


def main() -> None:
    """Measure the encoders named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "encoders", nargs="+", help="folder of `glint pretrain` or `glint models convert`, or random:NAME"
    )
    parser.add_argument("--data", type=Path, default=Path("data/phantom-cxr"))
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--resamples", type=int, default=500)
    options = parser.parse_args()
    images, patients, masks, names = load(options.data, options.size)
    fitted = np.isin(patients, np.unique(patients)[::2])
    scores: dict[str, np.ndarray] = {}
    for source in options.encoders:
        tokens, labels = encode(build(source), images, masks)
        weights = ridge(tokens[fitted], labels[fitted])
        scores[source] = aurocs(
            tokens[~fitted], labels[~fitted], weights, patients[~fitted], options.resamples
        )
    print(
        "| encoder | mean AUROC over organs | "
        + " | ".join(names)
        + " |\n|---" * 1
        + "|---" * (len(names) + 1)
        + "|"
    )
    for source, draws in scores.items():
        low, high = np.percentile(draws[1:].mean(1), [2.5, 97.5])
        cells = " | ".join(f"{value:.3f}" for value in draws[0])
        print(f"| {source} | {draws[0].mean():.4f} [{low:.4f}, {high:.4f}] | {cells} |")
    first = scores[options.encoders[0]]
    for source in options.encoders[1:]:
        difference = scores[source].mean(1) - first.mean(1)
        low, high = np.percentile(difference[1:], [2.5, 97.5])
        print(f"\n{source} - {options.encoders[0]}: {difference[0]:+.4f} [{low:+.4f}, {high:+.4f}]")


def build(source: str) -> ImageEncoder:
    """Return an encoder in evaluation mode."""
    kind, _, name = source.partition(":")
    torch.manual_seed(0)
    if kind == "random":
        return build_vision(VisionConfig(name=name)).eval()
    card = json.loads((Path(source) / "encoder.json").read_text(encoding="utf-8"))
    return build_vision(VisionConfig(name=card["name"], init=source)).eval()


def load(data: Path, size: int) -> tuple[torch.Tensor, np.ndarray, torch.Tensor, list[str]]:
    """Return images (N, 1, S, S) in [0, 1], patients (N,), organ masks (N, K, S, S) and the names of the organs."""
    studies = PairDataset(data / "manifest.parquet", "test", DataConfig(size_px=size), with_reports=False)  # pyright: ignore[reportCallIssue]
    rows = pq.read_table(data / "anatomy.parquet").to_pylist()
    names = sorted({row["structure"] for row in rows})
    files = {(row["study_id"], row["structure"]): data / row["mask"] for row in rows}
    masks = [[mask(files.get((s.study_id, name)), size) for name in names] for s in studies.studies]
    images = torch.from_numpy(np.asarray(studies.cache.pixels[studies.rows]))
    patients = np.array([study.patient_id for study in studies.studies])
    return images[:, None].float() / 255, patients, torch.from_numpy(np.array(masks)), names


def mask(file: Path | None, size: int) -> np.ndarray:
    """Return a mask (S, S) in [0, 1]; images of the phantom are square, so resizing is letterboxing."""
    if file is None:
        return np.zeros((size, size), np.float32)
    picture = Image.open(file).convert("L")
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX), np.float32) / 255


@torch.inference_mode()
def encode(encoder: ImageEncoder, images: torch.Tensor, masks: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens (N, P, C) and labels (N, P, K)."""
    tokens = torch.cat([encoder(part).tokens.float() for part in images.split(20)])
    share = torch.nn.functional.avg_pool2d(masks.float(), encoder.patch[-1])
    return tokens.numpy(), (share.flatten(2).transpose(1, 2) > 0.5).numpy()


def ridge(tokens: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return weights (C + 1, K) of a ridge regression on standardised tokens."""
    x = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    z = (x - mean) / deviation
    y = labels.reshape(len(z), -1) * 2.0 - 1.0
    weights = np.linalg.solve(z.T @ z + RIDGE * len(z) * np.eye(z.shape[1]), z.T @ (y - y.mean(0)))
    weights = weights / deviation[:, None]
    return np.vstack([weights, y.mean(0) - mean @ weights])


def aurocs(
    tokens: np.ndarray, labels: np.ndarray, weights: np.ndarray, patients: np.ndarray, resamples: int
) -> np.ndarray:
    """Return (1 + resamples, K): the AUROC of each organ over patches, then its bootstrap over patients."""
    scores = tokens @ weights[:-1] + weights[-1]
    groups = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    return np.array([one(scores[rows], labels[rows]) for rows in draws(groups, len(scores), resamples)])


def draws(groups: list[np.ndarray], count: int, resamples: int) -> Iterator[np.ndarray]:
    """Yield all studies, then those of patients drawn with replacement."""
    yield np.arange(count)
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        yield np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])


def one(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return the AUROC of each organ, over up to PATCHES patches of every image, the same ones."""
    order = np.random.default_rng(1).permutation(scores.shape[1])[:PATCHES]
    return [
        float(roc_auc_score(labels[:, order, k].ravel(), scores[:, order, k].ravel()))
        for k in range(scores.shape[-1])
    ]


if __name__ == "__main__":
    main()
