# SPDX-License-Identifier: Apache-2.0
"""What a low-resolution measurement says of the pixels below it: their mean.

A cell of a low-resolution depth map is the mean of the surface that it sees, more or less: exactly
so for area-averaged maps, nearly for sensors that integrate over a pixel, not at all for maps that
kept one point of each cell. Which of them it is shows at the edges of the map itself: where cells
are means, those on an edge lie between its two sides. Whether a cell saw what lies below it in the
RGB image shows where the network, without it, would have drawn the edges. Beyond that the network
says how far each pixel may trust it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from depth_sr_ros.model.averaging import averaging_matrix, full_precision, spreading_matrix

# Measurements of fewer RGB pixels than this in each direction say nothing about single ones.
SMALLEST_RATIO = 2.0
# Of the step of the logit in one iteration.
_LARGEST_STEP = 2.0
# Share of the depth below which a cell has no surfaces to choose between.
_TINY_SPAN = 1e-5
# Jumps of depth, relative to the nearer side, that count as edges; beyond the larger one all weigh
# the same.
_SMALLEST_JUMP, _LARGEST_JUMP = 0.15, 0.45
# How far cells on edges lie between the two sides: 0 for at one of them, 1 for in the middle. On
# rendered scenes 0.02 to 0.2 where one point of each cell was kept (x4 to x16, without noise),
# 0.25 to 0.5 for means, 0.2 to 0.3 for time-of-flight cameras.
_UNMIXED, _MIXED = 0.14, 0.26
# Freedom of a cell, relative to its depth, below which it says nothing of the agreement and above
# which it counts fully; and the largest deviation that counts.
_SMALLEST_FREEDOM, _LARGEST_FREEDOM = 0.1, 0.3
_LARGEST_DEVIATION = 0.1
# Cosine between what cells measured and what the network drew without them. On rendered scenes
# the median is 0.6 to 0.7 for means, 0.3 where x4 is shifted by 2 pixels, below 0 for
# time-of-flight cameras.
_DISAGREE, _AGREE = 0.15, 0.55
# A map without edges counts as this many edges of one full weight at _MIXED.
_PRIOR_EDGES = 0.3


class Cells(NamedTuple):
    """The cells of a depth map over the RGB image, and what they measured.

    Attributes:
        residual: float32 (B, 1, h, w), metres: measurement less mean of the interpolated input.
        valid: float32 (B, 1, h, w): 1 where there is a measurement, else 0.
        rows: float32 (B, 1, h, H): mean over the rows of each cell as a product; None where cells
            are a whole number of pixels, which pooling does faster.
        columns: float32 (B, 1, w, W), the same for the columns.
        spread_rows: float32 (B, 1, H, h): linear between the centres of cells; None with `rows`.
        spread_columns: float32 (B, 1, W, w), the same for the columns.
        averaged: float32 (B, 1, 1, 1): from 0 where cells are single points to 1 where they are
            means; see `averaged`.
        present: bool (B, 1, 1, 1): false for an image of a batch that has no cells, being of full
            resolution; None where all have.
    """

    residual: Tensor
    valid: Tensor
    rows: Tensor | None
    columns: Tensor | None
    spread_rows: Tensor | None
    spread_columns: Tensor | None
    averaged: Tensor
    present: Tensor | None = None

    def mean(self, image: Tensor) -> Tensor:
        """Mean of (B, 1, H, W) over each cell: (B, 1, h, w)."""
        if self.rows is None or self.columns is None:
            ratio = [n // m for n, m in zip(image.shape[-2:], self.valid.shape[-2:], strict=True)]
            return functional.avg_pool2d(image, ratio)
        with full_precision(image):
            return self.rows @ image.float() @ self.columns.transpose(-2, -1)

    def spread(self, values: Tensor, size: tuple[int, int], *, smooth: bool) -> Tensor:
        """Give each pixel the value of its cell: (B, 1, h, w) -> (B, 1, H, W).

        smooth: linear between the centres of cells rather than constant in each.
        """
        if self.rows is None or self.columns is None:
            mode = 'bilinear' if smooth else 'nearest-exact'
            return functional.interpolate(values, size=size, mode=mode)
        with full_precision(values):
            if smooth and self.spread_rows is not None and self.spread_columns is not None:
                return self.spread_rows @ values.float() @ self.spread_columns.transpose(-2, -1)
            rows, columns = (
                axis / axis.sum(dim=-2, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
                for axis in (self.rows, self.columns)
            )
            return rows.transpose(-2, -1) @ values.float() @ columns


def averaged(depth: Tensor, valid: Tensor) -> Tensor:
    """Whether the cells of a depth map are means of what they see, or single points.

    Of five cells in a row or column, the outer two at each end are extended to the middle: on a
    plane they meet there, at an edge they leave a jump in which the middle cell has its place.

    Args:
        depth: float32 (B, 1, h, w), metres; what stands where `valid` is false is ignored.
        valid: bool (B, 1, h, w).

    Returns:
        float32 (B, 1, 1, 1), 0 to 1; 1 for a map without edges.
    """
    filled = torch.where(valid, depth, torch.ones_like(depth))
    weights, mixed = [], []
    for image, known in (
        (filled, valid.float()),
        (filled.transpose(-2, -1), valid.float().transpose(-2, -1)),
    ):
        count = image.shape[-1] - 4
        if count < 1:
            continue
        one, two, middle, four, five = (image[..., i : i + count] for i in range(5))
        all_known = torch.ones_like(middle)
        for i in range(5):
            all_known = all_known * known[..., i : i + count]
        start, end = 2.0 * two - one, 2.0 * four - five
        jump = end - start
        size = jump.abs() / torch.minimum(two, four)
        weight = all_known * (size.clamp_max(_LARGEST_JUMP) - _SMALLEST_JUMP).clamp_min(0.0)
        place = (middle - start) / torch.where(weight > 0, jump, torch.ones_like(jump))
        weights.append(weight.sum(dim=(-2, -1), keepdim=True))
        between = (4.0 * place * (1.0 - place)).clamp(0.0, 1.0)
        mixed.append((weight * between).sum(dim=(-2, -1), keepdim=True))
    if not weights:
        return torch.ones_like(filled[..., :1, :1])
    total, between = sum(weights) + _PRIOR_EDGES, sum(mixed) + _PRIOR_EDGES * _MIXED
    share = ((between / total - _UNMIXED) / (_MIXED - _UNMIXED)).clamp(0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def has_cells(low: tuple[int, ...], high: tuple[int, ...]) -> bool:
    """Whether measurements of a map of size `low` (h, w) cover pixels of RGB's size `high`."""
    return all(n >= SMALLEST_RATIO * m for n, m in zip(high, low, strict=True))


