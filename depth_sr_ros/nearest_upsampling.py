# SPDX-License-Identifier: Apache-2.0
"""Undoing nearest-neighbour upsampling: depth at the size at which it was measured.

Drivers and bringups bring depth to the size of the RGB image by repeating pixels, and some cameras
measure one pixel of each cell. The outlines of such maps end where cells end: as depth
of full resolution they look right, and are a pixel or more beside the object.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Called as `undo_nearest_upsampling`.
UndoUpsampling = Callable[[NDArray[np.float32]], NDArray[np.float32]]

# A map of fewer cells than this to a side is none that a camera measured.
_FEWEST_CELLS = 16
# Repeated at most and at least so often.
_LARGEST_RATIO, _SMALLEST_RATIO = 32.0, 1.1
# Of the borders between cells, how many must be seen.
_SEEN_BORDERS = 0.7
# Neighbours that differ by more than this share of the nearer one lie on two surfaces.
_JUMP = 0.05
_NOISY_FACTORS = (4, 3, 2)
# Where noise was added to repeated pixels, at most this share of the jumps that there would be by
# chance are inside of cells, and chance would have it so with a probability of exp(-14) at most.
_LARGEST_INSIDE, _LEAST_EVIDENCE = 0.3, 14.0
# Rows (or columns) that tell where columns (or rows) change; to see that there is nothing, few will
# do.
_LINES, _FEW_LINES = 120, 8
_BY_CORNER, _BY_CENTRE = 0, 1  # see `_cells`


class _Axis(NamedTuple):
    """Repeated rows or columns of a map.

    Attributes:
        samples: (cells,), a row or column of each cell.
        cells: (rows or columns,), in which cell each lies.
    """

    samples: NDArray[np.intp]
    cells: NDArray[np.intp]


class NearestUpsamplingMemory:
    """Undoes the upsampling of one camera's maps.

    Which pixels are repeated is the same in all of them, and takes longer to find than to see.
    """

    def __init__(self) -> None:
        self._size: tuple[int, ...] = ()
        self._repeated: tuple[_Axis, _Axis] | None = None

    def __call__(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `undo_nearest_upsampling`, with the maps of one camera in their order."""
        if self._repeated is None or depth.shape != self._size or not self._as_before(depth):
            self._size, self._repeated = depth.shape, _repeated(depth)
        if self._repeated is None:
            return _without_noisy_repetition(depth)
        rows, columns = self._repeated
        return depth[np.ix_(rows.samples, columns.samples)]

    def _as_before(self, depth: NDArray[np.float32]) -> bool:
        """Whether the pixels of some rows are repeated as those of the last map were."""
        assert self._repeated is not None
        rows, columns = self._repeated
        # An odd step, as in `_neighbours`.
        looked_at = np.arange(0, len(depth), len(depth) // _LINES | 1)
        measured = _measured(depth[looked_at])
        repeated = depth[rows.samples[rows.cells[looked_at]]][:, columns.samples[columns.cells]]
        return bool(measured.any()) and np.array_equal(_measured(repeated), measured)


def undo_nearest_upsampling(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """The map from which `depth` was made by nearest-neighbour upsampling.

    Found are repeated pixels that are equal, at any ratio of 1.1 to 32, and, where noise was added
    afterwards, cells of 2x2, 3x3 or 4x4 pixels.

    Args:
        depth: float32 (h, w), metres; 0, NaN and infinities are no measurement.

    Returns:
        float32, smaller: one measurement of each cell, as in `depth` (where noise makes them
        differ, the lower median; 0 = no measurement). `depth` itself where nothing is repeated.
    """
    return NearestUpsamplingMemory()(depth)


def _repeated(depth: NDArray[np.float32]) -> tuple[_Axis, _Axis] | None:
    """Rows and columns that are equal in all of their cells; None where they are not."""
    rows = _exact_cells(depth, 0)
    columns = None if rows is None else _exact_cells(depth, 1)
    if rows is None or columns is None:
        return None
    smaller = depth[np.ix_(rows.samples, columns.samples)]
    # Points on a grid repeat nothing but the emptiness between them.
    whole = np.count_nonzero(_measured(smaller)) == np.count_nonzero(_measured(depth))
    return None if whole else (rows, columns)


def _without_noisy_repetition(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """One measurement of each cell where noise was added to repeated pixels; else `depth`."""
    jumps = [_jumps(depth, axis) for axis in (0, 1)]
    for factor in _NOISY_FACTORS:
        if _in_cells(jumps, factor):
            return lower_medians(depth, factor)
    return depth


def _measured(depth: NDArray) -> NDArray:
    """0 where nothing is measured."""
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def _neighbours(depth: NDArray, axis: int, lines: int) -> tuple[NDArray, NDArray]:
    """Along `axis`, in about so many of the lines: (n - 1, lines) each."""
    along = depth if axis == 0 else depth.T
    # An odd step: an even one would see the same line of each cell.
    values = _measured(along[:, :: along.shape[1] // lines | 1])
    return values[:-1], values[1:]


def _exact_cells(depth: NDArray, axis: int) -> _Axis | None:
    """Rows (axis 0) or columns that are repeated; None where none is."""
    length = depth.shape[axis]
    for lines in (_FEW_LINES, _LINES):
        before, behind = _neighbours(depth, axis, lines)
        changes = (before != behind).any(axis=1)
        borders = int(changes.sum())
        if not _FEWEST_CELLS * _SEEN_BORDERS <= borders + 1 <= length / _SMALLEST_RATIO:
            return None
    counts, possible = _possible_borders(length)
    fewest, most = np.searchsorted(counts, [borders + 1, (borders + 1) / _SEEN_BORDERS])
    fitting = possible[fewest:most][..., changes].all(axis=2)
    for number, convention in np.argwhere(fitting).tolist():
        count = int(counts[fewest + number])
        place = np.arange(count)
        # Never a pixel that may be of either cell, if the cell has another.
        samples = (2 * place + 1) * length // (2 * count)
        if convention == _BY_CORNER:
            samples = -((-place - 1) * length // count) - 1
        # In all lines, so that nothing is lost.
        values = _measured(depth if axis == 0 else depth.T)
        cells = _cells(length, count, convention)
        same = [values == values[samples[one]] for one in cells]
        if (same[0] | same[1]).all():
            return _Axis(samples, np.where(same[0].all(axis=1), *cells))
    return None


def _cells(length: int, count: int, convention: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """In which of `count` cells each of `length` pixels lies.

    Its upper left corner decides (convention 0, OpenCV's INTER_NEAREST) or its centre (1:
    INTER_NEAREST_EXACT, Pillow, torch's 'nearest-exact'). Where that is on a border, both cells are
    possible, as rounding will have it.
    """
    position = (2 * np.arange(length) + convention) * count
    return position // (2 * length), (-(-position // (2 * length)) - 1).clip(0)


@functools.lru_cache(maxsize=4)
def _possible_borders(length: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Numbers of cells, fewest first, and between which neighbours these may end.

    Returns:
        (candidates,), and (candidates, conventions, length - 1).
    """
    fewest = max(_FEWEST_CELLS, math.ceil(length / _LARGEST_RATIO))
    counts = np.arange(fewest, int(length / _SMALLEST_RATIO) + 1)
    borders = np.empty((len(counts), 2, length - 1), bool)
    for row, count in zip(borders, counts, strict=True):
        for convention in (_BY_CORNER, _BY_CENTRE):
            ends = [np.diff(cells) > 0 for cells in _cells(length, int(count), convention)]
            row[convention] = ends[0] | ends[1]
    return counts, borders


def _jumps(depth: NDArray, axis: int) -> NDArray[np.intp]:
    """How often depth jumps, or ends, between neighbours along `axis`: (n - 1,)."""
    before, behind = _neighbours(depth, axis, _LINES)
    return (np.abs(before - behind) > _JUMP * np.minimum(before, behind)).sum(axis=1)


def _in_cells(jumps: list[NDArray], factor: int) -> bool:
    """Whether jumps along rows and along columns avoid the insides of cells of `factor` pixels."""
    chance = 1.0 - 1.0 / factor
    evidence = 0.0
    for counts in jumps:
        total = counts.sum()
        if (len(counts) + 1) % factor or total == 0:
            return False
        inside = 1.0 - counts[factor - 1 :: factor].sum() / total
        if inside > _LARGEST_INSIDE * chance:
            return False
        # Independent ones: one straight outline is many jumps in one place.
        places = total**2 / np.square(counts).sum()
        # Of that many draws, by Chernoff's bound; the logarithm of 0 has no weight.
        evidence += places * inside * math.log(max(inside, 1e-9) / chance)
        evidence += places * (1.0 - inside) * math.log((1.0 - inside) / (1.0 - chance))
    return evidence >= _LEAST_EVIDENCE


def lower_medians(depth: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Of the measurements in each cell; 0 where there are none."""
    height, width = (length // factor for length in depth.shape)
    cells = _measured(depth).reshape(height, factor, width, factor).transpose(0, 2, 1, 3)
    cells = np.sort(cells.reshape(height, width, factor**2), axis=2)
    missing = (cells == 0).sum(axis=2, keepdims=True)
    place = missing + (factor**2 - missing - 1).clip(0) // 2
    return np.take_along_axis(cells, place.clip(max=factor**2 - 1), axis=2)[..., 0]
