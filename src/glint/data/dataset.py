"""Image-report pairs as batches that depend on nothing but (seed, step): to resume, give the step number.

Axes: B studies, S sentences of the whole batch, Y X pixels.
"""

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glint.config.schema import DataConfig
from glint.data.cache import ImageCache, open_cache
from glint.data.manifest import Study, few, read_manifest
from glint.data.store import cache_root
from glint.data.volumes import VolumeCache, open_volumes
from glint.errors import DataError
from glint.text.semantics import Sentence, flip_polarity, sentences
from glint.text.sides import mirrored

MAX_UNREADABLE = 0.1  # above this share the data set, not a study, is at fault


@dataclass(frozen=True, slots=True)
class PairBatch:
    """B images and the S sentences drawn from their reports.

    Attributes:
        images: (B, C, Y, X) or (B, C, Z, Y, X) float32 in [0, 1]; uint8 before augmentation or `normalised`.
        valid_px: (B, Y, X) or (B, Z, Y, X) bool, False on padding.
        sentences: S sentences.
        owner: (S,) int64, index of the image whose report has the sentence.
        flips: The sentence with its polarity turned, or None where that is not safe.
        states: "present", "absent", "uncertain" or "changed" for each sentence.
        normal: Whether each sentence says that something is as it should be.
        reports: All distinct sentences of the report of each image, those above and those that were not drawn: a
            sentence of one image can be true of another where it was not drawn.
    """

    images: Tensor
    valid_px: Tensor
    sentences: list[str]
    owner: Tensor
    flips: list[str | None]
    states: list[str]
    normal: list[bool]
    reports: list[list[Sentence]]

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch with its tensors on a device."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            valid_px=self.valid_px.to(device, non_blocking=True),
            owner=self.owner.to(device, non_blocking=True),
        )

    def normalised(self) -> "PairBatch":
        """Return the batch with float images in [0, 1], not augmented."""
        return replace(self, images=self.images.float() / 255)


