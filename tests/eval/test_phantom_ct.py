"""The task phantom-ct on a stand-in data set: findings are boxes of one density each, a model sees them or not."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics import average_precision_score

from glint.config.volume import VolumeConfig
from glint.errors import UsageError
from glint.eval.anatomy import structure_query
from glint.eval.cases import class_queries, negated_queries, read_cases, sentence_query
from glint.eval.run import run
from glint.eval.subject import CT
from glint.eval.tracks import Options
from glint.eval.volume_metrics import average_precision, parts_found, surface_distance
from glint.infer.scan import encode_scan
from glint.io.volume import read_volume
from glint.io.volume_nifti import write_nifti
from glint.io.voxel_grid import VoxelGrid
from glint.model.align import Patches
from glint.phantom.ct.schema import CT as CATALOGUE
from glint.phantom.report import write_report
from glint.phantom.sample import sample_findings
from glint.text.semantics import flip_polarity

SHAPE, SPACING = (20, 24, 28), 6.0
LEVELS = {kind: 220 + 40 * k for k, kind in enumerate(CT.kinds)}
LUNG = -800
Load = Callable[[str], Any]


def grid() -> VoxelGrid:
    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], range(4)] = (SPACING, SPACING, SPACING, 1)
    return VoxelGrid(SHAPE, affine)


def write_study(folder: Path, name: str, seed: int, combo: bool) -> tuple[list[Any], list[Any]]:
    generator = torch.Generator().manual_seed(seed)
    findings = sample_findings(generator, force_held_out=combo, catalogue=CATALOGUE)
    hu = np.full(SHAPE, 30, dtype=np.int16)
    hu[:, :2] = -1000
    hu[4:18, 6:12, 2:12] = hu[4:18, 6:12, 16:26] = LUNG
    slots = np.random.default_rng(seed).permutation(12)
    truth, anatomy = [], []
    for number, (slot, finding) in enumerate(zip(slots, findings, strict=False)):
        z, y, x = 2 + 9 * (slot // 6), 13 + 5 * (slot % 2), 3 + 8 * (slot // 2 % 3)
        mask = np.zeros(SHAPE, dtype=bool)
        mask[z : z + 4, y : y + 4, x : x + 5] = True
        hu[mask] = LEVELS[finding.kind]
        file = f"masks/{name}-{number}.nii.gz"
        write_nifti(folder / file, mask, grid())
        truth.append({"study_id": name, **finding.to_dict(), "mask": file})
    for side, columns in (("left", slice(14, 28)), ("right", slice(0, 14))):
        mask = np.zeros(SHAPE, dtype=bool)
        mask[:, :, columns] = hu[:, :, columns] == LUNG
        file = f"masks/{name}-{side}.nii.gz"
        write_nifti(folder / file, mask, grid())
        anatomy.append({"study_id": name, "structure": f"{side} lung", "mask": file})
    write_nifti(folder / "images" / f"{name}.nii.gz", hu, grid())
    text = write_report(findings, Random(seed), "ct_train").text
    (folder / "reports" / f"{name}.txt").write_text(text)
    return truth, anatomy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 val, 8 test and 2 test_combo studies."""
    folder = tmp_path_factory.mktemp("ct-truth")
    for name in ("images", "reports", "masks"):
        (folder / name).mkdir()
    tables: dict[str, list[Any]] = {"manifest": [], "truth": [], "anatomy": []}
    for number, (split, count) in enumerate({"val": 5, "test": 8, "test_combo": 2}.items()):
        for i in range(count):
            name = f"{split}-{i:03d}"
            truth, anatomy = write_study(folder, name, 1000 * number + i, split == "test_combo")
            tables["truth"] += truth
            tables["anatomy"] += anatomy if split == "test" else []
            paths = {"image": f"images/{name}.nii.gz", "report": f"reports/{name}.txt"}
            tables["manifest"].append(
                {"study_id": name, "patient_id": f"p{split}{i}", "split": split, **paths}
            )
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


