"""What `glint check` says of an image: what was read, whether it can be, and what GLINT would do with it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import ceil, prod
from pathlib import Path
from typing import Any

from glint.config.schema import DataConfig
from glint.config.volume import VolumeConfig
from glint.errors import DataError, GlintError
from glint.io.contents import Item
from glint.io.ct import lay_out
from glint.io.letterbox import Letterbox
from glint.io.plausible import radiograph_numbers, volume_numbers
from glint.io.radiograph import Radiograph
from glint.io.untrusted import read_contents, read_radiograph, read_volume
from glint.io.volume import Volume


@dataclass(frozen=True, slots=True)
class Checked:
    """One series, radiograph or file.

    Attributes:
        image: The argument, as it was typed.
        usable: Whether GLINT can read it; None when it is nothing that GLINT is for (MR, a localizer, a report).
        text: What it is, in one line without patient data.
        study: Alias of its study, or "".
        alias: Its own alias; with `series=` it is read.
        problem: Why it cannot be used, or "".
        fix: What can be done, or "".
        geometry: Numbers on size and place.
        intensity: Numbers on grey values.
        plan: What GLINT would do with it.
        notes: What reading has noticed.
        warnings: What looks wrong and may not be.
    """

    image: str
    usable: bool | None
    text: str
    study: str = ""
    alias: str = ""
    problem: str = ""
    fix: str = ""
    geometry: dict[str, Any] = field(default_factory=dict)
    intensity: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a mapping for JSON."""
        return asdict(self)


def check(path: Path, data: DataConfig) -> Iterator[Checked]:
    """Read all there is under a path, each in a process of its own, and say how it went.

    Args:
        path: File, folder or archive.
        data: How the model that is meant sees images.

    Yields:
        One record for each series, radiograph or damaged file; one that says so when there is nothing.
    """
    try:
        found = read_contents(path)
    except GlintError as error:
        yield _refused(path, "", error)
        return
    items = found.items
    for fields in found.damaged:
        yield _refused(path, "DICOM file", DataError(**fields))
    usable = [item for item in items if item.reader]
    for item in items:
        if item.reader:
            yield _check(path, item, data, "" if path.is_file() and len(items) == 1 else item.alias)
        elif usable or path.is_dir():
            yield Checked(str(path), None, item.text, item.study, item.alias)
    if not usable and not found.damaged:
        yield _explain(path, items)


def _check(path: Path, item: Item, data: DataConfig, series: str) -> Checked:
    try:
        if item.reader == "volume":
            volume = read_volume(path, series=series)
            facts = volume_facts(volume, data.volume or VolumeConfig.model_validate({}))
        else:
            facts = radiograph_facts(read_radiograph(path, series=series), data)
    except GlintError as error:
        return _refused(path, item.text, error, item)
    return Checked(str(path), True, item.text, item.study, item.alias, **facts)


def _explain(path: Path, items: list[Item]) -> Checked:
    """Say why there is nothing: the reader knows best what a file is instead."""
    text = items[0].text if items else "no image"
    try:
        (read_volume if items and items[0].kind.startswith("CT") else read_radiograph)(path)
    except GlintError as error:
        return _refused(path, text, error)
    return Checked(str(path), False, text, problem="nothing that GLINT can read")


def _refused(path: Path, text: str, error: GlintError, item: Item | None = None) -> Checked:
    """Return the record of what cannot be used."""
    said = Checked(
        str(path),
        False,
        text or "not readable",
        item.study if item else "",
        item.alias if item else "",
        problem=f"{error.code}: {error.what}"
        + (f" [{error.where}]" if error.where not in ("", str(path)) else ""),
        fix="; ".join(
            part for part in (f"expected: {error.expected}" * bool(error.expected), error.fix) if part
        ),
    )
    return said


def radiograph_facts(image: Radiograph, data: DataConfig) -> dict[str, Any]:
    """Return geometry, intensity, plan, notes and warnings of a radiograph."""
    numbers, warnings = radiograph_numbers(image)
    height, width = image.pixels.shape
    fit = Letterbox.fit((height, width), data.size_px)
    plan: dict[str, Any] = {
        "model": "radiograph",
        "input_px": [data.size_px, data.size_px],
        "scaled_px": list(fit.inner),
        "border_px": list(fit.offset),
    }
    if image.spacing_mm is not None:
        plan["mm_per_input_px"] = round(image.spacing_mm[0] * height / fit.inner[0], 3)
    return {
        "geometry": {"size_px": [height, width], "spacing_mm": image.spacing_mm},
        "intensity": numbers,
        "plan": plan,
        "notes": image.notes,
        "warnings": warnings,
    }


def volume_facts(volume: Volume, cfg: VolumeConfig) -> dict[str, Any]:
    """Return geometry, intensity, plan, notes and warnings of a CT."""
    numbers, warnings = volume_numbers(volume)
    grid = volume.grid
    laid = lay_out(volume, cfg.spacing_mm)
    crops = [ceil(side / crop) for side, crop in zip(laid.hu.shape, cfg.crop, strict=True)]
    return {
        "geometry": {
            "shape": list(grid.shape),
            "spacing_mm": [round(side, 4) for side in grid.spacing_mm],
            "orientation": grid.orientation,
            "oblique_deg": round(grid.tilt_deg, 2),
            "gantry_tilt_deg": round(grid.shear_deg, 2),
            "left_handed": grid.left_handed,
        },
        "intensity": numbers,
        "plan": {
            "model": "CT",
            "orientation": laid.grid.orientation,
            "spacing_mm": list(cfg.spacing_mm),
            "laid_out": list(laid.hu.shape),
            "windows_hu": [list(window) for window in cfg.windows_hu],
            "crop": list(cfg.crop),
            "crops_at_least": prod(crops),
        },
        "notes": volume.provenance.notes,
        "warnings": warnings,
    }
