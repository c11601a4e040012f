"""Is a path a CT volume or a picture? Told by content, cheaply; whether it can be used is the reader's question."""

from pathlib import Path

GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"


def looks_like_volume(path: Path) -> bool:
    """Say whether a path is a folder, a NIfTI or NRRD file, or packed; False for what is missing or unreadable."""
    if path.is_dir():
        return True
    try:
        with path.open("rb") as stream:
            head = stream.read(352)
    except OSError:
        return False
    nifti = head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2")
    return nifti or head.startswith((b"NRRD", GZIP, ZIP))