class ScanSeer:
    """Answers from densities: 0 noise sees everything, 1 nothing."""

    def __init__(self, meaning: dict[str, tuple[str, bool]], noise: float) -> None:
        volume = VolumeConfig(spacing_mm=(SPACING,) * 3, crop=(16, 24, 28), windows_hu=((-1000, 1000),))
        align = SimpleNamespace(dim=1, gate_dim=1, type="gated", spread=0)
        self.cfg = SimpleNamespace(data=SimpleNamespace(volume=volume), align=align)
        self.meaning, self.noise = meaning, noise
        self.generator = torch.Generator().manual_seed(3)

    @property
    def vision(self) -> Any:
        def encode(images: torch.Tensor) -> Any:
            return SimpleNamespace(tokens=images.flatten(2).transpose(1, 2))

        encode.patch = (1, 1, 1)  # pyright: ignore[reportFunctionMemberAccess]
        return encode

    def project(self, tokens: torch.Tensor, valid: torch.Tensor | None) -> Patches:
        assert valid is not None
        return Patches(tokens, None, valid)

    def calibrated(self, raw: torch.Tensor, queries: list[str]) -> torch.Tensor:
        return raw.sigmoid()

    def align_patches(self, patches: Patches, queries: list[str]) -> Any:
        hu = patches.values[..., 0] * 2000 - 1000
        maps, scores = [], []
        for query in queries:
            kind, affirms = self.meaning[query]
            seen = ((hu - LEVELS.get(kind, LUNG)).abs() < 5).float()
            if kind.endswith("lung"):  # half of the lungs is said to be left by a coin
                seen = seen * (0.4 + 0.2 * torch.rand(seen.shape, generator=self.generator))
            seen = (1 - self.noise) * seen + self.noise * torch.rand(seen.shape, generator=self.generator)
            strength = (1 if affirms else -1) * (1 - self.noise) * (seen.amax(-1) - 0.5)
            scores.append(strength + self.noise * torch.randn(1, generator=self.generator))
            maps.append(seen * patches.valid)
        stacked = torch.stack(maps)
        return SimpleNamespace(scores=torch.stack(scores), maps=stacked, evidence=stacked, null=None)


@pytest.fixture(scope="module")
def load(folder: Path) -> Load:
    meaning: dict[str, tuple[str, bool]] = {}
    for wording in ("train", "new"):
        for split in ("val", "test", "test_combo"):
            for case in read_cases(folder, split, subject=CT):
                for i, true in enumerate(case.findings):
                    sentence = sentence_query(case, i, wording)
                    meaning[sentence] = (true.finding.kind, True)
                    turned = flip_polarity(sentence)
                    if turned is not None:
                        meaning[turned] = (true.finding.kind, False)
        for kind in CT.kinds:
            meaning |= dict.fromkeys(negated_queries(kind, wording, CT), (kind, False))
            meaning |= dict.fromkeys(class_queries(kind, wording, CT), (kind, True))
    from glint.phantom.ct.schema import CT_STRUCTURES

    meaning |= {structure_query(name): (name, True) for name in CT_STRUCTURES}
    return lambda name: ScanSeer(meaning, {"seer": 0.0, "blind": 1.0}[Path(name).name])


