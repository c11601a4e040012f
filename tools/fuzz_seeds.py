"""Whole files that tools/fuzz_files.py damages: test files of pydicom and nibabel, and small ones of our own."""

import gzip
import importlib.util
import io
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID

MAX_SEED_BYTES = 200_000
CR, CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
RAW, DEFLATED, RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
CODECS = {
    "4.70": imagecodecs.ljpeg_encode,
    "4.80": imagecodecs.jpegls_encode,
    "4.90": lambda x: imagecodecs.jpeg2k_encode(x, level=0, codecformat="j2k", reversible=True),
    "4.201": lambda x: imagecodecs.htj2k_encode(x),
}


def package(name: str, *parts: str) -> Path | None:
    """Return a folder inside of an installed package."""
    spec = importlib.util.find_spec(name)
    return None if spec is None or not spec.origin else Path(spec.origin).parent.joinpath(*parts)


def seeds() -> dict[str, bytes]:
    """Return name -> bytes of every seed; always the same, in the same order."""
    found: dict[str, bytes] = {}
    for folder in (package("pydicom", "data", "test_files"), package("nibabel", "tests", "data")):
        for path in sorted(folder.iterdir()) if folder and folder.is_dir() else ():
            wanted = path.suffix in (".dcm", ".nii", ".gz", ".hdr") or "dicom" in path.name.lower()
            if wanted and path.is_file() and 100 < path.stat().st_size <= MAX_SEED_BYTES:
                found[path.name] = path.read_bytes()
    return found | radiographs() | volumes()


def picture() -> NDArray[np.uint16]:
    """A smooth 12-bit picture with noise, (64, 56)."""
    rows, columns = np.mgrid[:64, :56]
    smooth = 1800 + 1200 * np.sin(rows / 17) * np.cos(columns / 13) + 5 * rows
    return np.clip(smooth + np.random.default_rng(0).normal(0, 40, smooth.shape), 0, 4095).astype(np.uint16)


