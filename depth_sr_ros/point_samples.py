# SPDX-License-Identifier: Apache-2.0
"""Depth maps whose values are single points: which pixel of each cell they are of.

Who makes a depth map smaller with cv2.INTER_NEAREST or `depth[::4, ::4]` keeps the first pixel of
each cell; taken for the middle, every outline is half a cell off. The depth map does not tell which
pixel it was. The RGB image does: it changes where depth jumps, and on the whole frame that shows,
however many other edges there are.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from depth_sr_ros.model.consistency import averaged
from depth_sr_ros.model.interpolation import valid_mask

# More pixels than this to a cell's side were not measured.
_LARGEST_FACTOR = 16
# Neighbours that differ by more than this share of the nearer one have an outline between them. So
# many of them are looked at in each direction, and with fewer than the least nothing is said.
_JUMP = 0.1
_MOST_OUTLINES, _FEWEST_OUTLINES = 3000, 20
# Steps of a channel above this (of 255) are all the same: a light's outline is none of depth.
_LARGEST_STEP = 40
# Standard errors between two places of the points, and cells of an outline that count as one.
_EVIDENCE, _PIECE = 2.5, 16
# Of `averaged`: below the smaller one cells are points, above the other means.
_POINTS, _MEANS = 0.25, 0.75
# Frames that told, and how rarely one is looked at once they agree.
_REMEMBERED, _SETTLED_INTERVAL = 15, 10


def place_points(
    depth: NDArray[np.float32], factor: int, phase: tuple[int, int]
) -> NDArray[np.float32]:
    """The map at RGB's size that has each measurement at the pixel that it is of.

    Args:
        depth: float32 (h, w), metres; 0 = no measurement.
        factor: pixels of a cell in each direction.
        phase: row and column in each cell, 0 to factor - 1.

    Returns:
        float32 (h * factor, w * factor); 0 at all other pixels.
    """
    height, width = depth.shape
    placed = np.zeros((height * factor, width * factor), np.float32)
    placed[phase[0] :: factor, phase[1] :: factor] = depth
    return placed


class Sampling(NamedTuple):
    """What the values of a depth map of low resolution are.

    Attributes:
        phase: row and column in its cell of the pixel that a value is of; None for the mean of what
            the cell sees.
    """

    phase: tuple[int, int] | None


MEANS = Sampling(None)
#: Called as `find_sampling`.
FindSampling = Callable[[NDArray[np.uint8], NDArray[np.float32]], Sampling | None]


def cell_factor(rgb_size: tuple[int, ...], depth_size: tuple[int, ...]) -> int | None:
    """Pixels of a cell in each direction: 2 to 16; None for another size or no whole number.

    Args:
        rgb_size: (H, W).
        depth_size: (h, w).
    """
    factor = rgb_size[0] // depth_size[0]
    whole = tuple(rgb_size) == tuple(factor * side for side in depth_size)
    return factor if whole and 2 <= factor <= _LARGEST_FACTOR else None


def find_sampling(rgb: NDArray[np.uint8], depth: NDArray[np.float32]) -> Sampling | None:
    """Whether the values of a depth map are means or points, and of which pixels.

    Told apart are the first pixel of each cell (cv2.INTER_NEAREST, slices) and the one at or after
    its middle (cv2.INTER_NEAREST_EXACT, Pillow).

    Args:
        rgb: uint8 (H, W, 3).
        depth: float32 (h, w), metres; 0, NaN and infinities are no measurement.

    Returns:
        None where this frame does not tell, and for sizes without a `cell_factor`.
    """
    factor = cell_factor(rgb.shape[:2], depth.shape)
    if factor is None:
        return None
    measured = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    evidence = [
        _for_the_first(image, values, factor)
        for image, values in ((rgb, measured), (rgb.transpose(1, 0, 2), measured.T))
    ]
    known = [value for value in evidence if value is not None]
    if not known:
        return None
    tensor = torch.from_numpy(measured)[None, None]
    share = float(averaged(tensor, valid_mask(tensor)))
    if share > _MEANS:
        return MEANS
    if share > _POINTS or abs(sum(known)) < _EVIDENCE * math.sqrt(2.0):
        return None
    place = 0 if sum(known) > 0 else factor // 2
    return Sampling((place, place))


class SamplingMemory:
    """What a camera's depth maps are, as most of its last frames have it.

    Not every frame tells, and one may be wrong: without memory outlines would move to and fro by
    half a cell.
    """

    def __init__(self) -> None:
        self._size: tuple[int, ...] = ()
        self._found: deque[Sampling] = deque(maxlen=_REMEMBERED)
        self._unseen = 0

    def __call__(self, rgb: NDArray[np.uint8], depth: NDArray[np.float32]) -> Sampling | None:
        """As `find_sampling`, with the frames of one camera in their order."""
        size = (*rgb.shape, *depth.shape)
        if size != self._size:
            self._size, self._unseen = size, 0
            self._found.clear()
        if self._unseen == 0:
            found = find_sampling(rgb, depth)
            if found is not None:
                self._found.append(found)
        # A camera stays what it is: once that is settled, a frame now and then will do.
        settled = len(self._found) == _REMEMBERED and len(set(self._found)) == 1
        self._unseen = (self._unseen + 1) % _SETTLED_INTERVAL if settled else 0
        return max(self._found, key=self._found.count) if self._found else None


def _for_the_first(rgb: NDArray[np.uint8], depth: NDArray[np.float32], factor: int) -> float | None:
    """How much more the image changes between the first pixels of cells whose depths differ.

    More than between their middles, along the second axis; in standard errors. None where there are
    few outlines.
    """
    one, other = depth[:, :-1], depth[:, 1:]
    nearer = np.minimum(one, other)
    rows, columns = np.nonzero((nearer > 0) & (np.abs(one - other) > _JUMP * nearer))
    # Half a cell beyond the second one must be seen, too.
    inside = (columns + 2) * factor < rgb.shape[1]
    rows, columns = rows[inside], columns[inside]
    step = len(rows) // _MOST_OUTLINES + 1
    rows, columns = rows[::step] * factor + factor // 2, columns[::step] * factor
    if len(rows) < _FEWEST_OUTLINES:
        return None
    pixels = rgb[rows[:, None], columns[:, None] + np.arange(2 * factor)].astype(np.int16)
    changes = np.abs(np.diff(pixels, axis=1)).clip(max=_LARGEST_STEP).sum(axis=2)
    # Of both intervals, what the other does not have: before the first middle, and after the second
    # cell's first pixel. A middle between two pixels has half of the step between them.
    half = (factor - 1) // 2
    difference = changes[:, :half].sum(axis=1) - changes[:, factor : factor + half].sum(axis=1)
    if factor % 2 == 0:
        difference = difference + 0.5 * (changes[:, half] - changes[:, factor + half])
    # Along one straight outline all have the same place: what is independent are pieces of columns.
    pieces = columns // factor * rgb.shape[0] + rows // (_PIECE * factor)
    sums = np.bincount(np.unique(pieces, return_inverse=True)[1], weights=difference)
    return float(sums.sum()) / max(float(np.sqrt(np.square(sums).sum())), 1e-6)
