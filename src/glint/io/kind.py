"""Is a path a CT volume, a picture, or something with several files in it? Told by content, cheaply.

Whether it can be used is the reader's question.
"""

from pathlib import Path
from typing import Literal

from glint.errors import DataError
from glint.io.archives import GZIP
from glint.io.limits import MAX_VOLUME_FILE_BYTES, check_readable
from glint.io.sources import Source, is_archive

PathKind = Literal["volume", "picture", "several"]


def kind_of_path(path: Path) -> PathKind:
    """Say what a path is.

    Returns:
        "several" for a folder or an archive, "volume" for a NIfTI or NRRD file, also a packed one; "picture" for all
        else, for what is missing or unreadable, too.
    """
    if path.is_dir():
        return "several"
    try:
        check_readable(path, "an image file", "scan", MAX_VOLUME_FILE_BYTES)
        if is_archive(path):
            return "several"
        head = Source.of(path).head(352)
    except DataError:
        return "picture"
    nifti = head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2")
    return "volume" if nifti or head.startswith((b"NRRD", GZIP)) else "picture"
