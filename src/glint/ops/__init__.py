"""The gated alignment of all sentences with all images as one operation, in several exact forms."""

from glint.ops.pool import Kernel, gated_pool, gated_pool_owned
from glint.ops.reference import GateInputs, Pool

__all__ = ["GateInputs", "Kernel", "Pool", "gated_pool", "gated_pool_owned"]
