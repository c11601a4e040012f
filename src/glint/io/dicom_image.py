"""One radiograph from a DICOM file: stored values -> modality LUT -> VOI LUT -> polarity, in this order.

MONOCHROME1 (low = bright) is turned after the VOI LUT, which is defined on values as they are stored.
Header values never enter messages, but for modality, photometric interpretation and sizes.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from glint.errors import DataError
from glint.io.codecs import decode
from glint.io.damage import Refusing
from glint.io.dicom_file import quiet, read_dataset
from glint.io.limits import check_shape
from glint.io.radiograph import Stored
from glint.io.raster import grey
from glint.io.sources import Source

VOLUME_MODALITIES = {"CT": "CT", "MR": "MR", "PT": "PET", "NM": "nuclear medicine"}
PROJECTIONS = {"CR", "DX", "DR", "RG", "RF", "XR", "PX", "IO", "MG", "XA", "SC", "OT", ""}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def read_dicom(source: Source) -> Stored:
    """Read one single-frame radiograph.

    Raises:
        DataError: No radiograph, a volume, a colour picture, damaged, cut short or too large.
    """
    where = source.shown
    with quiet():
        data = read_dataset(source)
        syntax = str(data.file_meta.get("TransferSyntaxUID", ""))
        with Refusing("the DICOM header is damaged", where, fix="export the file again"):
            _check_header(data, where)
        with Refusing(
            "the pixels of the DICOM file cannot be decoded: the file is damaged, cut short, or of a kind that "
            "GLINT cannot decode",
            where,
            expected=f"whole pixel data of transfer syntax {syntax or 'given in the header'}",
            fix="copy the file again, or convert it to an uncompressed one",
        ):
            stored = decode(data, syntax)
        with Refusing(
            "the DICOM header or a look-up table in it is damaged", where, fix="export the file again"
        ):
            return _interpret(data, stored, where)


def _check_header(data: Dataset, where: str) -> None:
    """Refuse what is not one radiograph, before its pixels are decoded."""
    modality = str(data.get("Modality") or "")
    if "PixelData" not in data:
        raise DataError(
            "the DICOM file is cut short: its pixels are missing"
            if "Rows" in data and "FloatPixelData" not in data
            else "the DICOM file holds no image",
            where=where,
            expected="a radiograph (CR, DX ...)",
            fix="copy the file again, or name the file that holds the image",
        )
    if modality in VOLUME_MODALITIES or _frames(data) > 1:
        kind = VOLUME_MODALITIES.get(modality, "multi-frame")
        raise DataError(
            f"3D volume given to a 2D model ({kind} image)",
            where=where,
            expected="one radiograph (CR, DX ...)",
        )
    if modality not in PROJECTIONS:
        raise DataError(
            "the DICOM file is not a radiograph"
            + (f": its modality is {modality}" if modality.isalnum() else ""),
            where=where,
            expected="modality CR, DX or alike",
        )
    if data.get("SamplesPerPixel") not in (1, 3) or not (data.get("Rows") and data.get("Columns")):
        raise DataError(
            "the DICOM header does not say the size of the image", where=where, fix="export it again"
        )
    check_shape(int(data.Rows), int(data.Columns), where)


def _frames(data: Dataset) -> int:
    try:
        return int(data.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        return 1


def _interpret(data: Dataset, stored: NDArray[np.generic], where: str) -> Stored:
    """Turn stored values into brightness, bright = dense."""
    photometric = str(data.get("PhotometricInterpretation", ""))
    spacing, notes = _spacing(data)
    notes += _burned_in(data)
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, data)[..., :3]
    if stored.ndim == 3:
        bits = 8 * stored.itemsize if photometric == "PALETTE COLOR" else int(data.BitsStored)
        top = 2.0**bits - 1
        return Stored(grey(stored.astype(np.float32) / np.float32(top), where), None, spacing, notes)
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(
            "the DICOM file holds a colour picture, not a radiograph",
            where=where,
            expected="MONOCHROME1 or MONOCHROME2",
        )
    values = apply_modality_lut(stored, data)
    if "VOILUTSequence" in data or str(data.get("VOILUTFunction", "")) == "SIGMOID":
        values = apply_voi_lut(values, data, prefer_lut=True)
    values, turned, more = _unprocessed(data, values.astype(np.float32), photometric == "MONOCHROME1")
    return Stored(-values if turned else values, _padding(data, stored), spacing, notes + more)


def _unprocessed(
    data: Dataset, values: NDArray[np.float32], turned: bool
) -> tuple[NDArray[np.float32], bool, tuple[str, ...]]:
    """Bring FOR PROCESSING values, straight from the detector, near to what FOR PRESENTATION ones are.

    Returns:
        Values, whether they must be turned over, and notes.
    """
    if str(data.get("PresentationIntentType", "")) != "FOR PROCESSING":
        return values, turned, ()
    notes = ("the picture is FOR PROCESSING: the grey scale of the maker's display is not in it",)
    if str(data.get("PixelIntensityRelationship", "")) == "LIN":
        # Intensity falls exponentially with what lies in the beam.
        values = np.log1p(np.maximum(values, 0))
        notes += ("linear detector values: their logarithm was taken",)
    sign = data.get("PixelIntensityRelationshipSign")
    # 1: less beam, lower value. This is physics; how such a picture would be displayed is often left at a default.
    return values, turned if sign not in (1, -1) else sign == 1, notes


def _burned_in(data: Dataset) -> tuple[str, ...]:
    """Warn of text in the picture, which may name the patient."""
    said = str(data.get("BurnedInAnnotation", "")).upper()
    kinds = [str(part).upper() for part in data.get("ImageType") or ()]
    if said == "YES":
        return ("text is burned into the picture, and may name the patient: overlays show it, too",)
    captured = "SECONDARY" in kinds or str(data.get("SOPClassUID", "")).startswith(SECONDARY_CAPTURE)
    if captured and said != "NO":
        return ("a secondary capture that does not say whether text is burned in: it may name the patient",)
    return ()


def _padding(data: Dataset, stored: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """Return where the detector saw nothing, or None."""
    first = data.get("PixelPaddingValue")
    if first is None:
        return None
    last = data.get("PixelPaddingRangeLimit", first)
    low, high = sorted((int(first), int(last)))
    padding: NDArray[np.bool_] = (stored >= np.array(low)) & (stored <= np.array(high))
    return padding if padding.any() else None


def _spacing(data: Dataset) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Return the pixel size (y, x) in mm at the detector, with a note when the file does not say."""
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        try:
            y, x = (float(value) for value in data.get(name) or ())
        except (TypeError, ValueError):
            continue
        if 0 < y < 100 and 0 < x < 100:
            return (y, x), ()
    return None, ("the file does not say its pixel size",)