class PairDataset:
    """The readable studies of one split, images decoded, reports cut into sentences.

    Args:
        manifest: Parquet file.
        split: Which split.
        cfg: Data settings; `limit` counts training studies only.
        with_reports: False for self-supervised training, which sees images only.
        workers: Decoding threads; 0 means one per core.

    Raises:
        DataError: Broken manifest, or more than a tenth of the studies cannot be read.
    """

    def __init__(
        self,
        manifest: str | Path,
        split: str,
        cfg: DataConfig,
        *,
        with_reports: bool = True,
        workers: int = 0,
    ) -> None:
        manifest = Path(manifest)
        studies = read_manifest(manifest, split)
        name = split
        if cfg.limit and split == "train":
            studies, name = studies[: cfg.limit], f"{split}{cfg.limit}"
        self.split, self.cfg = split, cfg
        self.cache: ImageCache | VolumeCache = (
            open_cache(studies, cfg.size_px, cache_root(manifest), name, workers=workers)
            if cfg.volume is None
            else open_volumes(studies, cfg.volume, cache_root(manifest), name, workers=workers)
        )
        self.skipped: dict[str, str] = dict(self.cache.skipped)
        reports = [self._read_report(studies[k]) if with_reports else [] for k in self.cache.kept]
        usable = [row for row, report in enumerate(reports) if report or not with_reports]
        self.rows = np.array(usable, dtype=np.int64)
        self.reports: list[list[Sentence]] = [reports[row] for row in usable]
        self.studies: list[Study] = [studies[self.cache.kept[row]] for row in usable]
        numbers = {patient: i for i, patient in enumerate(dict.fromkeys(s.patient_id for s in self.studies))}
        self.patients = tuple(numbers[study.patient_id] for study in self.studies)
        self._tell_skipped(len(studies), manifest)

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self) -> list[str]:
        """Return every sentence that training can meet once, sorted: what a frozen text encoder can do beforehand."""
        own = {sentence.text for report in self.reports for sentence in report}
        found = own | {flip for flip in map(_flip, own) if flip is not None}
        if self.cfg.mirror:
            found |= {other for other in map(mirrored, found) if other is not None}
        return sorted(found)

    def batch(self, members: np.ndarray, rng: np.random.Generator) -> PairBatch:
        """Return chosen studies with at most `sentences_per_image` sentences each, drawn by `rng`."""
        rows = self.rows[members]
        drawn = [self._draw(self.reports[member], rng) for member in members]
        chosen = [sentence for report in drawn for sentence in report]
        owner = np.repeat(np.arange(len(members)), [len(report) for report in drawn])
        images, valid = self.cache.serve(rows, rng)
        return PairBatch(
            images=images,
            valid_px=valid,
            sentences=[sentence.text for sentence in chosen],
            owner=torch.from_numpy(owner),
            flips=[_flip(sentence.text) for sentence in chosen],
            states=[sentence.state for sentence in chosen],
            normal=[sentence.normal for sentence in chosen],
            reports=[self.reports[member] for member in members],
        )

    def _draw(self, report: list[Sentence], rng: np.random.Generator) -> list[Sentence]:
        if len(report) <= self.cfg.sentences_per_image:
            return report
        picked = rng.choice(len(report), self.cfg.sentences_per_image, replace=False)
        return [report[i] for i in sorted(picked)]

    def _read_report(self, study: Study) -> list[Sentence]:
        """Return the distinct sentences of a report; none, with the reason noted, when there are none to read."""
        try:
            found = sentences(study.report.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            self.skipped[study.study_id] = f"report: {type(error).__name__}"
            return []
        if not found:
            self.skipped[study.study_id] = "report: no sentence"
        return list({sentence.text: sentence for sentence in found}.values())

    def _tell_skipped(self, asked: int, manifest: Path) -> None:
        """Warn about studies left out and list them beside the cache; stop when there are too many."""
        if not self.skipped:
            return
        summary = few([f"{study} ({why})" for study, why in self.skipped.items()])
        message = f"{len(self.skipped)} of {asked} studies of '{self.split}' cannot be read: {summary}"
        if len(self.skipped) > MAX_UNREADABLE * asked:
            raise DataError(
                message, where=str(manifest), fix="repair these files, or leave them out of the manifest"
            )
        listing = self.cache.folder / "skipped.json"
        listing.write_text(json.dumps(self.skipped, indent=1))
        warnings.warn(f"{message}; training goes on without them (list: {listing})", stacklevel=3)


def batch_at(dataset: PairDataset, batch_size: int, seed: int, step: int) -> PairBatch:
    """Return the batch of one step (from 0): every epoch is a new order, its incomplete end left out.

    Raises:
        DataError: Fewer studies than the batch size.
    """
    per_epoch = len(dataset) // batch_size
    if per_epoch == 0:
        raise DataError(
            f"split '{dataset.split}' has {len(dataset)} usable studies, fewer than the batch size {batch_size}",
            fix=f"set train.batch_size={max(2, len(dataset))} or add studies",
        )
    epoch, position = divmod(step, per_epoch)
    order = _permutation(dataset.patients, dataset.cfg.together, seed, epoch)
    members = order[position * batch_size : (position + 1) * batch_size]
    return dataset.batch(members, np.random.default_rng((seed, 1, step)))


def batches(dataset: PairDataset, batch_size: int, seed: int, step: int) -> Iterator[PairBatch]:
    """Yield the batches from a step on, without end."""
    while True:
        yield batch_at(dataset, batch_size, seed, step)
        step += 1


def fixed_batches(dataset: PairDataset, batch_size: int) -> Iterator[PairBatch]:
    """Yield a whole split once, in order, always with the same sentences: for validation losses."""
    for start in range(
        0, len(dataset) - 1, batch_size
    ):  # a last single study would have nothing to contrast with
        members = np.arange(start, min(start + batch_size, len(dataset)))
        yield dataset.batch(members, np.random.default_rng((0, 2, start)))


@dataclass(frozen=True, slots=True)
class FixedBatches:
    """`fixed_batches` made anew at every pass: a validation split of volumes does not fit into memory."""

    dataset: PairDataset
    batch_size: int

    def __iter__(self) -> Iterator[PairBatch]:
        """Go through the split once."""
        return fixed_batches(self.dataset, self.batch_size)


@lru_cache(maxsize=4)
def _permutation(patients: tuple[int, ...], together: int, seed: int, epoch: int) -> np.ndarray:
    """Return a new order of all studies in which up to `together` studies of one patient follow each other.

    Args:
        patients: (N,) number of each study's patient.
        together: 1 gives a plain permutation.
        seed: Seed of the run.
        epoch: Every epoch has an order of its own.
    """
    rng = np.random.default_rng((seed, 0, epoch))
    shuffled = rng.permutation(len(patients))
    if together == 1:
        return shuffled
    owners = np.array(patients)[shuffled]
    by_patient = shuffled[np.argsort(owners, kind="stable")]
    _, starts = np.unique(np.sort(owners), return_index=True)
    blocks = [
        block
        for studies in np.split(by_patient, starts[1:])
        for block in np.split(studies, range(together, len(studies), together))
    ]
    return np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])


@cache
def _flip(text: str) -> str | None:
    return flip_polarity(text)