def scan() -> NDArray[np.int16]:
    """A body with two lungs in HU, (12, 20, 24)."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, side) for side in (12, 20, 24)], indexing="ij")
    noise = np.random.default_rng(0).normal(0, 15, z.shape)
    hu = np.where(x**2 / 0.8 + y**2 / 0.6 < 1, 40, -1000) + noise
    for side in (-0.45, 0.45):
        hu = np.where((x - side) ** 2 / 0.09 + y**2 / 0.25 + z**2 / 0.8 < 1, -850 + noise, hu)
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def dicom(stored: NDArray[Any], sop_class: str = CR, syntax: str = RAW, **tags: Any) -> FileDataset:
    """Return a data set with one grey image."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = UID(sop_class), UID(syntax)
    meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{tags.get('InstanceNumber', 1)}")
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = "1.2.3", "1.2.3.4", "CR"
    data.PatientName, data.PatientID, data.PixelSpacing = "A^B", "1", [0.2, 0.3]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = stored.shape[-2:]
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    encode = CODECS.get(syntax.removeprefix("1.2.840.10008.1.2."))
    data.PixelData = encapsulate([encode(stored)]) if encode else stored.tobytes()
    data["PixelData"].is_undefined_length = encode is not None
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def saved(data: FileDataset) -> bytes:
    """Return the file."""
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def radiographs() -> dict[str, bytes]:
    """DICOM in every syntax and polarity, PNG and JPEG."""
    pixels = picture()
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.add_new("LUTData", "OW", (np.arange(4096) * 9 % 65536).astype("<u2").tobytes())
    table.ModalityLUTType = "US"
    ramp = (np.arange(256) * 256).astype("<u2").tobytes()
    palette = {
        "PhotometricInterpretation": "PALETTE COLOR",
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
    }
    for name in ("Red", "Green", "Blue"):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{name}PaletteColorLookupTableData"] = ramp
    rle = dicom(pixels)
    rle.compress(RLE, generate_instance_uid=False)
    made = {
        "own-raw.dcm": dicom(pixels),
        "own-deflated.dcm": dicom(pixels, syntax=DEFLATED),
        "own-rle.dcm": rle,
        "own-mono1.dcm": dicom(pixels, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0),
        "own-lut.dcm": dicom(pixels, ModalityLUTSequence=[table], VOILUTSequence=[table]),
        "own-palette.dcm": dicom((pixels // 16).astype(np.uint8), **palette),
        "own-processing.dcm": dicom(
            pixels,
            PresentationIntentType="FOR PROCESSING",
            PixelIntensityRelationship="LIN",
            PixelIntensityRelationshipSign=1,
        ),
    }
    made |= {f"own-{short}.dcm": dicom(pixels, syntax=f"1.2.840.10008.1.2.{short}") for short in CODECS}
    files = {name: saved(data) for name, data in made.items()}
    for name, image in {
        "own-8.png": Image.fromarray((pixels // 16).astype(np.uint8)),
        "own-16.png": Image.fromarray(pixels * 16),
        "own-rgb.png": Image.fromarray((pixels // 16).astype(np.uint8)).convert("RGB"),
        "own-grey.jpg": Image.fromarray((pixels // 16).astype(np.uint8)),
    }.items():
        stream = io.BytesIO()
        image.save(stream, format="PNG" if name.endswith("png") else "JPEG")
        files[name] = stream.getvalue()
    return files


def slice_tags(n: int) -> dict[str, Any]:
    """Return the elements that place slice n of a CT."""
    return {
        "Modality": "CT",
        "InstanceNumber": n + 1,
        "ImagePositionPatient": [-100, -90, 2.5 * n],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.8, 0.7],
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
    }


def slices() -> list[bytes]:
    """The scan as a CT series, one file a slice."""
    return [saved(dicom(plane, CT, **slice_tags(n))) for n, plane in enumerate(scan())]


def zipped(files: list[bytes]) -> bytes:
    """Return a ZIP archive of files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for n, content in enumerate(files):
            archive.writestr(zipfile.ZipInfo(f"study/IM{n:04d}"), content)
    return stream.getvalue()


def enhanced() -> bytes:
    """The scan as one enhanced CT."""
    hu = scan()
    frames = []
    for n in range(len(hu)):
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = slice_tags(n)["ImagePositionPatient"]
        frame.PlanePositionSequence = Sequence([place])
        frames.append(frame)
    shared, way, measures, values = Dataset(), Dataset(), Dataset(), Dataset()
    way.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.8, 0.7]
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, 0, "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([way]), Sequence([measures])
    shared.PixelValueTransformationSequence = Sequence([values])
    data = dicom(hu, ENHANCED_CT, Modality="CT", NumberOfFrames=len(hu))
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return saved(data)


def nrrd(encoding: str, hu: NDArray[np.int16]) -> bytes:
    """Return an NRRD file."""
    text = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {hu.shape[2]} {hu.shape[1]} {hu.shape[0]}\nspace directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)\n"
        f"kinds: domain domain domain\nendian: little\nencoding: {encoding}\nspace origin: (-100,-90,0)\n\n"
    )
    packed = gzip.compress(hu.tobytes(), mtime=0) if encoding == "gzip" else hu.tobytes()
    return text.encode() + packed


def volumes() -> dict[str, bytes]:
    """NIfTI, NRRD, enhanced CT and archives."""
    hu, series = scan(), slices()
    nifti = nibabel.Nifti1Image(hu.transpose(2, 1, 0), np.diag([-0.7, -0.8, 2.5, 1])).to_bytes()
    second = nibabel.Nifti2Image(hu.transpose(2, 1, 0).astype(np.float32), np.diag([-0.7, -0.8, 2.5, 1]))
    return {
        "own.nii": nifti,
        "own.nii.gz": gzip.compress(nifti, mtime=0),
        "own-2.nii": second.to_bytes(),
        "own-raw.nrrd": nrrd("raw", hu),
        "own-gzip.nrrd": nrrd("gzip", hu),
        "own-enhanced.dcm": enhanced(),
        "own-series.zip": zipped(series),
        "own-nested.zip": zipped([zipped(series)]),
        "own-mixed.zip": zipped([*series, *list(radiographs().values())[:2], nifti]),
    }
