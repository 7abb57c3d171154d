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
# Neighbours that differ by more than this share of the nearer one have an outline between them; of
# means only steep ones tell (`averaged`). So many are looked at in each direction, and with fewer
# than the least nothing is said.
_JUMP, _STEEP_JUMP = 0.1, 0.2
_MOST_OUTLINES, _FEWEST_OUTLINES = 3000, 20
# Standard errors between two places of the points, and cells of an outline that count as one.
_EVIDENCE, _PIECE = 2.5, 16
# Rows and columns that disagree by more than this each are no phase, but a calibration that is off.
_CONTRADICTION = 2.0
# Of `averaged`: below the smaller one cells are points, above the other means. It is asked of the
# middle of the map, at most so high and wide: it costs more than the rest.
_POINTS, _MEANS = 0.25, 0.75
_LARGEST_MIDDLE = (240, 320)
# Frames that told; and by how many another answer must lead to take the place of the last one.
_REMEMBERED, _LEAD = 15, 5
# A look takes longer than a GPU's share of a frame, and a camera changes how it samples with its
# mode, if ever. After so many frames that agree with what is known, or that tell nothing, one in so
# many is looked at; in fewer where nothing is known yet.
_SETTLED_AFTER, _SETTLED_INTERVAL, _SILENT_INTERVAL = 5, 300, 30


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
            the cell sees, or for its middle, where maps without a phase are taken to be.
    """

    phase: tuple[int, int] | None


CENTRED = Sampling(None)
#: Called as `find_sampling`.
FindSampling = Callable[[NDArray[np.uint8], NDArray[np.float32]], Sampling | None]


def cell_factor(rgb_size: tuple[int, ...], depth_size: tuple[int, ...]) -> int | None:
    """Pixels of a cell in each direction: 2 to 16; None for another size or no whole number.

    Args:
        rgb_size: (H, W).
        depth_size: (h, w).
    """
    factor = rgb_size[0] // max(1, depth_size[0])
    whole = tuple(rgb_size) == tuple(factor * side for side in depth_size)
    return factor if whole and 2 <= factor <= _LARGEST_FACTOR else None


def find_sampling(rgb: NDArray[np.uint8], depth: NDArray[np.float32]) -> Sampling | None:
    """Whether the values of a depth map are means or points, and of which pixels.

    Told apart are the first pixel of each cell (cv2.INTER_NEAREST, slices) and the one at or after
    its middle (cv2.INTER_NEAREST_EXACT, Pillow), which is half a pixel off in cells of 2x2 and of
    no account in larger ones.

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
    share = _averaged_share(measured)
    if share is None:
        return None
    if share > _MEANS:
        return CENTRED
    contradiction = min(known) < -_CONTRADICTION and max(known) > _CONTRADICTION
    # Where absurd values leave no number, nothing is told.
    if not share <= _POINTS or contradiction or abs(sum(known)) < _EVIDENCE * math.sqrt(2.0):
        return None
    if sum(known) > 0:
        return Sampling((0, 0))
    # On rendered scenes the network gains nothing by the middle of larger cells.
    return Sampling((1, 1)) if factor == 2 else CENTRED


class SamplingMemory:
    """What a camera's depth maps are, as most of its last frames have it.

    Not every frame tells, and one may be wrong: without memory outlines would move to and fro by
    half a cell.
    """

    def __init__(self) -> None:
        self._start(())

    def _start(self, size: tuple[int, ...]) -> None:
        self._size = size
        self._found: deque[Sampling] = deque(maxlen=_REMEMBERED)
        self._answer: Sampling | None = None
        # Frames looked at since one brought another answer, and passed over since the last look.
        self._without_news = self._passed = 0

    def __call__(self, rgb: NDArray[np.uint8], depth: NDArray[np.float32]) -> Sampling | None:
        """As `find_sampling`, with the frames of one camera in their order."""
        size = (*rgb.shape, *depth.shape)
        if size != self._size:
            # Another camera, or another mode of it.
            self._start(size)
        settled = self._without_news >= _SETTLED_AFTER
        interval = _SILENT_INTERVAL if self._answer is None else _SETTLED_INTERVAL
        self._passed = (self._passed + 1) % interval if settled else 0
        if self._passed == 0:
            self._look(rgb, depth)
        return self._answer

    def _look(self, rgb: NDArray[np.uint8], depth: NDArray[np.float32]) -> None:
        found = find_sampling(rgb, depth)
        self._without_news = self._without_news + 1 if found in (None, self._answer) else 0
        if found is None:
            return
        self._found.append(found)
        best = max(self._found, key=self._found.count)
        lead = self._found.count(best)
        if self._answer is not None:
            lead -= self._found.count(self._answer)
        if self._answer is None or lead >= _LEAD:
            self._answer = best


def _outlines(depth: NDArray[np.float32], jump: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels whose right neighbour is `jump` nearer or farther."""
    one, other = depth[:, :-1], depth[:, 1:]
    nearer = np.minimum(one, other)
    rows, columns = np.nonzero((nearer > 0) & (np.abs(one - other) > jump * nearer))
    return rows, columns


def _averaged_share(depth: NDArray[np.float32]) -> float | None:
    """`averaged` of the middle of (h, w) metres, 0 to 1; None where it has few steep outlines."""
    low = [
        max(0, side - most) // 2 for side, most in zip(depth.shape, _LARGEST_MIDDLE, strict=True)
    ]
    window = tuple(slice(start, side - start) for start, side in zip(low, depth.shape, strict=True))
    middle = np.ascontiguousarray(depth[window])
    steep = sum(len(_outlines(values, _STEEP_JUMP)[0]) for values in (middle, middle.T))
    if steep < _FEWEST_OUTLINES:
        return None
    tensor = torch.from_numpy(middle)[None, None]
    return float(averaged(tensor, valid_mask(tensor)))


def _for_the_first(rgb: NDArray[np.uint8], depth: NDArray[np.float32], factor: int) -> float | None:
    """How much more the image changes between the first pixels of cells whose depths differ.

    More than between their middles, along the second axis.

    Args:
        rgb: uint8 (h * factor, w * factor, 3).
        depth: float32 (h, w), metres; 0 = no measurement.
        factor: pixels of a cell in each direction.

    Returns:
        Standard errors, below 0 for the middles; None where there are few outlines.
    """
    rows, columns = _outlines(depth, _JUMP)
    step = len(rows) // _MOST_OUTLINES + 1
    rows, columns = rows[::step] * factor + factor // 2, columns[::step] * factor
    if len(rows) < _FEWEST_OUTLINES:
        return None
    pixels = rgb[rows[:, None], columns[:, None] + np.arange(2 * factor)].astype(np.int16)
    changes = np.abs(np.diff(pixels, axis=1)).sum(axis=2)
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
