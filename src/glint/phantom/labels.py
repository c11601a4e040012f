"""Names and codes of the anatomy in the phantom's label volumes."""

LUNG_LEFT = ("lung_upper_lobe_left", "lung_lower_lobe_left")
LUNG_RIGHT = ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right")
_NAMES = (
    *("air", "body", *LUNG_LEFT, *LUNG_RIGHT),
    *("heart", "aorta", "trachea", "liver", "spleen", "stomach", "superior_vena_cava", "inferior_vena_cava"),
    *(
        "esophagus",
        "pulmonary_vein",
        "great_vessels",
        "colon",
        "kidneys",
        "clavicula_left",
        "clavicula_right",
    ),
    *("scapula_left", "scapula_right", "humerus_left", "humerus_right", "ribs_left", "ribs_right"),
    *("vertebrae", "sternum", "costal_cartilages"),
)
LABELS: dict[str, int] = {name: code for code, name in enumerate(_NAMES)}
BONES = _NAMES[_NAMES.index("clavicula_left") :]

# Anatomy that evaluation asks about -> the labels it consists of.
STRUCTURES: dict[str, tuple[str, ...]] = {
    "left lung": LUNG_LEFT,
    "right lung": LUNG_RIGHT,
    "heart": ("heart",),
    "aorta": ("aorta",),
    "trachea": ("trachea",),
    "spine": ("vertebrae",),
    "liver": ("liver",),
    "left clavicle": ("clavicula_left",),
    "right clavicle": ("clavicula_right",),
    "left scapula": ("scapula_left",),
    "right scapula": ("scapula_right",),
}
