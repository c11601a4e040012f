"""What a token of the ConvNet sees: measured by gradients, stated by `view_px`; and what a teacher takes of it."""

import pytest
import torch
from pydantic import ValidationError

from glint.model.teacher import Teacher
from glint.model.vision.convnet import ConvNet, ConvNetArch


def seen_px(net: ConvNet, size: int) -> int:
    """Side of the square of pixels that change the token in the middle."""
    images = torch.rand(1, 1, size, size, requires_grad=True)
    features = net.eval()(images)
    rows, columns = features.grid
    features.tokens[0, (rows // 2) * columns + columns // 2].sum().backward()
    assert images.grad is not None
    rows_seen, columns_seen = images.grad[0, 0].nonzero().T
    return int(max(rows_seen.max() - rows_seen.min(), columns_seen.max() - columns_seen.min())) + 1


@pytest.mark.parametrize(
    ("settings", "view"),
    [
        ({"coarse_kernel": 1, "coarsest_stride": 8, "depths": (1, 0, 3)}, 31),
        ({"coarse_kernel": 1, "coarsest_stride": 8, "depths": (0, 1, 3)}, 47),
        ({"coarse_kernel": 3, "coarsest_stride": 8, "depths": (0, 1, 1)}, 79),
    ],
)
def test_view_px__is_what_gradients_reach(settings: dict[str, object], view: int) -> None:
    torch.manual_seed(0)
    arch = ConvNetArch.model_validate({"widths": (8, 8, 8), "neck_width": 16, **settings})
    assert arch.view_px == view
    assert seen_px(ConvNet(arch), 160) == view


def test_view_px__grows_by_one_stride_where_the_neck_interpolates() -> None:
    torch.manual_seed(0)
    arch = ConvNetArch(widths=(8, 8, 8), depths=(0, 1, 3), neck_width=16, coarse_kernel=1)
    assert arch.view_px == 63
    assert 63 < seen_px(ConvNet(arch), 192) <= 63 + 16


def test_view_px__of_the_defaults_is_wider_than_their_image() -> None:
    assert ConvNetArch().view_px == 223


def test_context__is_nothing_at_first_and_then_widens_the_view() -> None:
    torch.manual_seed(0)
    arch = ConvNetArch(
        widths=(8, 8, 8), depths=(1, 0, 3), neck_width=16, coarse_kernel=1, coarsest_stride=8, context=1
    )
    assert arch.view_px == 31 + 32
    net = ConvNet(arch)
    assert seen_px(net, 160) == 31
    assert net.context is not None
    torch.nn.init.ones_(net.context[-1][1].weight)
    assert seen_px(net, 160) == 63


def test_neck__is_nothing_at_first_and_then_looks_at_neighbours() -> None:
    torch.manual_seed(0)
    arch = ConvNetArch(
        widths=(8, 8, 8), depths=(1, 0, 3), neck_width=16, coarse_kernel=1, coarsest_stride=8, neck_depth=1
    )
    assert arch.view_px == 31 + 32
    net = ConvNet(arch)
    assert seen_px(net, 160) == 31
    assert net.neck is not None
    torch.nn.init.ones_(net.neck[0].second[1].weight)  # pyright: ignore[reportArgumentType, reportIndexIssue]
    assert seen_px(net, 160) == 63


@pytest.mark.parametrize(("token_stride", "neck_stride"), [(8, 4), (4, 2), (4, 16)])
def test_neck_stride__is_that_of_a_stage_and_not_below_that_of_the_tokens(
    token_stride: int, neck_stride: int
) -> None:
    settings = {"widths": (8, 8, 8), "coarsest_stride": 8, "depths": (0, 0, 1)}
    with pytest.raises(ValidationError, match="neck_stride must be"):
        ConvNetArch.model_validate(settings | {"token_stride": token_stride, "neck_stride": neck_stride})


def test_intermediate__is_the_levels_without_what_is_behind_them() -> None:
    net = ConvNet(ConvNetArch(widths=(8, 8, 8), context=1)).eval()
    images = torch.rand(2, 1, 32, 32)
    levels = Teacher(net).intermediate(images)
    for one, other in zip(levels, Teacher(net)(images).levels, strict=True):
        assert torch.equal(one, other)
    assert not any(level.requires_grad for level in levels)
