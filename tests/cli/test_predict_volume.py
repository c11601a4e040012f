"""`glint segment SCAN`: a CT through the whole command, and one clear message for each bad input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from tests.cli.conftest import write_scan
from tests.cli.test_predict import assert_one_message
from tests.io.conftest import make_scan

from glint.io.radiograph import radiograph_from_array
from glint.io.volume import Volume

Command = Callable[..., Any]


def test_segment__writes_masks_maps_and_montage(
    glint: Command, ct: Path, ct_folder: Path, tmp_path: Path
) -> None:
    words = ("--threshold", "0.4", "--refine", "guided", "--min-ml", "1", "--json")
    files = ("-o", tmp_path / "m.nii.gz", "--heat", tmp_path / "h.nii.gz", "--png", tmp_path / "p.png")
    done = glint("segment", ct, "-q", "a", "-q", "b", "-m", ct_folder, *words, *files)
    assert done.status == 0, done.err
    document = json.loads(done.out)
    assert document["image_size_vox"] == [32, 26, 20]
    assert document["voxel_spacing_mm"] == [8, 8, 10]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"scan.nii.gz", "p.png", *(f"{kind}-{n}.nii.gz" for kind in "mh" for n in (1, 2))}
    scan: Any = nibabel.load(ct)  # pyright: ignore[reportPrivateImportUsage]
    for number, result in enumerate(document["results"], start=1):
        mask: Any = nibabel.load(tmp_path / f"m-{number}.nii.gz")  # pyright: ignore[reportPrivateImportUsage]
        np.testing.assert_array_equal(mask.affine, scan.affine)
        assert mask.shape == scan.shape
        assert np.asarray(mask.dataobj).sum() * 0.64 == pytest.approx(result["volume_ml"], abs=1e-2)
        assert result["volume_ml"] > 0
        i, j, k = result["point_ijk"]
        right, anterior, superior = nibabel.affines.apply_affine(scan.affine, (i, j, k)).tolist()
        assert result["point_lps_mm"] == pytest.approx([-right, -anterior, superior], abs=1e-3)
    for verb in ("classify", "ground"):
        done = glint(verb, ct, "-q", "[b]a[/b]", "-m", ct_folder)
        assert done.status == 0
        assert "[b]a" in done.out
        assert ("LPS" in done.out) is (verb == "ground")


def bad_scans(folder: Path) -> dict[str, Path]:
    """Return what is wrong -> file."""
    hu = make_scan().astype(np.float32)
    nan = hu.copy()
    nan[3, 3, 3] = np.nan
    scans = {
        "constant": np.zeros_like(hu),
        "not numbers": nan,
        "single slice": hu[:1],
        r"scaled to \[0, 1\]": (hu + 1024) / 4095,
        "labels|no CT of a chest": np.abs(hu) % 200,
        "rescale intercept": hu - 1024,
    }
    files = {
        what: write_scan(folder / f"{n}.nii.gz", values) for n, (what, values) in enumerate(scans.items())
    }
    image: Any = nibabel.Nifti1Image(np.stack([hu] * 3, -1), np.eye(4))  # pyright: ignore[reportPrivateImportUsage]
    nibabel.save(image, folder / "4d.nii.gz")  # pyright: ignore[reportPrivateImportUsage]
    files["axes"] = folder / "4d.nii.gz"
    bomb = bytearray(image.header.binaryblock)
    bomb[40:56] = np.array([3, 65535 // 2, 65535 // 2, 4, 1, 1, 1, 1], dtype="<i2").tobytes()
    (folder / "bomb.nii").write_bytes(bytes(bomb) + bytes(320))
    files["too small|too large|memory|cut short"] = folder / "bomb.nii"
    return files


def test_bad_scans__have_one_message_and_no_output(
    glint: Command, ct: Path, ct_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, scans = tmp_path / "out", tmp_path / "scans"
    out.mkdir()
    scans.mkdir()
    words = ("-q", "a", "-m", ct_folder, "-o", out / "m.nii.gz", "--png", out / "p.png", "--json")
    for what, path in bad_scans(scans).items():
        done = glint("segment", path, *words)
        assert_one_message(done, 3, out)
        assert any(part in done.err for part in what.replace("\\", "").split("|")), (what, done.err)
    monkeypatch.setattr("glint.infer.scan.available_bytes", lambda: 1 << 20)
    done = glint("segment", ct, *words)
    assert_one_message(done, 3, out)
    assert "GiB of memory" in done.err


def test_kinds__of_image_and_model_must_fit(
    glint: Command, ct: Path, ct_folder: Path, image: Path, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    done = glint("segment", image, "-q", "a", "-m", ct_folder, "-o", out / "m.png")
    assert_one_message(done, 3, out)
    assert "glint-cxr-phantom" in done.err
    done = glint("segment", ct, "-q", "a", "-m", model_folder, "-o", out / "m.nii.gz")
    assert_one_message(done, 3, out)
    assert "glint-ct-phantom" in done.err
    for words in (
        (image, "-m", model_folder, "--refine", "guided"),
        (image, "-m", model_folder, "--series", "2"),
        (ct, "-m", ct_folder, "-o", out / "m.png"),
        (ct, "-m", ct_folder, "-o", out / "m.nii.gz", "--heat", out / "m.nii.gz"),
        (ct, "-m", ct_folder, "-o", ct),
        (ct, "-m", ct_folder, "--refine", "crf"),
        (ct, "-m", ct_folder, "--overlap", "1"),
    ):
        assert_one_message(glint("segment", *words, "-q", "a"), 2, out)


def test_head__is_answered_with_a_warning(glint: Command, ct_folder: Path, tmp_path: Path) -> None:
    hu = make_scan()
    hu[(hu > -950) & (hu < -600)] = 30
    done = glint("classify", write_scan(tmp_path / "head.nii", hu), "-q", "a", "-m", ct_folder)
    assert done.status == 0
    assert "does not look like a chest CT" in done.err


def test_api__same_verbs_for_volumes(ct: Path, ct_folder: Path) -> None:
    import glint as package

    model = package.load(ct_folder)
    assert model.reads_volumes
    volume = package.read_volume(ct)
    assert isinstance(volume, Volume)
    first, second = (model.segment(scan, ["a"], threshold=0.4) for scan in (ct, volume))
    assert first.to_dict() == second.to_dict()
    assert isinstance(first, package.VolumeAnswers)
    with pytest.raises(package.errors.GlintError, match="X-ray"):
        model.segment(radiograph_from_array(np.eye(64)), ["a"])