@pytest.fixture(scope="module")
def written(folder: Path, load: Load, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    run(["seer", "blind"], Options(folder, bootstrap=50, subject=CT), out, load=load)
    return out


def value(results: dict[str, Any], model: int, track: str, metric: str) -> float:
    return results["models"][model]["tracks"][track][metric]["macro"]["value"]


def test_evaluate__seeing_model_is_right_and_blind_one_is_not(written: Path) -> None:
    results = json.loads((written / "results.json").read_text())
    assert results["task"] == "phantom-ct"
    at_least = {
        "auroc": 0.999, "pointing": 0.999, "dice_val": 0.95, "dice_guided_val": 0.8, "aupr": 0.95, "hit_005": 1,
        "hit_010": 1, "instance_f1": 0.99, "distance_f1": 0.99, "contradiction": 1,
    }  # fmt: skip
    for track in ("standard", "new combinations"):
        for metric, least in at_least.items():
            assert value(results, 0, track, metric) >= least, (track, metric)
            assert track != "standard" or value(results, 1, track, metric) < least - 0.1, metric
    assert value(results, 0, "sentences", "dice_val") > 0.9
    anatomy = results["models"][0]["tracks"]["anatomy"]
    assert set(anatomy["dice_fixed"]["per_finding"]) == {"left lung", "right lung", "lungs"}
    assert anatomy["pointing"]["per_finding"]["lungs"]["value"] == 1
    # Left and right are confused by that model, so each of them is half wrong.
    assert anatomy["dice_val"]["per_finding"]["lungs"]["value"] > 0.9
    assert 0.5 < anatomy["dice_val"]["per_finding"]["left lung"]["value"] < 0.75
    compared = {(row["track"], row["metric"]): row["p"] for row in results["comparisons"]}
    assert compared["standard", "auroc"] < 0.1


def test_results__as_files(written: Path) -> None:
    page = (written / "results.md").read_text()
    for words in (
        "AUPR of voxels",
        "instance f1",
        "### Per finding: anatomy",
        "lungs (8)",
        "hit rate, Dice 0.1",
    ):
        assert words in page
    assert {p.name for p in written.iterdir()} >= {"per_finding.png", "reliability.png", "examples_0.png"}


def test_evaluate__wants_a_model_of_the_right_kind(folder: Path, load: Load) -> None:
    model = load("seer")
    model.cfg.data.volume = None
    with pytest.raises(UsageError, match="about CT"):
        run(["x"], Options(folder, bootstrap=0, subject=CT), folder / "out", load=lambda _: model)


def test_raw_scores__are_those_of_the_place_before_calibration(folder: Path, load: Load) -> None:
    (case, *_) = read_cases(folder, "val", subject=CT)
    kind = case.findings[0].finding.kind
    absent = next(k for k in CT.kinds if all(f.finding.kind != k for f in case.findings))
    texts = [class_queries(k, "train", CT)[0] for k in (kind, absent)]
    (found,) = encode_scan(load("seer"), read_volume(case.image)).ask(texts)
    assert found.raw == pytest.approx([0.5, -0.5])


def test_average_precision__equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((9, 10, 11)) > 0.8
    values = np.clip(rng.normal(0.3 + 0.3 * mask, 0.15), 0, 1).astype(np.float32)
    expected = average_precision_score(mask.ravel(), values.ravel())
    assert average_precision(values, mask) == pytest.approx(expected, abs=2e-3)


def box(z: int, y: int, x: int, side: int = 4) -> np.ndarray:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[z : z + side, y : y + side, x : x + side] = True
    return mask


def test_parts__are_matched_one_to_one() -> None:
    truths = [box(2, 2, 2), box(10, 10, 10), box(2, 15, 20)]
    predicted = (
        box(2, 2, 3) | box(10, 10, 14) | box(2, 15, 20) | box(15, 2, 22)
    )  # touching, shifted, hit, false
    found = parts_found(predicted, truths, grid(), "mass")
    assert found["instance_precision"] == pytest.approx(2 / 4)
    assert found["instance_recall"] == pytest.approx(2 / 3)
    assert found["instance_f1"] == pytest.approx(4 / 7)
    assert found["distance_recall"] == pytest.approx(2 / 3)  # centroids 6, 24 and 0 mm apart; 12 count
    diffuse = parts_found(predicted, truths, grid(), "consolidation")
    assert diffuse["distance_recall"] == pytest.approx(2 / 3)
    nothing = parts_found(predicted & False, truths, grid(), "mass")
    assert set(nothing.values()) == {0.0}


def test_surface_distance__of_shifted_boxes() -> None:
    assert surface_distance(box(2, 2, 2), box(2, 2, 2), (1, 1, 1)) == 0
    assert 0.3 < surface_distance(box(2, 2, 2), box(2, 2, 3), (1, 1, 1)) < 1
    outer, inner = box(2, 2, 2, 9), box(3, 3, 3, 7)
    assert surface_distance(outer, inner, (2, 2, 2)) == pytest.approx(2, abs=0.3)
