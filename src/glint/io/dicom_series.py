"""Which files belong together: images of a folder or an archive found, listed without patient data, chosen from."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage

from glint.errors import DataError
from glint.io.damage import Refusing
from glint.io.dicom_file import is_dicom, read_dataset
from glint.io.dicom_frames import has_frame_geometry, plane_of, planes_of_frames
from glint.io.limits import MIN_VOLUME_SIDE
from glint.io.phi import alias
from glint.io.sources import Source, unpacked_head

CAPTURES = {"SC", "OT", "unknown"}
RADIOGRAPHS = {"CR", "DX", "DR", "RG", "RF", "XR", "PX", "IO", "MG", "XA"} | CAPTURES
VOLUME_FILES = {"NIfTI", "NRRD"}
PICTURES = {"PNG", "JPEG"}
MAX_LISTED = 40
DAMAGED_HEAD_BYTES = 1 << 16
TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True, slots=True)
class Slice:
    """The header of one image: a file, or a frame of one.

    Attributes:
        source: The file.
        frame: Index of the frame in a multi-frame file, or None.
        instance: SOPInstanceUID.
        size: (rows, columns).
        position: (3,) LPS mm of the first pixel, or None when the file does not say.
        axes: (2, 3) unit vectors of growing column and row index, or None.
        spacing_mm: (between rows, between columns), or None.
    """

    source: Source
    frame: int | None
    instance: str
    size: tuple[int, int]
    position: NDArray[np.float64] | None = None
    axes: NDArray[np.float64] | None = None
    spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """Images that belong together: slices with one SeriesInstanceUID, one radiograph, or one file of another format.

    Attributes:
        number: Its number in the list, 1 for the one with most slices.
        uid: SeriesInstanceUID, or "".
        alias: Names it for people who know nothing else of it (glint.io.phi).
        study: Alias of the study, or "".
        kind: "CT", another modality, "CT localizer", "CT multi-frame", "NIfTI", "PNG" ...
        slices: In the order of file names.
    """

    number: int
    uid: str
    alias: str
    study: str
    kind: str
    slices: tuple[Slice, ...]

    @property
    def is_scan(self) -> bool:
        """Whether it could be a CT volume."""
        return self.kind in VOLUME_FILES or (self.kind == "CT" and len(self.slices) >= MIN_VOLUME_SIDE)

    @property
    def is_radiograph(self) -> bool:
        """Whether it could be a radiograph."""
        return self.kind in RADIOGRAPHS | PICTURES

    @property
    def is_capture(self) -> bool:
        """Whether it is as likely a dose sheet or a screenshot as a radiograph."""
        return self.kind in CAPTURES

    def describe(self) -> str:
        """Return number, alias, kind and size: nothing that could tell of a patient."""
        rows, columns = self.slices[0].size
        start = f"{self.number} ({self.alias}): {self.kind}"
        if not rows:
            return start + " file"
        return (
            start
            + (f", {len(self.slices)} slices of" if len(self.slices) > 1 else ",")
            + f" {columns} x {rows}"
        )


@dataclass(frozen=True, slots=True)
class Damaged:
    """A DICOM file that cannot be read, and why."""

    source: Source
    error: DataError

    def names(self, uid: str) -> bool:
        """Say whether its first bytes hold the UID of a series, whole."""
        whole = rb"(?<![0-9.])" + re.escape(uid.encode()) + rb"(?![0-9.])"
        return bool(uid) and re.search(whole, self.source.head(DAMAGED_HEAD_BYTES)) is not None


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder or an archive holds.

    Attributes:
        series: Longest first.
        others: Number of files that are no images.
        damaged: DICOM files that cannot be read; they are in no series.
    """

    series: tuple[Series, ...]
    others: int
    damaged: tuple[Damaged, ...]

    def lost(self, chosen: Series) -> list[Damaged]:
        """Return the damaged files that may be slices of a series: those of others name those in their first bytes."""
        others = [one.uid for one in self.series if one.uid != chosen.uid]
        return [
            file
            for file in self.damaged
            if file.names(chosen.uid) or not any(file.names(uid) for uid in others)
        ]

    def notes(self) -> tuple[str, ...]:
        """Return what a reader should know of files that are left out."""
        notes = (f"{self.others} files are no images",) if self.others else ()
        if not self.damaged:
            return notes
        first = self.damaged[0].source.shown
        return (*notes, f"{len(self.damaged)} damaged DICOM files were left out, e.g. {first}")


def find_series(files: Sequence[Source]) -> Found:
    """Read the headers of all files; call it inside `quiet`. A damaged one takes none of the others along."""
    groups: dict[tuple[str, ...], list[Slice]] = defaultdict(list)
    others = 0
    damaged: list[Damaged] = []
    for source in files:
        if source.size and is_dicom(source):
            try:
                found = list(_images(source))
            except DataError as error:
                damaged.append(Damaged(source, error))
                continue
        else:
            found = (
                [((kind, source.shown), Slice(source, None, "", (0, 0)))] if (kind := _format(source)) else []
            )
        for key, item in found:
            groups[key].append(item)
        others += not found
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    series = tuple(_series(n, key, tuple(slices)) for n, (key, slices) in enumerate(ordered, 1))
    return Found(series, others, tuple(damaged))


