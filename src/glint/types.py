"""Tensor types and the one legend of axis letters used in the whole project.

B studies, S sentences (or queries), P image tokens (patches), D alignment width, G gate width, C channels or
encoder width, E text-encoder width, Z Y X voxel or pixel grid, Zp Yp Xp token grid.
Arrays are in Z Y X order; physical points are LPS millimetres; pixel points are [x, y].
Inside the maths, names carry their axes as a suffix: `cosine_SBP`.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Images = Float[Tensor, "B C Y X"]
PatchTokens = Float[Tensor, "B P C"]
PatchMask = Bool[Tensor, "B P"]
SentenceVectors = Float[Tensor, "S E"]
PairScores = Float[Tensor, "S B"]
PairMaps = Float[Tensor, "S B P"]
PairMask = Bool[Tensor, "S B"]
SentenceOwner = Int[Tensor, "S"]
Scalar = Float[Tensor, ""]
