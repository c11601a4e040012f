"""What a phantom study can show: the vocabulary shared by images, reports and evaluation.

Sides and positions are the patient's own (radiological convention: the patient's right is on the image's left).
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Side = Literal["left", "right", "bilateral", "midline"]
Severity = Literal["small", "moderate", "large"]

LOBES = ("left upper lobe", "left lower lobe", "right upper lobe", "right middle lobe", "right lower lobe")

# kind -> locations it can take. "" means that the side alone says where it is.
KINDS: dict[str, tuple[str, ...]] = {
    "nodule": LOBES,
    "mass": LOBES,
    "consolidation": LOBES,
    "ground_glass": LOBES,
    "atelectasis": ("left lower lobe", "right lower lobe", "right middle lobe"),
    "pleural_effusion": ("",),
    "pneumothorax": ("",),
    "cardiomegaly": ("",),
    "hilar_enlargement": ("",),
    "central_venous_catheter": ("",),
    "pacemaker": ("",),
}

# Finding-location pairs that no training or validation study contains: the "new combinations" split.
HELD_OUT_COMBINATIONS: frozenset[tuple[str, str]] = frozenset(
    {
        ("nodule", "right upper lobe"),
        ("mass", "left upper lobe"),
        ("consolidation", "right lower lobe"),
        ("ground_glass", "left lower lobe"),
        ("atelectasis", "right lower lobe"),
        ("hilar_enlargement", "left"),
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is visible in a study.

    Attributes:
        kind: A key of KINDS.
        side: Side of the patient; "midline" for cardiomegaly.
        location: Lobe, or "" where the side says it all.
        severity: Visual extent.
        size_mm: Largest diameter in mm (nodule, mass), else 0.
    """

    kind: str
    side: Side
    location: str = ""
    severity: Severity = "moderate"
    size_mm: float = 0.0

    @property
    def combination(self) -> tuple[str, str]:
        """Return (kind, lobe or side), the key of HELD_OUT_COMBINATIONS."""
        return (self.kind, self.location or self.side)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)