def cells_of(depth: Tensor, valid: Tensor, interpolated: Tensor) -> Cells | None:
    """The cells of a depth map.

    Args:
        depth: float32 (B, 1, h, w), metres; what stands where `valid` is false is ignored.
        valid: bool (B, 1, h, w).
        interpolated: float32 (B, 1, H, W), metres: the map at RGB's size, without holes.

    Returns:
        None where a cell is less than SMALLEST_RATIO pixels high or wide.
    """
    low, high = depth.shape[-2:], interpolated.shape[-2:]
    if not has_cells(low, high):
        return None
    rows = columns = spread_rows = spread_columns = None
    if any(n % m for n, m in zip(high, low, strict=True)):
        sizes = list(zip(low, high, strict=True))
        rows, columns = (averaging_matrix(m, n, depth.device)[None, None] for m, n in sizes)
        spread_rows, spread_columns = (
            spreading_matrix(m, n, depth.device, beyond=False)[None, None] for m, n in sizes
        )
    weight = valid.float()
    cells = Cells(
        weight, weight, rows, columns, spread_rows, spread_columns, averaged(depth, valid)
    )
    return cells._replace(residual=(depth - cells.mean(interpolated)) * weight)


def agreement(drawn: Tensor, reach: Tensor, interpolated: Tensor, cells: Cells) -> Tensor:
    """Whether the edges that the network drew from the RGB image are those of the measurements.

    They are not where the sensor's calibration is off by pixels, or where its pixels see something
    else than what lies below them. One edge bears weak witness of that, all of a frame strong one.

    Args:
        drawn: float32 (B, 1, H, W), metres: what the network adds to the interpolated input.
        reach: metres, what it may add; large at edges.
        interpolated: metres.
        cells: of the measurements.

    Returns:
        float32 (B, 1, 1, 1), 0 to 1; 0 for a map without edges.
    """
    depth = cells.mean(interpolated).clamp_min(torch.finfo(torch.float32).tiny)
    freedom = cells.mean(reach) / depth
    weight = (freedom - _SMALLEST_FREEDOM) / (_LARGEST_FREEDOM - _SMALLEST_FREEDOM)
    weight = weight.clamp(0.0, 1.0) * cells.valid
    measured, mean = (
        (values / depth).clamp(-_LARGEST_DEVIATION, _LARGEST_DEVIATION)
        for values in (cells.residual, cells.mean(drawn))
    )

    def product(one: Tensor, other: Tensor) -> Tensor:
        return (weight * one * other).mean(dim=(-2, -1), keepdim=True)

    # The constant keeps the gradient finite where there is nothing to compare.
    norm = product(measured, measured) * product(mean, mean) + _TINY_SPAN**4
    share = (product(measured, mean) / norm.sqrt() - _DISAGREE) / (_AGREE - _DISAGREE)
    return share.clamp(0.0, 1.0)


def consistent_gate(
    gate: Tensor,
    trust: Tensor,
    *,
    position: Tensor,
    reach: Tensor,
    fixed: Tensor,
    interpolated: Tensor,
    cells: Cells,
    iterations: int,
) -> Tensor:
    """Move the gate until the means of the output come nearer to the measurements.

    The output is interpolated + reach (sigmoid(logit(position) + gate) - position) + fixed. Each
    iteration takes one Newton step for one number by cell, added to the logits of its pixels: it
    moves the edge that the network drew inside the cell, and leaves surfaces as they are.

    Args:
        gate: float32 (B, 1, H, W), of the network.
        trust: the same, in [-1, 1]: the share of the step that a pixel takes.
        position: of the interpolated input in its local range, in (0, 1).
        reach: metres, what a gate can move a pixel.
        fixed: metres, what else was added to the interpolated input.
        interpolated: metres.
        cells: of the measurements.
        iterations: number of steps.

    Returns:
        float32 (B, 1, H, W).
    """
    start = torch.logit(position)
    trust = trust * cells.averaged
    size = (gate.shape[-2], gate.shape[-1])
    # What does not change from step to step is averaged once.
    wanted = cells.residual + cells.mean(reach * position - fixed)
    smallest = _TINY_SPAN * cells.mean(interpolated)
    for iteration in range(iterations):
        share = torch.sigmoid(start + gate)
        moved = reach * share
        slope = cells.mean(moved * (1.0 - share)) + smallest
        slope = torch.where(cells.valid > 0, slope, 1.0)
        step = (wanted - cells.mean(moved)) / slope
        step = _LARGEST_STEP * torch.tanh(step / _LARGEST_STEP)
        # Neighbouring cells first move together, so that edges have no steps between them; what is
        # left to do then is for each cell alone.
        smooth = iteration < iterations - 1
        gate = gate + trust * cells.spread(step * cells.valid, size, smooth=smooth)
    return gate
