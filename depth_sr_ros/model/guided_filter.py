# SPDX-License-Identifier: Apache-2.0
"""Depth as the colours around each pixel tell it: a guided filter of the interpolated input.

A fast guided filter (He et al., ECCV 2010; He and Sun, arXiv 1505.00996): in each window inverse
depth is a linear function of the colour by least squares, found on cells of several pixels and
evaluated at every pixel, so that its edges are those of the image. By itself it also draws what is
only printed; the network takes from it what it believes. To tell on which side of an edge a pixel
lies is to compare its colour with those of both sides, which a small network does badly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from depth_sr_ros.model.averaging import (
    full_precision,
    made_once,
    pad_to_multiple,
    spreading_matrix,
)

# Variance of a colour in [0, 1] in a window, below which it says nothing.
_FLAT_COLOUR = 1e-3
_MIDDLE = 0.5
# Weight of what was not measured beside what was.
_FILLED = 1e-3


@made_once
def _diagonal(device: torch.device) -> Tensor:
    """1 where `_products` has squares; (1, 6, 1, 1)."""
    place = torch.arange(6.0, device=device).view(1, 6, 1, 1)
    return ((place == 0) | (place == 3) | (place == 5)).float()


def _products(colour: Tensor) -> Tensor:
    """Of each colour with itself and the later ones: (B, 3, h, w) -> (B, 6, h, w)."""
    red, green, blue = colour.split(1, dim=1)
    return torch.cat([red * colour, green * colour[:, 1:], blue * blue], dim=1)


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Of one symmetric system per pixel, by cofactors.

    Args:
        matrix: (B, 6, h, w), its entries in the order of `_products`.
        right: (B, 3, h, w).

    Returns:
        (B, 3, h, w).
    """
    a, b, c, d, e, f = matrix.split(1, dim=1)
    cofactors = torch.cat(
        [d * f - e * e, c * e - b * f, b * e - c * d, a * f - c * c, b * c - a * e, a * d - b * b],
        dim=1,
    )
    determinant = (matrix[:, :3] * cofactors[:, :3]).sum(dim=1, keepdim=True)
    p, q, r, s, t, u = cofactors.split(1, dim=1)
    x, y, z = right.split(1, dim=1)
    solved = torch.cat([p * x + q * y + r * z, q * x + s * y + t * z, r * x + t * y + u * z], dim=1)
    return solved / determinant


@made_once
def _blocks(count: int, cell: int, device: torch.device | None = None) -> Tensor:
    """(count cell, count): linear between the cells' centres, of blocks of two pixels."""
    return spreading_matrix(
        count, count * cell // 2, beyond=False, device=device
    ).repeat_interleave(2, dim=0)


class ColourCells(NamedTuple):
    """Means over square cells of an image and of what was measured in it; float32.

    Attributes:
        colour: (B, 3, h, w), 0 to 1.
        weight: (B, 1, h, w), of the measurements.
        value: (B, 1, h, w), inverse depth times weight.
        cell: side of a cell in pixels; 1 for the image itself.
    """

    colour: Tensor
    weight: Tensor
    value: Tensor
    cell: int

    def coarser(self, cell: int) -> ColourCells:
        """Cells of a multiple of the size; those themselves where it is theirs."""
        factor = cell // self.cell
        if factor == 1:
            return self
        colour, weight, value = (
            functional.avg_pool2d(pad_to_multiple(image, factor, mode='replicate'), factor)
            for image in (self.colour, self.weight, self.value)
        )
        return ColourCells(colour, weight, value, cell)

    def lines(self) -> Tensor:
        """(B, 4, h, w): factors of the three colours and a constant, of inverse depth."""
        # About a middle of zero, products are rounded less.
        colour, value = self.colour - _MIDDLE, self.value / self.weight
        moments = torch.cat(
            [torch.ones_like(value), value, colour, colour * value, _products(colour)], dim=1
        )
        sums = functional.avg_pool2d(
            moments * self.weight, 3, stride=1, padding=1, count_include_pad=False
        )
        mean, mean_colour, product, square = (sums[:, 1:] / sums[:, :1]).split([1, 3, 3, 6], dim=1)
        covariance = square - _products(mean_colour) + _FLAT_COLOUR * _diagonal(value.device)
        slope = _solve(covariance, product - mean_colour * mean)
        offset = mean - (slope * (mean_colour + _MIDDLE)).sum(dim=1, keepdim=True)
        return torch.cat([slope, offset], dim=1)


def guided_filter(
    depth: Tensor, validity: Tensor, rgb: Tensor, cells: Sequence[int]
) -> list[Tensor]:
    """Inverse depth as a linear function of the colour, in windows of 3x3 cells.

    Args:
        depth: float32 (B, 1, H, W), metres, without holes.
        validity: float32 (B, 1, H, W): 1 where it was measured; what was filled weighs little.
        rgb: float32 (B, 3, H, W) in [0, 1].
        cells: sides of cells in pixels, even numbers, each a multiple of the one before.

    Returns:
        For each side float32 (B, 1, H, W), metres, above zero; beyond the depths around where
        colours are beyond those of the window.
    """
    if not cells:
        return []
    height, width = depth.shape[-2:]
    weight = validity + _FILLED
    inverse = 1.0 / depth.clamp_min(torch.finfo(torch.float32).tiny)
    # Far from a window's colours a steep line can reach zero.
    smallest = 0.5 / depth.amax(dim=(-2, -1), keepdim=True)
    red, green, blue = rgb.split(1, dim=1)
    means = ColourCells(rgb, weight, weight * inverse, 1)
    filtered = []
    for cell in cells:
        means = means.coarser(cell)
        lines = means.lines()
        rows, columns = (
            _blocks(count, cell, depth.device)[:length]
            for count, length in zip(lines.shape[-2:], (height, width), strict=True)
        )
        with full_precision(lines):
            by_red, by_green, by_blue, offset = (rows @ (lines @ columns.T)).split(1, dim=1)
        line = by_red * red + by_green * green + by_blue * blue + offset
        filtered.append(1.0 / torch.maximum(line, smallest))
    return filtered
