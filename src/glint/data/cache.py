"""Images decoded once into one array on disk, because decoding costs more than a training step can wait.

    CACHE/train-192px-<key>/images.npy   uint8 (N, size, size), memory mapped
                            index.json   kept study ids, rectangle of each image inside its padding, skipped studies

The key covers the manifest rows, the size and time of every image file, the input size and the version of the
preprocessing: whatever changes, a new cache is built and the old one is removed. A cache appears by one rename.
Threads decode: codecs work outside the interpreter lock, and processes would need a guarded main script.
"""

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glint.data.manifest import Study
from glint.errors import GlintError
from glint.io.radiograph import letterbox, read_radiograph

PREPROCESSING_VERSION = 1
MIN_PER_WORKER = 16


@dataclass(frozen=True, slots=True)
class ImageCache:
    """Decoded images of one split.

    Attributes:
        pixels: (N, size, size) uint8, bright = dense, padded with 0.
        frame: (N, 4) int32, rows y0:y1 and columns x0:x1 of the image inside the padding.
        kept: Positions of the N images in the list of studies that was asked for.
        skipped: Study id -> why it could not be read.
        folder: Where all this is.
    """

    pixels: NDArray[np.uint8]
    frame: NDArray[np.int32]
    kept: list[int]
    skipped: dict[str, str]
    folder: Path

    def serve(self, rows: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return images (B, 1, Y, X) uint8 and their validity (B, Y, X); nothing is left to chance."""
        del rng
        return torch.from_numpy(self.pixels[rows])[:, None], _fill(self.frame[rows], self.pixels.shape[-1])


def open_cache(
    studies: Sequence[Study], size_px: int, root: Path, name: str, *, workers: int = 0
) -> ImageCache:
    """Return the decoded images of studies, from disk when they are there and current.

    Args:
        studies: Which images.
        size_px: Side of the square output.
        root: Folder of caches.
        name: Beginning of the folder's name; an older cache of the same name and size is removed.
        workers: Decoding threads; 0 means one per core.
    """
    prefix = f"{name}-{size_px}px-"
    folder = root / (prefix + _key(studies, size_px))
    if not (folder / "index.json").is_file():
        root.mkdir(parents=True, exist_ok=True)
        _build(studies, size_px, folder, workers)
        for old in root.glob(prefix + "*"):
            if old != folder and ".tmp" not in old.name:
                shutil.rmtree(old, ignore_errors=True)
    index = json.loads((folder / "index.json").read_text())
    pixels: NDArray[np.uint8] = np.load(folder / "images.npy", mmap_mode="r")
    frame = np.array(index["frame"], dtype=np.int32).reshape(-1, 4)
    return ImageCache(pixels, frame, index["kept"], index["skipped"], folder)


def cache_root(manifest: Path) -> Path:
    """Return the folder for caches: beside the manifest, or under GLINT_HOME where that cannot be written."""
    if os.access(manifest.parent, os.W_OK):
        return manifest.parent / ".glint-cache"
    home = Path(os.environ.get("GLINT_HOME") or Path.home() / ".cache" / "glint")
    return home / "images" / hashlib.sha256(str(manifest.resolve()).encode()).hexdigest()[:12]


def _key(studies: Sequence[Study], size_px: int) -> str:
    """Return 16 hex digits that change with anything that changes the pixels."""
    digest = hashlib.sha256(f"{PREPROCESSING_VERSION}|{size_px}".encode())
    for study in studies:
        stat = study.image.stat()
        digest.update(f"|{study.study_id}|{study.image.name}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _build(studies: Sequence[Study], size_px: int, folder: Path, workers: int) -> None:
    """Decode everything into a temporary folder beside the target, then rename."""
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    try:
        pixels = np.lib.format.open_memmap(
            temporary / "images.npy", mode="w+", dtype=np.uint8, shape=(len(studies), size_px, size_px)
        )
        kept: list[int] = []
        frame: list[list[int]] = []
        skipped: dict[str, str] = {}
        for position, decoded in enumerate(_decode_all([study.image for study in studies], size_px, workers)):
            if isinstance(decoded, str):
                skipped[studies[position].study_id] = decoded
                continue
            pixels[len(kept)], rectangle = decoded
            kept.append(position)
            frame.append(rectangle)
        pixels.flush()
        # Unread studies leave empty rows at the end; `frame` says how many rows count.
        (temporary / "index.json").write_text(json.dumps({"kept": kept, "frame": frame, "skipped": skipped}))
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "index.json").is_file():  # else another process was first, with the same content
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


Decoded = tuple[NDArray[np.uint8], list[int]]


def _decode_all(images: Sequence[Path], size_px: int, workers: int) -> Iterator[Decoded | str]:
    """Yield pixels and frame of each image in order, or the reason why it cannot be read."""
    count = workers or min(os.cpu_count() or 1, len(images) // MIN_PER_WORKER)
    decode = partial(decode_image, size_px=size_px)
    if count < 2:
        yield from map(decode, images)
        return
    # Readers silence library warnings for a moment, which is not thread-safe: this puts the filters back for certain.
    with warnings.catch_warnings(), ThreadPoolExecutor(count) as pool:
        yield from pool.map(decode, images)


def decode_image(path: Path, size_px: int) -> Decoded | str:
    """Return an image as uint8 with the rectangle [y0, y1, x0, x1] it fills, or one line on what is wrong."""
    try:
        square, fit = letterbox(read_radiograph(path).pixels, size_px)
    except GlintError as error:
        return error.what
    (top, left), (height, width) = fit.offset, fit.inner
    frame = [top, top + height, left, left + width]
    return np.clip(np.rint(square * 255), 0, 255).astype(np.uint8), frame


def _fill(frame: np.ndarray, size_px: int) -> Tensor:
    """Turn rectangles (B, 4) into masks (B, Y, X)."""
    y0, y1, x0, x1 = (torch.from_numpy(frame[:, i, None]) for i in range(4))
    along = torch.arange(size_px)[None]
    rows, columns = (along >= y0) & (along < y1), (along >= x0) & (along < x1)
    return rows[:, :, None] & columns[:, None, :]
