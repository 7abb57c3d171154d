# SPDX-License-Identifier: Apache-2.0
"""Relative depth as a large Depth Anything would give it, imitated from the truth."""

from __future__ import annotations

import cv2
import numpy as np

_PATCH = 14
# Pixels of an image of 480 lines by which the nearest outlines of a guide are beside the image's.
_NEAREST_MISPLACED, _FARTHEST_MISPLACED = 0.5, 10.0


def _smooth_field(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field with values around [-1, 1]; float32 of `shape`."""
    coarse = rng.uniform(-1, 1, (cells, cells + 1)).astype(np.float32)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def imitate_guide(
    truth: np.ndarray, rng: np.random.Generator, quality: float | None = None
) -> np.ndarray:
    """Degrade true depth to what a monocular network knows of it.

    Inverse depth under a random monotone warp, with affine errors that change from region to
    region, low-passed towards the 14-pixel grid of the network, thin structures missing.

    Args:
        truth: float32 (H, W), metres; 0 where unknown (taken as infinitely far).
        rng: source of all randomness.
        quality: 0 (poor) to 1 (as good as the best); None draws one.

    Returns:
        float32 (H, W): relative inverse depth, larger is nearer.
    """
    if quality is None:
        quality = float(rng.uniform(0, 1))
    fault = 1.0 - quality
    height, width = truth.shape
    inverse = np.zeros_like(truth, dtype=np.float32)
    np.divide(1.0, truth, out=inverse, where=truth > 0)
    near = float(np.percentile(inverse, 99.5))
    far = float(np.percentile(inverse, 0.5))
    relative = np.clip((inverse - far) / max(near - far, 1e-9), 0.0, 1.2)
    if rng.random() < 0.3 + 0.4 * fault:
        size = int(rng.integers(2, 3 + round(6 * fault)))
        kernel = np.ones((size, size), np.uint8)
        relative = cv2.morphologyEx(relative, cv2.MORPH_OPEN, kernel)
    exponent = float(np.exp(rng.uniform(-1, 1) * (0.15 + 0.5 * fault)))
    relative = relative**exponent
    # A network misjudges whole regions, and where they end is where the depth jumps.
    for _ in range(int(rng.integers(0, 3))):
        region = relative > rng.uniform(0.1, 0.9)
        gain = 1.0 + rng.uniform(-1, 1) * 0.25 * fault
        relative = np.where(region, relative * gain + rng.uniform(-1, 1) * 0.1 * fault, relative)
    cells = int(rng.integers(2, 6))
    relative = relative * (1.0 + 0.2 * fault * _smooth_field(relative.shape, cells, rng))
    relative += 0.1 * fault * _smooth_field(relative.shape, cells, rng)
    # Detail per patch: one value for the poorest, up to seven by seven for the best, whose head
    # (DPT: Ranftl et al., ICCV 2021) ends with eight, of an image of 518 pixels.
    short_side = float(rng.uniform(196 + 180 * quality, 518))
    detail = 7.0 ** float(rng.uniform(0.6 * quality, 0.4 + 0.6 * quality))
    factor = min(1.0, short_side / _PATCH * detail / min(height, width))
    small = (max(2, round(width * factor)), max(2, round(height * factor)))
    blurred = cv2.resize(relative.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    return cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)


def misplace_guide(guide: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move a guide's outlines beside those of the image that it belongs to.

    As those of a guide are that was kept while the camera turned and moved (`guide_interval`): what
    is near moves most. A smooth field adds what networks draw beside the outlines.

    Args:
        guide: float32 (H, W), relative inverse depth, finite.
        rng: source of all randomness.

    Returns:
        float32 (H, W). What is nearest has moved by a distance drawn from 0.5 to 10 pixels of an
        image of 480 lines, what is farther by as much or less; to that the field adds up to about
        a third of the distance along each axis.
    """
    height, width = guide.shape
    low, high = np.log([_NEAREST_MISPLACED, _FARTHEST_MISPLACED])
    distance = float(np.exp(rng.uniform(low, high))) * min(height, width) / 480
    angle = float(rng.uniform(0, 2 * np.pi))
    nearness = (guide - guide.min()) / max(float(np.ptp(guide)), 1e-9)
    # How much of it is translation: rotation moves all alike.
    shift = distance * (1.0 - float(rng.uniform(0, 1)) * (1.0 - nearness))
    moved = []
    for direction in (np.cos(angle), np.sin(angle)):
        field = 0.3 * distance * _smooth_field(guide.shape, int(rng.integers(2, 9)), rng)
        moved.append((shift * direction + field).astype(np.float32))
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32),
                                np.arange(height, dtype=np.float32))  # fmt: skip
    return cv2.remap(
        guide,
        columns + moved[0],
        rows + moved[1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
