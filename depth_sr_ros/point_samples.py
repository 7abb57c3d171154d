# SPDX-License-Identifier: Apache-2.0
"""Depth maps whose values are single points: which pixel of each cell they are of.

Who makes a depth map smaller with cv2.INTER_NEAREST or `depth[::4, ::4]` keeps the first pixel of
each cell; taken for the middle, every outline is off by half a cell. No depth map tells which pixel
it was. The RGB image does: it changes where depth jumps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
