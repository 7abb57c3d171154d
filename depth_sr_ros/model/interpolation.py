# SPDX-License-Identifier: Apache-2.0
"""Hole-aware interpolation of a depth map, and the range of depths that surrounds each pixel.

Everything here is linear or order-preserving in the depth, runs in float32 and has static shapes,
so multiplying all depths by a constant multiplies every result by it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Binomial kernel of the push step: every coarse cell sees 4x4 fine ones, so that isolated
# measurements spread smoothly instead of as 2x2 blocks.
_BINOMIAL = (1.0, 3.0, 3.0, 1.0)
# A window of the local range with fewer measurements than this is widened.
_MINIMUM_MEASUREMENTS = 4


def valid_mask(depth: Tensor) -> Tensor:
    """Where a depth map (any shape, metres) holds a measurement: finite and above zero; bool."""
    return torch.isfinite(depth) & (depth > 0)


def _pad_to_even(image: Tensor, value: float) -> Tensor:
    height, width = image.shape[-2:]
    return functional.pad(image, (0, width % 2, 0, height % 2), value=value)


def _double(image: Tensor, height: int, width: int) -> Tensor:
    doubled = functional.interpolate(image, scale_factor=2, mode='bilinear', align_corners=False)
    return doubled[..., :height, :width]


def fill_holes(depth: Tensor, valid: Tensor) -> Tensor:
    """Fill the pixels without measurement by push-pull (Gortler et al., The Lumigraph, 1996).

    Args:
        depth: float32 (B, 1, h, w), metres; what stands where `valid` is false is ignored.
        valid: bool (B, 1, h, w).

    Returns:
        float32 (B, 1, h, w): `depth` itself where valid, elsewhere a smooth blend of what
        surrounds the hole; all zero for an image without any measurement.
    """
    one_dimensional = torch.tensor(_BINOMIAL, dtype=torch.float32, device=depth.device)
    kernel = torch.outer(one_dimensional, one_dimensional)[None, None] / 16.0
    weight = valid.to(torch.float32)
    level_depth = torch.where(valid, depth, torch.zeros_like(depth)).to(torch.float32)
    levels = [(level_depth, weight)]
    while min(level_depth.shape[-2:]) > 1 or max(level_depth.shape[-2:]) > 1:
        padded_depth = _pad_to_even(level_depth * weight, 0.0)
        padded_weight = _pad_to_even(weight, 0.0)
        sums = functional.conv2d(padded_depth, kernel, stride=2, padding=1)
        total = functional.conv2d(padded_weight, kernel, stride=2, padding=1)
        level_depth = sums / total.clamp_min(1e-6)
        weight = (total * 4.0).clamp_max(1.0)
        levels.append((level_depth, weight))
    filled = levels[-1][0]
    for level_depth, weight in reversed(levels[:-1]):
        coarse = _double(filled, *level_depth.shape[-2:])
        filled = torch.lerp(coarse, level_depth, weight)
    return torch.where(valid, depth.to(torch.float32), filled)


def interpolate(depth: Tensor, valid: Tensor, size: tuple[int, int]) -> Tensor:
    """Fill the holes of `depth` and resize it: plain bilinear where every pixel is valid.

    Args:
        depth: float32 (B, 1, h, w), metres.
        valid: bool (B, 1, h, w).
        size: (H, W). Pixel centres map as (u + .5) W / w - .5.

    Returns:
        float32 (B, 1, H, W), metres, without holes.
    """
    filled = fill_holes(depth, valid)
    if filled.shape[-2:] == tuple(size):
        return filled
    return functional.interpolate(filled, size=size, mode='bilinear', align_corners=False)


def _window_extreme(image: Tensor, sign: float) -> Tensor:
    """Maximum (sign 1) or minimum (sign -1) over each 3x3 window."""
    return sign * functional.max_pool2d(sign * image, 3, stride=1, padding=1)


def local_range(depth: Tensor, valid: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The nearest and the farthest measurement around each pixel.

    On the grid of the measurements, a 3x3 window; where it holds fewer than four of them the
    window of the next coarser grid (twice as wide), and so on: the window follows the density,
    from a dense low-resolution map to a few hundred points.

    Args:
        depth: float32 (B, 1, h, w), metres.
        valid: bool (B, 1, h, w).
        size: (H, W) of the result.

    Returns:
        Two float32 (B, 1, H, W) maps in metres: the minimum and the maximum.
    """
    far = torch.finfo(torch.float32).max
    minimum = torch.where(valid, depth, torch.full_like(depth, far)).to(torch.float32)
    maximum = torch.where(valid, depth, torch.full_like(depth, -far)).to(torch.float32)
    count = valid.to(torch.float32)
    levels = []
    while True:
        window_count = 9.0 * functional.avg_pool2d(count, 3, stride=1, padding=1)
        levels.append((_window_extreme(minimum, -1.0), _window_extreme(maximum, 1.0), window_count))
        if max(minimum.shape[-2:]) <= 3:
            break
        minimum = -functional.max_pool2d(_pad_to_even(-minimum, -far), 2)
        maximum = functional.max_pool2d(_pad_to_even(maximum, -far), 2)
        count = 4.0 * functional.avg_pool2d(_pad_to_even(count, 0.0), 2)
    lower, upper, _ = levels[-1]
    # The coarsest windows may still be empty at one side of the image: the whole image serves.
    lower = torch.where(lower < far, lower, lower.amin(dim=(-2, -1), keepdim=True))
    upper = torch.where(upper > -far, upper, upper.amax(dim=(-2, -1), keepdim=True))
    for minimum, maximum, window_count in reversed(levels[:-1]):
        height, width = minimum.shape[-2:]
        enough = window_count > _MINIMUM_MEASUREMENTS - 0.5
        lower = torch.where(enough, minimum, _double(lower, height, width))
        upper = torch.where(enough, maximum, _double(upper, height, width))
    if lower.shape[-2:] != tuple(size):
        lower = functional.interpolate(lower, size=size, mode='bilinear', align_corners=False)
        upper = functional.interpolate(upper, size=size, mode='bilinear', align_corners=False)
    return lower, upper


def interpolate_depth(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The interpolated input: what the network starts from and has to beat.

    Args:
        depth: float32 (h, w), metres; 0, NaN and infinities are no measurement.
        size: (H, W).

    Returns:
        float32 (H, W), metres, without holes; all zero when there is no measurement.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(depth, dtype=np.float32))[None, None]
    with torch.inference_mode():
        return interpolate(tensor, valid_mask(tensor), size)[0, 0].numpy()
