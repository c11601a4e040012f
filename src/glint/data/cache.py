"""Radiographs decoded once into one array on disk, because decoding costs more than a training step can wait.

    CACHE/train-192px-<key>/images.npy   uint8 (N, size, size), memory mapped
                            index.json   kept study ids, rectangle of each image inside its padding, skipped studies

The key covers the manifest rows, the size and time of every image file, the input size and the version of the
preprocessing: whatever changes, a new cache is built and the old one is removed (data/store.py).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glint.data.manifest import Study
from glint.data.store import INDEX, content_key, decode_all, stored
from glint.errors import GlintError
from glint.io.radiograph import letterbox, read_radiograph

PREPROCESSING_VERSION = 1


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
    key = content_key(f"{PREPROCESSING_VERSION}|{size_px}", ((s.study_id, s.image) for s in studies))
    folder = stored(root, f"{name}-{size_px}px", key, lambda part: _build(studies, size_px, part, workers))
    index = json.loads((folder / INDEX).read_text())
    pixels: NDArray[np.uint8] = np.load(folder / "images.npy", mmap_mode="r")
    frame = np.array(index["frame"], dtype=np.int32).reshape(-1, 4)
    return ImageCache(pixels, frame, index["kept"], index["skipped"], folder)


def _build(studies: Sequence[Study], size_px: int, folder: Path, workers: int) -> None:
    """Decode everything into a folder."""
    pixels = np.lib.format.open_memmap(
        folder / "images.npy", mode="w+", dtype=np.uint8, shape=(len(studies), size_px, size_px)
    )
    kept: list[int] = []
    frame: list[list[int]] = []
    skipped: dict[str, str] = {}
    images = [study.image for study in studies]
    for position, decoded in enumerate(decode_all(images, partial(decode_image, size_px=size_px), workers)):
        if isinstance(decoded, str):
            skipped[studies[position].study_id] = decoded
            continue
        pixels[len(kept)], rectangle = decoded
        kept.append(position)
        frame.append(rectangle)
    pixels.flush()
    # Unread studies leave empty rows at the end; `frame` says how many rows count.
    (folder / INDEX).write_text(json.dumps({"kept": kept, "frame": frame, "skipped": skipped}))


Decoded = tuple[NDArray[np.uint8], list[int]]


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
