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

from depth_sr_ros.model.averaging import full_precision, made_once

# Steps of relaxation at each level of the hole-filling pyramid, and at its finest one. More gains
# nothing on rendered scenes.
_RELAXATIONS, _FINEST_RELAXATIONS = 4, 1
# A window of the local range with fewer measurements than this is widened.
_MINIMUM_MEASUREMENTS = 4
# Cells of the local range are at least this many RGB pixels wide: a sensor's edges lie that far
# from those of the RGB image.
_SMALLEST_CELL = 3.0
# Second differences of inverse depth, relative to it, below which a map counts as smooth and
# above which as rough. A map in whole millimetres has up to 0.2% at 1 m; curved surfaces without
# an edge seen by 80x60 pixels have 0.04%; depth edges have percents.
_SMOOTH, _ROUGH = 0.002, 0.01
# Roughness of a hole in smooth surroundings: what hides there mostly goes on as what surrounds it.
_HOLE_ROUGHNESS = 0.5
# Cells of the shorter side of the coarsest grid on which surroundings are looked at.
_COARSEST_SURROUNDINGS = 5


def valid_mask(depth: Tensor) -> Tensor:
    """Where a depth map (any shape, metres) holds a measurement: finite and above zero; bool."""
    return torch.isfinite(depth) & (depth > 0)


def _pad_to_even(image: Tensor, value: float) -> Tensor:
    height, width = image.shape[-2:]
    if height % 2 == 0 and width % 2 == 0:
        return image  # padding by nothing copies
    return functional.pad(image, (0, width % 2, 0, height % 2), value=value)


def _double(image: Tensor, height: int, width: int) -> Tensor:
    doubled = functional.interpolate(image, scale_factor=2, mode='bilinear', align_corners=False)
    return doubled[..., :height, :width]


# Kernels are made of what the device makes itself: a copy from the host cannot be part of a CUDA
# graph.


@made_once
def _push_kernel(device: torch.device) -> Tensor:
    """Binomial, [1, 3, 3, 1] in both directions; (1, 1, 4, 4)."""
    one_dimensional = 4.0 - 2.0 * (torch.arange(4.0, device=device) - 1.5).abs()
    return torch.outer(one_dimensional, one_dimensional)[None, None] / 16.0


@made_once
def _neighbour_kernel(device: torch.device) -> Tensor:
    """Mean of the four neighbours; (1, 1, 3, 3)."""
    distance = (torch.arange(3.0, device=device) - 1.0).abs()
    return 0.25 * (distance[:, None] + distance == 1.0).float()[None, None]


@made_once
def _second_difference_kernels(device: torch.device) -> Tensor:
    """Along rows, along columns and mixed; (3, 1, 3, 3)."""
    place = torch.arange(3.0, device=device) - 1.0
    second = 3.0 * place.abs() - 2.0  # 1, -2, 1
    middle = 1.0 - place.abs()
    along = torch.outer(middle, second)
    return torch.stack([along, along.T, 0.25 * torch.outer(place, place)])[:, None]


def _neighbour_mean(image: Tensor) -> Tensor:
    """Mean of the four neighbours of each pixel; outside, border pixels are repeated."""
    padded = functional.pad(image, (1, 1, 1, 1), mode='replicate')
    with full_precision(image):
        return functional.conv2d(padded, _neighbour_kernel(image.device))


def fill_holes(depth: Tensor, valid: Tensor) -> Tensor:
    """Fill the pixels without measurement by push-pull with relaxation.

    Push-pull (Gortler et al., The Lumigraph, 1996), and at each level a few steps towards the
    harmonic surface, whose every pixel is the mean of its neighbours: a hole in a slanted surface
    is filled with its slant and not with a step.

    Args:
        depth: float32 (B, 1, h, w), metres; what stands where `valid` is false is ignored.
        valid: bool (B, 1, h, w).

    Returns:
        float32 (B, 1, h, w): `depth` itself where valid, elsewhere a smooth blend of what
        surrounds the hole; all zero for an image without any measurement.
    """
    # In the push step every coarse cell sees 4x4 fine ones, so that isolated measurements spread
    # smoothly instead of as 2x2 blocks.
    kernel = _push_kernel(depth.device)
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
    for number, (level_depth, weight) in reversed(list(enumerate(levels[:-1]))):
        coarse = _double(filled, *level_depth.shape[-2:])
        filled = torch.lerp(coarse, level_depth, weight)
        for _ in range(_RELAXATIONS if number else _FINEST_RELAXATIONS):
            filled = torch.lerp(_neighbour_mean(filled), level_depth, weight)
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


def _cell_exponent(depth: Tensor, size: tuple[int, int]) -> int:
    """How often the grid of the measurements is halved for cells of _SMALLEST_CELL RGB pixels."""
    exponent = 0
    while size[1] * 2**exponent < _SMALLEST_CELL * depth.shape[-1]:
        exponent += 1
    return exponent


