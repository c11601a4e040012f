"""Spot views: squares of a radiograph whose reports are true of the square, not of the image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from glint.errors import UsageError
from glint.io.radiograph import read_radiograph
from glint.phantom.anatomy import sample_anatomy
from glint.phantom.base import load_base
from glint.phantom.generate import generate
from glint.phantom.schema import KINDS, Finding
from glint.phantom.spots import CANVAS, look, lung_outlines, make_spots
from glint.phantom.study import PhantomStudy, StudyOptions, make_study, set_up

Seeds = np.random.SeedSequence
SIZE_PX = 128
WHOLE = (slice(None), slice(None))
Shown = tuple[list[PhantomStudy], dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def shown() -> Shown:
    anatomy = sample_anatomy(load_base(), 6)
    setup = set_up(anatomy, Seeds(3), SIZE_PX)
    studies = [make_study(anatomy, setup, Seeds(seed), StudyOptions(masks=True)) for seed in range(6)]
    return studies, lung_outlines(anatomy, setup)


def square_of(mask: torch.Tensor) -> tuple[slice, slice]:
    rows, columns = (torch.nonzero(mask.any(axis)).flatten() for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def alone(study: PhantomStudy, kind: str, mask: torch.Tensor, side: str = "right") -> PhantomStudy:
    return replace(study, findings=(Finding(kind, side),), masks=(mask,), pixel_mm=1.0)  # type: ignore[arg-type]


def test_make_spots__small_squares_of_the_image_under_a_shutter(shown: Shown) -> None:
    studies, lungs = shown
    for study in studies:
        for spot in make_spots(study, lungs, Seeds(1).spawn(4), "train"):
            side = round(SIZE_PX * CANVAS)
            assert spot.pixels.shape == (side, side)
            assert not spot.pixels[[0, -1]].any()
            rows, columns = square_of(spot.pixels > 0)
            part = spot.pixels[rows, columns]
            windows = study.pixels.unfold(0, len(part), 1).unfold(1, part.shape[1], 1)
            assert (windows == part).all(-1).all(-1).any()


def test_make_spots__reports_are_true_of_the_square(shown: Shown) -> None:
    studies, lungs = shown
    affirmed = 0
    for study in studies:
        there = {finding.kind for finding in study.findings}
        for spot in make_spots(study, lungs, Seeds(2).spawn(20), "train"):
            named = {finding.kind for finding in spot.findings}
            assert named <= there - {"cardiomegaly"}
            for claim in spot.report.claims:
                if claim.kinds:
                    absent = claim.state == "absent" and not claim.side
                    assert absent != bool(named & set(claim.kinds)), claim
                affirmed += claim.state == "present"
                assert "cardiomegaly" not in claim.kinds
    assert affirmed > 20


def test_make_spots__same_seeds_same_spots(shown: Shown) -> None:
    studies, lungs = shown
    one, other = (make_spots(studies[0], lungs, Seeds(7).spawn(3), "train") for _ in range(2))
    assert [spot.report for spot in one] == [spot.report for spot in other]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(one, other, strict=True))
    assert len({spot.report.text for spot in one}) == 3


def test_look__names_what_is_half_there_or_large_and_is_silent_about_slivers(shown: Shown) -> None:
    studies, lungs = shown
    mask = torch.zeros(SIZE_PX, SIZE_PX, dtype=torch.bool)
    mask[40:60, 30:50] = True  # 400 mm2
    study = alone(studies[0], "mass", mask)
    for columns, named, cut in (
        (slice(0, 60), True, False),
        (slice(0, 41), True, False),
        (slice(0, 35), False, True),
    ):
        findings, untold, found_cut = look(study, lungs, (slice(30, 70), columns))
        assert ([f.kind for f in findings] == ["mass"]) == named
        assert found_cut == cut
        assert ("mass" in untold) == cut
    assert look(study, lungs, (slice(80, 120), slice(30, 60)))[2] is False
    mask[10:110, 10:110] = True  # a third of it, 3,300 mm2, is enough
    findings, _, _ = look(alone(studies[0], "pleural_effusion", mask), lungs, (slice(10, 43), slice(0, 128)))
    assert findings


def test_look__a_finding_on_both_sides_has_the_side_that_is_seen(shown: Shown) -> None:
    studies, lungs = shown
    mask = torch.zeros(SIZE_PX, SIZE_PX, dtype=torch.bool)
    mask[80:100, 20:50] = mask[80:100, 80:110] = True
    study = alone(studies[0], "pleural_effusion", mask, "bilateral")
    sides = [
        look(study, lungs, (slice(70, 110), c))[0][0].side
        for c in (slice(0, 60), slice(70, 128), slice(0, 128))
    ]
    assert sides == ["right", "left", "bilateral"]


def test_look__denies_nothing_of_lungs_that_are_not_there_and_never_the_size_of_the_heart(
    shown: Shown,
) -> None:
    studies, lungs = shown
    study = replace(studies[0], findings=(), masks=())
    _, untold, _ = look(study, lungs, WHOLE)
    assert untold == {"cardiomegaly"}
    outline = lungs["right"]
    right_only = (slice(None), slice(0, int(torch.nonzero(lungs["left"].any(0)).min())))
    assert outline[right_only].any()
    assert look(study, lungs, right_only)[1] == {"cardiomegaly", "left"}
    nothing = (slice(0, 2), slice(0, 2))
    assert look(study, lungs, nothing)[1] == {"left", "right", *KINDS} - {
        "central_venous_catheter",
        "pacemaker",
    }


def test_generate__spots_stand_for_training_images_only(tmp_path: Path) -> None:
    for name, spots in (("whole", 0), ("spots", 3)):
        generate(tmp_path / name, train=2, val=1, test=0, seed=3, size_px=SIZE_PX, spots=spots)
    rows = pq.read_table(tmp_path / "spots" / "manifest.parquet").to_pylist()
    assert [r["study_id"] for r in rows if r["split"] == "train"] == [
        f"train-{study:06d}-{spot:02d}" for study in range(2) for spot in range(3)
    ]
    sides = {r["split"]: read_radiograph(tmp_path / "spots" / r["image"]).pixels.shape[0] for r in rows}
    assert sides == {"train": round(SIZE_PX * CANVAS), "val": SIZE_PX}
    truth = pq.read_table(tmp_path / "spots" / "truth.parquet").to_pylist()
    assert not any(r["mask"] for r in truth if r["study_id"].startswith("train"))
    for part in ("images/val-000000.dcm", "reports/val-000000.txt"):
        assert (tmp_path / "spots" / part).read_bytes() == (tmp_path / "whole" / part).read_bytes()


def test_generate__a_strange_number_of_spots_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="spot views"):
        generate(tmp_path / "set", train=1, val=0, test=0, spots=-1)
