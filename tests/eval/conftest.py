"""A small data set with truth whose findings are squares of one grey level each, and models that see them or not."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d

from glint.eval.cases import class_queries, negated_queries, read_cases, sentence_query
from glint.phantom.report import write_report
from glint.phantom.sample import sample_findings
from glint.phantom.schema import KINDS
from glint.text.semantics import flip_polarity

SHAPE, SIDE, SIZE_PX, STRIDE = (96, 72), 16, 96, 8
LEVELS = {kind: 40 + 16 * k for k, kind in enumerate(KINDS)}


def paint(rng: np.random.Generator, kinds: list[str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return pixels and the mask of each kind; top and bottom rows hold black and white, so that scaling is 1."""
    pixels = np.full(SHAPE, 20, dtype=np.uint8)
    pixels[:2], pixels[-2:] = 0, 255
    masks = []
    for slot, kind in zip(rng.permutation(20), kinds, strict=False):
        y, x = 8 + 16 * (slot // 4), 4 + 16 * (slot % 4)
        mask = np.zeros(SHAPE, dtype=bool)
        mask[y : y + SIDE, x : x + SIDE] = True
        pixels[mask] = LEVELS[kind]
        masks.append(mask)
    return pixels, masks


def write_study(folder: Path, name: str, seed: int, combo: bool) -> list[dict[str, object]]:
    generator = torch.Generator().manual_seed(seed)
    findings = sample_findings(generator, force_held_out=combo)
    pixels, masks = paint(np.random.default_rng(seed), [f.kind for f in findings])
    Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    (folder / "reports" / f"{name}.txt").write_text(write_report(findings, Random(seed), "train").text)
    rows = []
    for number, (finding, mask) in enumerate(zip(findings, masks, strict=True)):
        file = f"masks/{name}-{number}-{finding.kind}.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / file)
        rows.append({"study_id": name, **finding.to_dict(), "mask": file})
    return rows


@pytest.fixture(scope="session")
def truth_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with 24 val, 48 test and 16 test_combo studies, two of a patient; do not change its files."""
    folder = tmp_path_factory.mktemp("truth")
    for name in ("images", "reports", "masks"):
        (folder / name).mkdir()
    manifest, truth = [], []
    for number, (split, count) in enumerate({"val": 24, "test": 48, "test_combo": 16}.items()):
        for i in range(count):
            name = f"{split}-{i:03d}"
            truth += write_study(folder, name, 1000 * number + i, split == "test_combo")
            paths = {"image": f"images/{name}.png", "report": f"reports/{name}.txt"}
            patient = f"{split}-p{i // 2}"
            manifest.append({"study_id": name, "patient_id": patient, "split": split, "view": "PA", **paths})
    pq.write_table(pa.Table.from_pylist(manifest), folder / "manifest.parquet")
    pq.write_table(pa.Table.from_pylist(truth), folder / "truth.parquet")
    return folder


@dataclass
class Seer:
    """Answers from the grey levels, with a share of noise: 0 sees everything, 1 sees nothing."""

    meaning: dict[str, tuple[str, bool]]
    noise: float

    def __post_init__(self) -> None:
        self.cfg = SimpleNamespace(data=SimpleNamespace(size_px=SIZE_PX), align=SimpleNamespace(spread=0))
        self.vision = SimpleNamespace(patch=(STRIDE, STRIDE))
        self.generator = torch.Generator().manual_seed(5)

    def predict(
        self, images: torch.Tensor, valid: torch.Tensor | None, queries: list[str]
    ) -> SimpleNamespace:
        grid = (SIZE_PX // STRIDE, SIZE_PX // STRIDE)
        assert valid is not None
        assert valid.shape == (len(images), grid[0] * grid[1])
        maps, signs = [], []
        for query in queries:
            kind, affirms = self.meaning[query]
            seen = ((images * 255 - LEVELS[kind]).abs() < 3).float()
            maps.append(avg_pool2d(seen, STRIDE).flatten(1))
            signs.append(1.0 if affirms else -1.0)
        seen = torch.stack(maps)
        seen = (1 - self.noise) * seen + self.noise * torch.rand(seen.shape, generator=self.generator)
        strength = (
            seen.amax(-1) - 0.5 + 0.2 * self.noise * torch.randn(seen.shape[:2], generator=self.generator)
        )
        return SimpleNamespace(
            scores_SB=(6 * strength * torch.tensor(signs)[:, None]).sigmoid(),
            maps_SBP=seen,
            evidence_SBP=seen,
            grid=grid,
        )


@pytest.fixture(scope="session")
def seer(truth_folder: Path) -> Callable[[str], Seer]:
    """Make a model of a name: "seer", or "blind"."""
    meaning: dict[str, tuple[str, bool]] = {}
    for wording in ("train", "new"):
        for split in ("val", "test", "test_combo"):
            for case in read_cases(truth_folder, split):
                for i, true in enumerate(case.findings):
                    sentence = sentence_query(case, i, wording)
                    meaning[sentence] = (true.finding.kind, True)
                    turned = flip_polarity(sentence)
                    if turned is not None:
                        meaning[turned] = (true.finding.kind, False)
        for kind in KINDS:
            meaning |= dict.fromkeys(negated_queries(kind, wording), (kind, False))
            meaning |= dict.fromkeys(class_queries(kind, wording), (kind, True))
    return lambda name: Seer(meaning, {"seer": 0.0, "half": 0.5, "blind": 1.0}[Path(name).name])
