"""What results take over from their source images: an allow-list of elements, checked one by one, nothing else.

A result belongs to the patient, the study and the place of its source, so these are copied; no comments, no operators,
no institution, no private elements. With an alias the patient is replaced and dates and numbers of the study are empty:
UIDs stay, because without them the result would lie on no image.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalIntraOralXRayImageStorageForPresentation,
    DigitalIntraOralXRayImageStorageForProcessing,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import DA, TM

from glint.errors import DataError, UsageError
from glint.io.dicom_file import is_dicom, quiet, read_dataset
from glint.io.dicom_stack import stack
from glint.io.phi import alias
from glint.io.radiograph import radiograph_source
from glint.io.sources import Source
from glint.io.volume_dicom import choose_scan

PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
PLACE = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient")
IMAGE = (
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "InstanceNumber",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "PatientOrientation",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "BurnedInAnnotation",
    # What the presentation state repeats:
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsStored",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
)
TABLES = ("ModalityLUTSequence", "VOILUTSequence")
"""Look-up tables, which the presentation state repeats, without their explanations: those are free text."""
LUT_TYPES = ("OD", "HU", "US")
REQUIRED = (*PATIENT[:2], *PATIENT[3:], *STUDY)
"""Elements that every result has; empty when the source does not say (type 2 of the standard)."""
UTF8 = "ISO_IR 192"
KINDS = frozenset(
    (
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        DigitalMammographyXRayImageStorageForPresentation,
        DigitalMammographyXRayImageStorageForProcessing,
        DigitalIntraOralXRayImageStorageForPresentation,
        DigitalIntraOralXRayImageStorageForProcessing,
        SecondaryCaptureImageStorage,
        CTImageStorage,
    )
)
"""Images with one frame a file."""


def read_header(path: Path, *, series: str = "", deidentify: bool = False) -> Dataset:
    """Return the header of one radiograph, as `allowed` does.

    Args:
        path: As given to `glint.io.radiograph.read_radiograph`.
        series: As given to `read_radiograph`.
        deidentify: See `allowed`.

    Raises:
        DataError: Not a whole DICOM file, or without the UIDs that a result refers to.
        UsageError: Not DICOM.
    """
    source, _ = radiograph_source(path, series)
    if not is_dicom(source):
        raise no_dicom(source.shown)
    with quiet():
        return allowed(_read(source), source.shown, deidentify=deidentify)


def no_dicom(where: str) -> UsageError:
    """Return the error for images that belong to no study."""
    return UsageError(
        "results can be written as DICOM for DICOM images only: they belong to a patient and a study",
        where=where,
        fix="leave out --dicom-out, or name the DICOM file",
    )


def read_series_headers(folder: Path, *, series: str = "", deidentify: bool = False) -> list[Dataset]:
    """Return the headers of one CT series in the order of the first axis of `glint.io.volume.read_volume`.

    Args:
        folder: As given to `read_volume`.
        series: As given to `read_volume`.
        deidentify: See `allowed`.

    Raises:
        DataError: As `read_volume`; also for a series with gaps, whose interpolated slices have no source.
        UsageError: Not DICOM.
    """
    where = str(folder)
    with quiet():
        chosen = choose_scan(folder, series)[0]
        if chosen.kind != "CT":
            raise no_dicom(where)
        ordered = stack(chosen, where, fill_gaps=False)
        if any(item.frame is not None for item in ordered.slices):
            raise DataError("results for multi-frame CT are not written", where=where)
        headers = [
            allowed(_read(item.source), item.source.shown, deidentify=deidentify) for item in ordered.slices
        ]
    _check_one_frame(headers, where)
    for header in headers:
        # Directions of one series differ in their last digits; the reader takes those of the first slice, too.
        header.ImageOrientationPatient = headers[0].ImageOrientationPatient
        if "SliceThickness" not in header:
            header.SliceThickness = f"{slice_step_mm(headers):.9g}"
    return headers


def allowed(data: Dataset, where: str, *, deidentify: bool = False) -> Dataset:
    """Return a new data set with the elements that a result may take over.

    Args:
        data: Header of a source image.
        where: File or study, for messages.
        deidentify: Write the alias of the study (glint.io.phi) for the patient, and leave dates and numbers empty.

    Raises:
        DataError: A UID is missing or malformed.
    """
    header = Dataset()
    header.SpecificCharacterSet = UTF8
    for name in UIDS:
        value = UID(str(data.get(name) or ""))
        if not value.is_valid:
            raise DataError(
                f"the DICOM image has no valid {name}: a result cannot refer to it",
                where=where,
                fix="export the image again from the archive",
            )
        setattr(header, name, value)
    if header.SOPClassUID not in KINDS:
        raise DataError(
            "results cannot be written for this kind of DICOM image",
            where=where,
            expected="CR, DX, mammography, intra-oral, secondary capture or CT, one frame a file",
        )
    for name in REQUIRED:
        setattr(header, name, "")
    _copy(data, header, IMAGE if deidentify else (*PATIENT, *STUDY, *IMAGE))
    if deidentify:
        name = alias(str(header.StudyInstanceUID))
        # The caret says that this is a whole name, of one part.
        header.PatientName, header.PatientID = f"{name}^", name
    _copy_tables(data, header)
    # A frame of reference without a position (many DX images) places nothing.
    if data.get("ImagePositionPatient") and data.get("ImageOrientationPatient"):
        _copy(data, header, PLACE)
    return header


def spacing_mm(header: Dataset) -> tuple[float, float] | None:
    """Return the pixel size (y, x), or None when the source does not say."""
    size = header.get("PixelSpacing") or header.get("ImagerPixelSpacing")
    return (float(size[0]), float(size[1])) if size else None


def _check_one_frame(headers: Sequence[Dataset], where: str) -> None:
    """Refuse slices that do not say, or not alike, in which study and frame of reference they are."""
    for name in ("FrameOfReferenceUID", "StudyInstanceUID"):
        if len({str(header.get(name, "")) for header in headers}) != 1 or not headers[0].get(name):
            raise DataError(
                f"the slices of the series do not have one {name}: a result would have no place",
                where=where,
                fix="export the series again from the archive",
            )


def slice_step_mm(headers: Sequence[Dataset]) -> float:
    """Return the distance of neighbouring planes along their normal: voxel volume = pixel size x this."""
    turn = np.array(headers[0].ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
    first, last = (np.array(headers[n].ImagePositionPatient, dtype=np.float64) for n in (0, -1))
    return abs(float((last - first) @ np.cross(turn[0], turn[1]))) / (len(headers) - 1)


def _read(source: Source) -> Dataset:
    return read_dataset(source, (*PATIENT, *STUDY, *UIDS, *PLACE, *IMAGE, *TABLES, "SpecificCharacterSet"))


def _copy(data: Dataset, header: Dataset, names: Sequence[str]) -> None:
    """Copy the elements that are well formed: a broken one must not make the result broken, too."""
    for name in names:
        try:
            value = data.get(name)
            if value is None or not _sound(name, value):
                continue
            # Text is decoded here, because the result has a character set of its own.
            setattr(header, name, str(value) if isinstance(value, str) or name.endswith("Name") else value)
        except Exception:  # noqa: BLE001, S112 - pydicom parses late, and raises anything on damaged elements
            continue


def _copy_tables(data: Dataset, header: Dataset) -> None:
    """Copy look-up tables that are whole, as a presentation state may have them: with 8 or 16 bits."""
    if getattr(data, "original_encoding", (None, True))[1] is False:
        return  # big endian: entries would have to be swapped
    for name in TABLES:
        with suppress(Exception):  # pydicom parses late, and raises anything on damaged elements
            tables = [_table(item, name) for item in data.get(name) or ()]
            if tables:
                setattr(header, name, tables)


def _table(item: Dataset, name: str) -> Dataset:
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    # Whether the first value is signed stands in the VR alone.
    descriptor, entries = item["LUTDescriptor"], item["LUTData"]
    table = Dataset()
    if bits in (8, 16):
        table.add(descriptor)
        table.add(entries)
    else:
        packed = isinstance(entries.value, bytes)
        values = np.frombuffer(entries.value, "<u2") if packed else np.array(entries.value, dtype="<u2")
        if name == "VOILUTSequence":  # its output counts as a share of all that the bits could hold
            values = np.minimum(np.rint(values * (65535 / (2**bits - 1))), 65535).astype("<u2")
        table.add_new("LUTDescriptor", descriptor.VR, [count, first, 16])
        table.add_new("LUTData", "OW", values.tobytes())
    if name == "ModalityLUTSequence":
        kind = str(item.get("ModalityLUTType"))
        table.ModalityLUTType = kind if kind in LUT_TYPES else "US"
    return table


def _sound(name: str, value: object) -> bool:
    """Say whether a value is one that may be written."""
    text = str(value)
    if name == "PatientSex":
        return text in ("M", "F", "O", "")
    if name.endswith("Date"):
        return not text or DA(text) is not None
    if name.endswith("Time"):
        return not text or TM(text) is not None
    if name.endswith("PixelSpacing"):
        return len(value) == 2 and all(0 < float(part) < 100 for part in value)  # type: ignore[arg-type, attr-defined]
    if name in ("SliceThickness", "SpacingBetweenSlices"):
        return 0 < float(text) < 100
    return bool(text)