def _from_cells(cells: Tensor, exponent: int, depth: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a map from cells of 2^exponent measurements to RGB's size (H, W)."""
    if exponent:
        cells = functional.interpolate(
            cells, scale_factor=2**exponent, mode='bilinear', align_corners=False
        )[..., : depth.shape[-2], : depth.shape[-1]]
    if cells.shape[-2:] == tuple(size):
        return cells
    return functional.interpolate(cells, size=size, mode='bilinear', align_corners=False)


def local_range(depth: Tensor, valid: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The nearest and the farthest measurement around each pixel.

    On the grid of the measurements, or of cells of at least three RGB pixels where that is finer,
    a 3x3 window; where it holds fewer than four measurements the window of the next coarser grid
    (twice as wide), and so on: the window follows the density, from a dense low-resolution map to
    a few hundred points.

    Args:
        depth: float32 (B, 1, h, w), metres.
        valid: bool (B, 1, h, w).
        size: (H, W) of the result.

    Returns:
        Two float32 (B, 1, H, W) maps in metres: the minimum and the maximum.
    """
    far = torch.finfo(torch.float32).max
    # Two channels, so that both are found at once: the largest of -depth and of depth.
    both = torch.cat([-depth, depth], dim=1).to(torch.float32)
    extremes = torch.where(valid, both, torch.full_like(both, -far))
    count = valid.to(torch.float32)

    def halve(extremes: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        return (
            functional.max_pool2d(_pad_to_even(extremes, -far), 2),
            4.0 * functional.avg_pool2d(_pad_to_even(count, 0.0), 2),
        )

    exponent = _cell_exponent(depth, size)
    for _ in range(exponent):
        extremes, count = halve(extremes, count)
    levels = []
    while True:
        window_count = 9.0 * functional.avg_pool2d(count, 3, stride=1, padding=1)
        levels.append((functional.max_pool2d(extremes, 3, stride=1, padding=1), window_count))
        if max(extremes.shape[-2:]) <= 3:
            break
        extremes, count = halve(extremes, count)
    found, _ = levels[-1]
    # The coarsest windows may still be empty at one side of the image: the whole image serves.
    found = torch.where(found > -far, found, found.amax(dim=(-2, -1), keepdim=True))
    for extremes, window_count in reversed(levels[:-1]):
        enough = window_count > _MINIMUM_MEASUREMENTS - 0.5
        found = torch.where(enough, extremes, _double(found, *extremes.shape[-2:]))
    lower, upper = _from_cells(found, exponent, depth, size).chunk(2, dim=1)
    return -lower, upper


def _bend(inverse: Tensor) -> Tensor:
    """Largest second difference of (B, 1, h, w), relative to it."""
    padded = functional.pad(inverse, (1, 1, 1, 1), mode='replicate')
    with full_precision(inverse):
        differences = functional.conv2d(padded, _second_difference_kernels(inverse.device)).abs()
    horizontal, vertical, mixed = differences.chunk(3, dim=1)
    bend = torch.maximum(torch.maximum(horizontal, vertical), mixed)
    bend = bend / inverse.clamp_min(torch.finfo(torch.float32).tiny)
    # Repeated border pixels make a bend of any slope.
    return functional.pad(bend[..., 1:-1, 1:-1], (1, 1, 1, 1), mode='replicate')


def _rough(bend: Tensor, scale: float = 1.0) -> Tensor:
    """0 below the smooth bend, 1 above the rough one, both times `scale`."""
    rough = ((bend - scale * _SMOOTH) / (scale * (_ROUGH - _SMOOTH))).clamp(0.0, 1.0)
    return rough * rough * (3.0 - 2.0 * rough)


def roughness(depth: Tensor, valid: Tensor, size: tuple[int, int]) -> Tensor:
    """Where a depth map is more than smooth surfaces without noise.

    The measure is the largest second difference of inverse depth, in which planes are linear,
    relative to it, in the windows of `local_range`. Where it is tiny there is nothing to repair,
    whatever the RGB image shows.

    Args:
        depth: float32 (B, 1, h, w), metres.
        valid: bool (B, 1, h, w).
        size: (H, W) of the result.

    Returns:
        float32 (B, 1, H, W): 0 on smooth surfaces, 1 at edges and in noise. Where any measurement
        of the window is missing 1, but _HOLE_ROUGHNESS in a hole whose surroundings are smooth.
    """
    inverse = 1.0 / torch.where(valid, depth, torch.ones_like(depth)).to(torch.float32)
    rough = _rough(_bend(inverse))
    exponent = _cell_exponent(depth, size)
    surroundings = _surroundings(inverse, valid, rough, exponent)
    rough = torch.where(valid, rough, torch.ones_like(rough))
    for _ in range(exponent):
        rough = functional.max_pool2d(_pad_to_even(rough, 0.0), 2)
    rough = _from_cells(functional.max_pool2d(rough, 3, 1, 1), exponent, depth, size)
    surroundings = _from_cells(functional.max_pool2d(surroundings, 3, 1, 1), 0, depth, size)
    return torch.minimum(rough, surroundings.clamp_min(_HOLE_ROUGHNESS))


def _surroundings(inverse: Tensor, valid: Tensor, rough: Tensor, exponent: int) -> Tensor:
    """Roughness of the finest grid on which no cell of the 3x3 window is empty, (B, 1, h, w).

    Args:
        inverse: float32 (B, 1, h, w), 1/m.
        valid: bool (B, 1, h, w).
        rough: of the grid itself.
        exponent: grids up to this many halvings are as fine as RGB allows: the same bends count.
    """
    weight = valid.to(torch.float32)
    sums = torch.cat([inverse * weight, weight], dim=1)
    levels = []
    while True:
        measured = (weight > 0).to(torch.float32)
        levels.append((rough * measured, -functional.max_pool2d(-measured, 3, 1, 1)))
        if min(weight.shape[-2:]) <= _COARSEST_SURROUNDINGS:
            break
        sums = functional.avg_pool2d(_pad_to_even(sums, 0.0), 2)
        total, weight = sums.chunk(2, dim=1)
        mean = total / weight.clamp_min(1e-6)
        rough = _rough(_bend(mean), 2.0 ** max(0, len(levels) - exponent))
    result = torch.ones_like(rough)
    for rough, whole in reversed(levels):
        if result.shape != rough.shape:
            result = _double(result, *rough.shape[-2:])
        result = torch.lerp(result, rough, whole)
    return result


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
