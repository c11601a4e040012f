"""Pictures for people: overlays as a row of panels, and mask files.

A panel is the grey radiograph with the heat map (orange, the more opaque the higher), the contour of the mask
(cyan), the box (yellow), the point (cross) and, where the truth is known, its contour (green).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from glint.io.files import check_output, write_whole
from glint.results import Answer

HEAT_LOW, HEAT_HIGH = (150, 30, 60), (255, 170, 40)
HEAT_OPACITY = 0.55
CONTOUR, BOX, POINT, TRUTH = (0, 220, 255), (255, 235, 60), (255, 255, 255), (70, 255, 90)
PAPER, INK, FAINT = (18, 18, 20), (240, 240, 240), (170, 170, 175)
PANEL_MIN_PX, PANEL_MAX_PX = 512, 2048
GAP = 0.02
