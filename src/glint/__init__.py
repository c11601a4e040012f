"""GLINT: ask a chest X-ray or a chest CT in free text; get a score, a point, a box and a mask.

    import glint
    model = glint.load("glint-cxr-phantom")
    answers = model.segment("chest.dcm", ["There is a left pleural effusion."])

Research software, not a medical device. Importing this package is cheap: torch loads with the first model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from glint import errors

if TYPE_CHECKING:
    from glint.api import Glint, load
    from glint.io.radiograph import Radiograph
    from glint.io.untrusted import read_radiograph, read_volume
    from glint.io.volume import Volume
    from glint.results import Answer, Answers
    from glint.volume_results import VolumeAnswer, VolumeAnswers

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Answers",
    "Glint",
    "Radiograph",
    "Volume",
    "VolumeAnswer",
    "VolumeAnswers",
    "__version__",
    "errors",
    "load",
    "read_radiograph",
    "read_volume",
]

_HOMES = {
    "load": "glint.api",
    "Glint": "glint.api",
    "Answer": "glint.results",
    "Answers": "glint.results",
    "Radiograph": "glint.io.radiograph",
    "read_radiograph": "glint.io.untrusted",
    "Volume": "glint.io.volume",
    "VolumeAnswer": "glint.volume_results",
    "VolumeAnswers": "glint.volume_results",
    "read_volume": "glint.io.untrusted",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'glint' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
