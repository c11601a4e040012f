"""Presentation states, secondary captures, and files of all results."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.uid import XRayAngiographicImageStorage

from glint.errors import DataError
from glint.io.dicom_out.findings import Finding
from glint.io.dicom_out.headers import read_header
from glint.io.dicom_out.presentation import presentation
from glint.io.dicom_out.stamp import Stamp
from glint.io.dicom_out.write import results, write_results
from glint.io.phi import alias

Write = Callable[..., Path]


def picture() -> Image.Image:
    """Return a small colour picture."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_presentation__box_point_text_and_brightness(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp, photometric: str
) -> None:
    path = radiograph_file(
        "DX",
        PhotometricInterpretation=photometric,
        WindowCenter=["1800", "2000"],
        WindowWidth=["1000", "900"],
    )
    written = presentation(read_header(path), findings, stamp)
    assert written is not None
    annotations = written.GraphicAnnotationSequence
    texts = [item.TextObjectSequence[0].UnformattedTextValue for item in annotations]
    assert texts == ["There is a pleural effusion. 0.75", 'Ünusual "thing" / 肺 0.40']
    point, box = annotations[0].GraphicObjectSequence
    assert list(point.GraphicData) == [25.5, 15.5]
    assert list(box.GraphicData) == [20, 10, 50, 10, 50, 30, 20, 30, 20, 10]
    assert list(written.SoftcopyVOILUTSequence[0].WindowCenter) == [1800, 2000]
    assert written.PresentationLUTShape == ("INVERSE" if photometric == "MONOCHROME1" else "IDENTITY")
    assert presentation(read_header(path), findings[2:], stamp) is None


def table(marked: str, first: int, vr: str, bits: int) -> Dataset:
    """Return a look-up table of 256 entries, with a text about the patient."""
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [256, first, bits])
    item.LUTExplanation = item.ModalityLUTType = marked
    item.add_new("LUTData", "OW", (np.arange(256, dtype="<u2") << (bits - 8)).tobytes())
    return item


@pytest.mark.parametrize(("first", "vr"), [(300, "US"), (-200, "SS")])
def test_presentation__repeats_look_up_tables_of_the_image(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path, marked: str,
    complaints: Callable[[Path], set[str]], first: int, vr: str,
) -> None:  # fmt: skip
    """A viewer shows the image as the presentation state says: brightness must be that of the image."""
    modality, voi = table(marked, first, vr, 16), table(marked, first, vr, 12)
    source = radiograph_file(
        "DX", VOILUTSequence=[voi], ModalityLUTSequence=[modality], WindowCenter="9", WindowWidth="8"
    )
    written = results([read_header(source, deidentify=True)], findings, stamp)
    paths = dict(zip(written, write_results(tmp_path / "out", written), strict=True))
    state = pydicom.dcmread(paths["PR"])
    (shown,) = state.SoftcopyVOILUTSequence
    assert "WindowCenter" not in shown
    assert "RescaleSlope" not in state
    # 12 bits are for images: a presentation state has 16, and the output of its VOI LUT is a share of them.
    for (item,), expected in (
        (state.ModalityLUTSequence, np.arange(256) << 8),
        (shown.VOILUTSequence, np.rint((np.arange(256) << 4) * 65535 / 4095)),
    ):
        assert list(item.LUTDescriptor) == [256, first, 16]
        assert (np.frombuffer(item.LUTData, "<u2") == expected).all()
    assert state.ModalityLUTSequence[0].ModalityLUTType == "US"
    assert marked.encode() not in paths["PR"].read_bytes()
    assert complaints(paths["PR"]) - complaints(source) == set()


def test_results__pictures_come_back_and_dciodvfy_finds_no_new_error(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path,
    complaints: Callable[[Path], set[str]],
) -> None:  # fmt: skip
    source = radiograph_file("DX", BurnedInAnnotation="YES")
    written = results([read_header(source)], findings, stamp, picture=picture())
    assert written["SC"].BurnedInAnnotation == "YES"
    paths = dict(zip(written, write_results(tmp_path / "out", written), strict=True))
    assert list(paths) == ["SEG", "SR", "PR", "SC"]
    assert (pydicom.dcmread(paths["SC"]).pixel_array == np.asarray(picture())).all()
    for path in paths.values():
        assert complaints(path) - complaints(source) == set()


