"""What a phantom CT can show, and which anatomy its reports and its evaluation speak of."""

from glint.phantom.labels import STRUCTURES
from glint.phantom.sample import SIDES, Catalogue
from glint.phantom.schema import KINDS

# In the order in which they are inserted: organs and pleura, lung tissue, nodes, small things.
CT_KINDS: dict[str, tuple[str, ...]] = {
    "cardiomegaly": ("",),
    "pericardial_effusion": ("",),
    "aortic_dilation": ("",),
    "pleural_effusion": ("",),
    "pneumothorax": ("",),
    "emphysema": ("left upper lobe", "right upper lobe"),
    "ground_glass": KINDS["ground_glass"],
    "consolidation": KINDS["consolidation"],
    "atelectasis": KINDS["atelectasis"],
    "hilar_lymphadenopathy": ("",),
    "mediastinal_lymphadenopathy": ("",),
    "mass": KINDS["mass"],
    "nodule": KINDS["nodule"],
    "coronary_calcification": ("",),
    "aortic_calcification": ("",),
}
MIDLINE = (
    "cardiomegaly",
    "pericardial_effusion",
    "aortic_dilation",
    "mediastinal_lymphadenopathy",
    "coronary_calcification",
    "aortic_calcification",
)
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("nodule", "right upper lobe"),
        ("mass", "left upper lobe"),
        ("consolidation", "right lower lobe"),
        ("ground_glass", "left lower lobe"),
        ("atelectasis", "right lower lobe"),
        ("hilar_lymphadenopathy", "left"),
    }
)
CT = Catalogue(
    kinds=CT_KINDS,
    sides={
        **dict.fromkeys(MIDLINE, (("midline", 1.0),)),
        "pleural_effusion": SIDES["pleural_effusion"],
        "pneumothorax": SIDES["pneumothorax"],
        "hilar_lymphadenopathy": (("left", 0.5), ("right", 0.5)),
    },
    held_out=HELD_OUT,
    # Both change the outline of one organ.
    exclusive=(
        frozenset({"cardiomegaly", "pericardial_effusion"}),
        frozenset({"aortic_dilation", "aortic_calcification"}),
    ),
)

CT_STRUCTURES: dict[str, tuple[str, ...]] = {
    **STRUCTURES,
    "left upper lobe": ("lung_upper_lobe_left",),
    "left lower lobe": ("lung_lower_lobe_left",),
    "right upper lobe": ("lung_upper_lobe_right",),
    "right middle lobe": ("lung_middle_lobe_right",),
    "right lower lobe": ("lung_lower_lobe_right",),
    "spleen": ("spleen",),
    "stomach": ("stomach",),
    "sternum": ("sternum",),
}

_LOWER = ("left lower lobe", "right lower lobe")
_UPPER = ("left upper lobe", "right upper lobe")
# Kind -> structures of which a scan must show most before anything can be said about the kind.
NEEDS: dict[str, tuple[str, ...]] = {
    "cardiomegaly": ("heart",),
    "pericardial_effusion": ("heart",),
    "coronary_calcification": ("heart",),
    "aortic_dilation": ("aorta",),
    "aortic_calcification": ("aorta",),
    "mediastinal_lymphadenopathy": ("trachea", "heart"),
    "hilar_lymphadenopathy": ("trachea", "heart"),
    "pleural_effusion": _LOWER,
    "atelectasis": _LOWER,
    "pneumothorax": ("left lung", "right lung"),
    "emphysema": _UPPER,
}
