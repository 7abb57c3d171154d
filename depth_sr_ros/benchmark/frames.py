# SPDX-License-Identifier: Apache-2.0
"""What the benchmark shows to everybody: frames of the demo's clip at any size, with truth."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.data.demo_clip import DemoClip

DEPTH_SCALE = 4
_COUNT = 4


class Frame(NamedTuple):
    """uint8 (H, W, 3); float32 (h, w), metres, with noise; float32 (H, W), metres."""

    rgb: np.ndarray
    depth: np.ndarray
    truth: np.ndarray


def benchmark_frames(size: tuple[int, int]) -> list[Frame]:
    """Four different frames of (W, H), so that no cache makes the second one cheaper.

    Depth comes at a quarter of the size with 1% noise.
    """
    clip = DemoClip()
    degrade = parse_degradation(f'scale={DEPTH_SCALE},noise=0.01')
    frames = []
    for number in range(_COUNT):
        index = number * len(clip) // (2 * _COUNT)
        rgb = _fitted(clip.rgb(index), size, cv2.INTER_AREA)
        truth = _fitted(clip.depth_truth(index), size, cv2.INTER_NEAREST_EXACT)
        depth = degrade(rgb, truth, np.random.default_rng(number))
        frames.append(Frame(rgb, depth, truth))
    return frames


def _fitted(image: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """The middle of the image, of the right aspect, resized to (W, H)."""
    height, width = image.shape[:2]
    scale = min(width / size[0], height / size[1])
    columns, rows = round(size[0] * scale), round(size[1] * scale)
    left, top = (width - columns) // 2, (height - rows) // 2
    cut = np.ascontiguousarray(image[top : top + rows, left : left + columns])
    return cv2.resize(cut, size, interpolation=interpolation)
