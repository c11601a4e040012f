"""A secondary capture: the overlay picture as an image, for viewers that show neither segmentations nor reports."""

from collections.abc import Sequence

import numpy as np
from highdicom import sc
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from glint.io.dicom_out.findings import Finding
from glint.io.dicom_out.stamp import Stamp

SERIES_NUMBER = 9004


def capture(
    header: Dataset,
    picture: Image.Image,
    findings: Sequence[Finding],
    stamp: Stamp,
    *,
    parts: Sequence[str] = (),
) -> sc.SCImage:
    """Return a picture as a colour image of the study.

    Args:
        header: Header of a source image.
        picture: RGB; see glint.io.picture.overlay.
        findings: What it shows.
        stamp: Who answered.
        parts: Further settings that make another result, see `Stamp.uid`.
    """
    written = sc.SCImage.from_ref_dataset(
        header,
        pixel_array=np.asarray(picture.convert("RGB")),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # demanded here, taken back below
        transfer_syntax_uid=RLELossless,
        **stamp.series("SC", [header], [*parts, *(finding.query for finding in findings)], SERIES_NUMBER),
    )
    # Several panels side by side: the picture as a whole has no direction in the patient.
    written["PatientOrientation"].value = ""
    written.Laterality = ""
    written.DerivationDescription = "Overlay of GLINT; not for diagnosis"
    if "BurnedInAnnotation" in header:  # the picture shows what the radiograph shows
        written.BurnedInAnnotation = header.BurnedInAnnotation
    return written