def choose(found: Found, wanted: str, where: str, what: str, usable: Callable[[Series], bool]) -> Series:
    """Return the series that was asked for, or the only usable one.

    Args:
        found: All there is.
        wanted: Number, alias or UID of one, or "".
        where: For messages.
        what: What is looked for, e.g. "CT series".
        usable: Says whether a series is such.

    Raises:
        DataError: None, several, or not the one that was asked for; the message lists them.
    """
    there = listed(found.series)
    if wanted:
        match = [
            series for series in found.series if wanted in (str(series.number), series.alias, series.uid)
        ]
        if len(match) == 1 and usable(match[0]):
            return match[0]
        raise DataError(
            "there is no such series" if not match else f"this series is no {what}",
            where=where,
            expected=f"one of: {there}" if there else "",
        )
    candidates = [series for series in found.series if usable(series)]
    if not candidates and found.damaged:
        raise found.damaged[0].error
    if not candidates:
        raise DataError(
            f"there is no {what}" if found.series else "there are no images",
            where=where,
            expected="a radiograph, or CT slices of one series",
            fix=f"there are: {there}" if there else "name the folder with the images",
        )
    if len(candidates) > 1:
        raise DataError(
            f"there are {len(candidates)} {what}s"
            if not what.endswith("s")
            else f"there are {len(candidates)} {what}",
            where=where,
            expected=f"one of: {there}",
            fix=f"choose one by its number or alias: --series {candidates[0].number}"
            f' (in Python: series="{candidates[0].number}")',
        )
    return candidates[0]


def listed(found: Sequence[Series]) -> str:
    """Return all there is in one line, as messages show it."""
    shown = [series.describe() for series in found[:MAX_LISTED]]
    return "; ".join(shown + ["..."] * (len(found) > MAX_LISTED))


def _images(source: Source) -> Iterator[tuple[tuple[str, ...], Slice]]:
    """Yield the images of a DICOM file, each with what its series has in common; a report or a plan has none."""
    header = read_dataset(source, TAGS)
    with Refusing("a DICOM file is damaged or cut short", source.shown, fix="copy it again, or remove it"):
        if not (header.get("Rows") and header.get("Columns")):
            if _is_cut(header):
                raise ValueError("no image")
            return
        kind, instance = _kind(header), str(header.get("SOPInstanceUID", ""))
        key = (kind, str(header.get("SeriesInstanceUID", "")), str(header.get("StudyInstanceUID", "")))
        if kind in RADIOGRAPHS:
            # The images of such a series are views, not slices.
            key += (instance or source.shown,)
        size = int(header.Rows), int(header.Columns)
        if has_frame_geometry(header):
            for n, plane in enumerate(planes_of_frames(header)):
                yield key, Slice(source, n, instance, size, *plane)
        else:
            yield key, Slice(source, None, instance, size, *plane_of(header, header, header))


def _series(number: int, key: tuple[str, ...], slices: tuple[Slice, ...]) -> Series:
    kind, uid, *more = key
    study, instance = (*more, "", "")[:2]
    is_file = kind in VOLUME_FILES | PICTURES
    name = alias(instance or uid, "image" if is_file or instance else "series")
    return Series(
        number, "" if is_file else instance or uid, name, alias(study, "study") if study else "", kind, slices
    )


def _format(source: Source) -> str:
    """Return the format of a file that is not DICOM, or ""."""
    head = source.head(352)
    for name, magic in (("PNG", b"\x89PNG\r\n\x1a\n"), ("JPEG", b"\xff\xd8\xff"), ("NRRD", b"NRRD")):
        if head.startswith(magic):
            return name
    if head.startswith(b"\x1f\x8b"):
        try:
            head = unpacked_head(source, 352)
        except DataError:
            return ""
    return "NIfTI" if head[344:347] in (b"n+1", b"ni1") or head[4:7] in (b"n+2", b"ni2") else ""


def _is_cut(header: FileDataset) -> bool:
    """Say whether a file without an image should have one; reports, plans and directories need not."""
    meaning = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    return not meaning or meaning == CTImageStorage


def _kind(header: Dataset) -> str:
    modality = str(header.get("Modality") or "")
    kind = modality if modality.isalnum() and len(modality) <= 4 else "unknown"
    if str(header.get("NumberOfFrames") or 1) != "1" and not (kind == "CT" and has_frame_geometry(header)):
        return f"{kind} multi-frame"
    is_localizer = "LOCALIZER" in [str(part).upper() for part in header.get("ImageType") or ()]
    return f"{kind} localizer" if is_localizer else kind
