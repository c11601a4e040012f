"""Forward pass and training step of image encoders: tokens/s, TFLOP/s, share of the matrix-product peak, memory.

Weights are random (speed does not depend on them). A training step is what dense feature regularization makes of it:
student forward, teacher forward, loss, backward, AdamW.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from pydantic import JsonValue
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from glint.bench.machine import measure
from glint.config.schema import VisionConfig
from glint.losses.dense import dense_feature_loss
from glint.model.teacher import Teacher
from glint.model.vision.base import ImageEncoder
from glint.model.vision.registry import build_vision

Arch = dict[str, JsonValue]
VIT_S: Arch = {"width": 384, "depth": 12, "heads": 6}
VIT_B: Arch = {"width": 768, "depth": 12, "heads": 12}
VIT_L: Arch = {"width": 1024, "depth": 24, "heads": 16}
# Name -> (encoder, settings): architectures as published.
SIZES: dict[str, tuple[str, Arch]] = {
    "dinov3-s": ("dinov3-vit", VIT_S),
    "dinov3-b": ("dinov3-vit", VIT_B),
    "dinov3-l": ("dinov3-vit", VIT_L),
    "dinov3-convnext-t": (
        "dinov3-convnext",
        {"widths": [96, 192, 384, 768], "depths": [3, 3, 9, 3], "neck_width": 0},
    ),
    "convnet": ("convnet", {"widths": [24, 56, 112]}),
    "dinov2-b": ("dinov2", {"width": 768, "depth": 12, "heads": 12, "image_px": 518}),
    "siglip-so400m": (
        "siglip",
        {"width": 1152, "depth": 27, "heads": 16, "patch_px": 14, "mlp_width": 4304, "image_px": 448},
    ),
    "vjepa-b": ("vjepa", {"width": 768, "depth": 12}),
    "vjepa-l": ("vjepa", {"width": 1024, "depth": 24}),
    "primus-m": ("primus", {}),
    "ct-fm": ("ct-fm", {}),
    "i3resnet-152": ("i3resnet", {}),
}
SHAPES_2D = ((512, 512), (768, 768), (1024, 1024))
SHAPES_3D = ((64, 256, 256), (128, 256, 256))
HEAD = (
    "encoder",
    "input",
    "work",
    "tokens",
    "ms",
    "tokens/s",
    "TFLOP",
    "TFLOP/s",
    "share of peak",
    "peak GB",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One measured cell.

    Attributes:
        encoder: Name in SIZES.
        shape: Size of one input, (Y, X) or (Z, Y, X).
        work: "forward" or "training step".
        tokens: Patch tokens of the batch.
        seconds: Median time of one call.
        flops: Floating-point operations of one call, counted, not measured.
        peak_bytes: Memory above weights and optimizer, or None.
    """

    encoder: str
    shape: tuple[int, ...]
    work: str
    tokens: int
    seconds: float
    flops: int
    peak_bytes: int | None

    def cells(self, peak: float) -> list[str]:
        """Return the cells under HEAD, given the machine's peak in FLOP/s."""
        rate = self.flops / self.seconds
        return [
            self.encoder,
            "x".join(map(str, self.shape)),
            self.work,
            f"{self.tokens:,}",
            f"{self.seconds * 1000:,.1f}",
            f"{self.tokens / self.seconds:,.0f}",
            f"{self.flops / 1e12:.3f}",
            f"{rate / 1e12:.3f}",
            f"{rate / peak:.0%}",
            "-" if self.peak_bytes is None else f"{self.peak_bytes / 1e9:.2f}",
        ]


def default_shapes(name: str) -> tuple[tuple[int, ...], ...]:
    """Return the input sizes an encoder is measured at when none is asked for: the next ones that fit it."""
    kind, arch = SIZES[name]
    with torch.device("meta"):
        multiple = build_vision(VisionConfig(name=kind, arch=arch)).multiple  # pyright: ignore[reportCallIssue]
    shapes = SHAPES_3D if len(multiple) == 3 else SHAPES_2D
    return tuple(tuple(-(-s // m) * m for s, m in zip(shape, multiple, strict=True)) for shape in shapes)


def run(
    name: str,
    shape: tuple[int, ...],
    device: torch.device,
    dtype: torch.dtype,
    batch: int = 1,
    repeats: int = 3,
) -> Iterator[Row]:
    """Yield the rows of one encoder at one input size: forward, then training step."""
    kind, arch = SIZES[name]
    torch.manual_seed(0)
    encoder = build_vision(VisionConfig(name=kind, arch=arch)).to(device)  # pyright: ignore[reportCallIssue]
    images = torch.rand(batch, 1, *shape, device=device)
    tokens = batch * math.prod(encoder.grid(images))
    for work, call in works(encoder, images, dtype).items():
        cost = measure(call, device, repeats)
        yield Row(
            name, shape, work, tokens, cost.seconds, flops(kind, arch, images.shape, work), cost.peak_bytes
        )


def works(encoder: ImageEncoder, images: Tensor, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """Return the two pieces of work as functions without arguments."""
    teacher = Teacher(encoder)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-5)
    bf16 = dtype == torch.bfloat16
    amp = torch.autocast(images.device.type, dtype=dtype) if bf16 else contextlib.nullcontext()

    def forward() -> None:
        encoder.eval()
        with torch.inference_mode(), amp:
            encoder(images)

    def training_step() -> None:
        encoder.train()
        with amp:
            mine, theirs = encoder(images), teacher(images)
            loss = (
                dense_feature_loss(mine.levels, theirs.levels, "cosine") + mine.tokens.float().square().mean()
            )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {"forward": forward, "training step": training_step}


def flops(kind: str, arch: Arch, shape: torch.Size, work: str) -> int:
    """Count the operations of a piece of work on the meta device, where nothing is computed."""
    with torch.device("meta"):
        encoder = build_vision(VisionConfig(name=kind, arch=arch))  # pyright: ignore[reportCallIssue]
        images = torch.empty(shape)
        call = works(encoder, images, torch.float32)[work]
        with FlopCounterMode(display=False) as counter:
            call()
    return int(counter.get_total_flops())