def test_header__takes_over_a_list_and_nothing_else(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path, marked: str
) -> None:
    source = radiograph_file(PatientSex="?", WindowCenter="1", WindowWidth="2")
    header = read_header(source)
    assert (str(header.PatientName), header.PatientSex) == (f"{marked}^Jörg", "")
    written = results([header], findings, stamp, picture=picture())
    for data in written.values():
        texts = [str(e.value) for e in data.iterall() if marked in str(e.value) and e.VR != "SQ"]
        assert sorted(texts) == [f"{marked}1", f"{marked}2", f"{marked}^Jörg", f"{marked}^R"]


def test_alias__replaces_everything_of_the_patient(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path, marked: str
) -> None:
    source = radiograph_file()
    name = alias(str(read_header(source).StudyInstanceUID))
    written = results([read_header(source, deidentify=True)], findings, stamp, picture=picture())
    for path in write_results(tmp_path / "out", written):
        data = pydicom.dcmread(path)
        assert str(data.PatientName).rstrip("^") == data.PatientID == name
        for secret in (marked, "19500102", "20240203", "101112"):
            assert secret.encode() not in path.read_bytes()
    assert read_header(radiograph_file(), deidentify=True).PatientID != name


@pytest.mark.parametrize("tag", ["StudyInstanceUID", "SOPInstanceUID"])
def test_header__without_a_uid_is_refused(radiograph_file: Write, tag: str) -> None:
    with pytest.raises(DataError, match=tag):
        read_header(radiograph_file(**{tag: ""}))


def test_canaries__of_a_thousand_elements_only_those_of_the_list_come_through(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path
) -> None:
    """Every text element that the standard knows, and private ones, hold a value of their own."""
    path = radiograph_file()
    data = pydicom.dcmread(path)
    canaries: dict[str, str] = {}
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if (
            vr in ("LO", "SH", "PN", "LT", "ST", "UT", "UC")
            and keyword
            and not retired
            and tag not in data
            and tag > 0x80000
        ):
            canaries[keyword] = f"ZQ{len(canaries):04d}Z"
            setattr(data, keyword, canaries[keyword])
    for keyword in (
        "PatientName",
        "PatientID",
        "AccessionNumber",
        "ReferringPhysicianName",
        "InstitutionName",
    ):
        canaries[keyword] = f"ZQ{len(canaries):04d}Z"
        setattr(data, keyword, canaries[keyword])
    for n in range(400):
        canaries[f"private {n}"] = f"ZQ{len(canaries):04d}Z"
        data.add_new(0x00111000 + n, "LO", canaries[f"private {n}"])
    data.save_as(path)
    assert len(canaries) >= 1000
    header = read_header(path)
    open_results = write_results(tmp_path / "open", results([header], findings, stamp, picture=picture()))
    allowed = {
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
    }
    through = {
        name for name, text in canaries.items() if any(text.encode() in p.read_bytes() for p in open_results)
    }
    assert through <= allowed
    assert {"PatientName", "PatientID"} <= through
    hidden = read_header(path, deidentify=True)
    for written in write_results(tmp_path / "hidden", results([hidden], findings, stamp, picture=picture())):
        assert b"ZQ" not in written.read_bytes()


@pytest.mark.parametrize("kind", [XRayAngiographicImageStorage, "1.2.3.4.5"])
def test_header__of_another_kind_of_image_is_refused(radiograph_file: Write, kind: str) -> None:
    with pytest.raises(DataError, match="kind of DICOM image"):
        read_header(radiograph_file(SOPClassUID=kind))


def test_results__of_a_real_radiograph(
    stamp: Stamp, tmp_path: Path, complaints: Callable[[Path], set[str]]
) -> None:
    """RG1 of pydicom-data: MONOCHROME1, pixel size 0, lossy in its past, names in an old form."""
    spec = find_spec("data_store")
    found = (
        list(Path(next(iter(spec.submodule_search_locations or ()))).rglob("RG1_UNCI.dcm")) if spec else []
    )
    if not found:
        pytest.skip("pydicom-data is not installed")
    header = read_header(found[0])
    mask = np.zeros((1, header.Rows, header.Columns), dtype=bool)
    mask[0, 300:500, 400:900] = True
    finding = Finding("There is a mass.", 0.6, mask, None, (0, 400, 600), ((0, 300, 400), (1, 500, 900)))
    written = results([header], [finding], stamp, picture=picture())
    assert written["PR"].PresentationLUTShape == "INVERSE"
    assert (written["SEG"].pixel_array == mask[0]).all()
    for path in write_results(tmp_path / "out", written):
        assert complaints(path) - complaints(found[0]) == set()
