"""Model files against their recorded sums."""

from pathlib import Path

import pytest

from glint.errors import UsageError, WeightsError
from glint.model.checksums import SUMS_FILE, sha256, verify, write_sums


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    (tmp_path / "b.json").write_text("{}")
    write_sums(tmp_path)
    return tmp_path


def test_verify__a_whole_folder_is_whole(folder: Path) -> None:
    assert verify(folder) == {"a.safetensors": SUMS_FILE, "b.json": SUMS_FILE}


def test_verify__one_changed_byte_is_seen(folder: Path) -> None:
    (folder / "a.safetensors").write_bytes(b"Weights")
    with pytest.raises(WeightsError, match=r"not what it should be[\s\S]*a\.safetensors"):
        verify(folder)


def test_verify__a_missing_file_is_seen(folder: Path) -> None:
    (folder / "b.json").unlink()
    with pytest.raises(WeightsError, match=r"missing[\s\S]*b\.json"):
        verify(folder)


def test_verify__sums_of_files_elsewhere_are_not_followed(folder: Path) -> None:
    (folder / SUMS_FILE).write_text("0" * 64 + "  ../secret\n")
    with pytest.raises(WeightsError, match="cannot be read"):
        verify(folder)


def test_verify__official_names_hold_eight_digits(tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    draft.write_bytes(b"weights")
    good = tmp_path / f"dinov3_vits16-{sha256(draft)[:8]}.pth"
    draft.rename(good)
    assert verify(good) == {good.name: "digits in its name"}
    bad = good.rename(tmp_path / "dinov3_vits16-00000000.pth")
    with pytest.raises(WeightsError, match="expected: 00000000"):
        verify(bad)


def test_verify__the_hub_cache_names_files_by_their_sum(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    draft = blobs / "draft"
    draft.write_bytes(b"weights")
    blob = draft.rename(blobs / sha256(draft))
    (snapshot / "model.safetensors").symlink_to(blob)
    assert verify(snapshot) == {"model.safetensors": "the hub's sum"}
    blob.write_bytes(b"other")
    with pytest.raises(WeightsError, match="not what it should be"):
        verify(snapshot)


def test_verify__nothing_known_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="nothing is known"):
        verify(tmp_path)
    with pytest.raises(UsageError, match="nothing is known"):
        verify(tmp_path / "model.safetensors")
