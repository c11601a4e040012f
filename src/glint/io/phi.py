"""Patients stay unknown: aliases for messages and lists, and data sets for outputs without what identifies.

An alias is a keyed hash (HMAC-SHA256, 40 bits) of a UID. The key is made once for an installation and lies in
$GLINT_HOME/alias.key, readable by its owner only. So the same study has the same alias in every log of an
installation, and nobody without the key can find the study: UIDs are known to everybody who can list the archive,
and a hash without a key could be looked up.
"""

import hashlib
import hmac
import os
import secrets
from functools import cache
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

KEY_BYTES = 32
DIGITS = 10
NUMBERS = {"AT", "DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"}
KEPT_VR = NUMBERS | {"CS", "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UI"}
KEPT_TEXT = {
    "CodeValue",
    "CodingSchemeDesignator",
    "CodingSchemeVersion",
    "CodeMeaning",
    "LongCodeValue",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "SegmentLabel",
    "SegmentAlgorithmName",
    "AlgorithmName",
    "AlgorithmVersion",
    "LUTExplanation",
    "LossyImageCompressionRatio",
}
"""Text that says how an image or a result was made, and never of whom."""
DROPPED = {
    "PatientSex",
    "PatientSize",
    "PatientWeight",
    "PregnancyStatus",
    "SmokingStatus",
    "IconImageSequence",
    "EncapsulatedDocument",
    "OriginalAttributesSequence",
    "ReferencedPatientSequence",
    "RequestAttributesSequence",
    "EncryptedAttributesSequence",
    "DigitalSignaturesSequence",
    "MACParametersSequence",
}
"""Elements of kinds that are kept, which tell of the patient all the same."""
EMPTIED = (
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
)
"""Elements that DICOM wants to be present in every object, be they empty."""


def alias(uid: str, what: str = "study", *, digits: int = DIGITS) -> str:
    """Return a name for a study, a series or an image that tells nothing, e.g. "study-3f9a2c1b7d".

    Args:
        uid: StudyInstanceUID or alike; any text.
        what: First word of the alias.
        digits: Hexadecimal digits, where DIGITS are not enough: among a million studies, two would share an alias.
    """
    return f"{what}-{hmac.new(installation_key(), uid.encode(), hashlib.sha256).hexdigest()[:digits]}"


_given: list[bytes] = []


def use_key(key: bytes) -> None:
    """Use the key of another process: a child cannot make or read one of its own."""
    _given[:] = [key]


def installation_key() -> bytes:
    """Return the key of the installation, or the one that was given."""
    return _given[0] if _given else _stored_key()


@cache
def _stored_key() -> bytes:
    """Return the key of the installation, made at first use; one of this process where it cannot be kept."""
    path = Path(os.environ.get("GLINT_HOME") or Path.home() / ".cache" / "glint") / "alias.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES))
    except OSError:  # it is there already, or the folder cannot be written
        pass
    try:
        key = path.read_bytes()
    except OSError:
        key = b""
    return key if len(key) == KEY_BYTES else secrets.token_bytes(KEY_BYTES)


def deidentify(data: Dataset) -> None:
    """Take out of a data set, in place, all that may identify, for outputs that leave the hospital.

    What is kept is listed above (numbers, codes, UIDs, names of software), everything else goes: names, dates, free
    text, private elements, overlays. UIDs are replaced by ones made of the installation's key, the same for the same
    UID, so that outputs still refer to each other. PatientID becomes the alias of the old one. Pixels are not touched:
    text that is burned into them stays.

    Args:
        data: Any data set; its file meta is brought in line.
    """
    patient = alias(str(data.get("PatientID", "")) or "unknown", "patient")
    _clean(data)
    for name in EMPTIED:
        setattr(data, name, "")
    data.PatientID = patient
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = "GLINT: allow-list of elements, new UIDs"
    meta = getattr(data, "file_meta", None)
    if meta is not None and "SOPInstanceUID" in data:
        meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID


def new_uid(uid: str) -> str:
    """Return the UID that stands for another one in de-identified outputs: 2.25 and 127 bits of its keyed hash."""
    number = int.from_bytes(hmac.new(installation_key(), uid.encode(), hashlib.sha256).digest()[:16], "big")
    return f"2.25.{number >> 1}"


def _clean(data: Dataset) -> None:
    for element in list(data):
        keyword = element.keyword
        keep = element.VR in KEPT_VR or keyword in KEPT_TEXT
        # Groups 60xx are overlays: drawn or typed on the image.
        if element.tag.is_private or not keep or keyword in DROPPED or element.tag.group >> 8 == 0x60:
            del data[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                _clean(item)
        elif element.VR == "UI":
            values = [element.value] if isinstance(element.value, str) else list(element.value or ())
            # UIDs that DICOM itself gives out name classes and codings, not objects.
            fresh = [
                value if UID(value).is_valid and UID(value).name != value else new_uid(value)
                for value in values
            ]
            element.value = fresh[0] if len(fresh) == 1 else fresh
