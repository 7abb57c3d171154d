# SPDX-License-Identifier: Apache-2.0
"""What is put before every method: an RGB image, poor depth, the truth, and where to score."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from depth_sr_ros.data.frame import RGBDFrame
from depth_sr_ros.evaluation.metrics import has_depth


@dataclass
class Case:
    """
    One image to score.

    rgb: uint8 (H, W, 3). depth: float32 (h, w), what methods are given. truth: float32 (H, W).
    mask: bool (H, W), where to score beside `truth > 0`; None = everywhere.
    """

    name: str
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    truth: NDArray[np.float32]
    mask: NDArray[np.bool_] | None = None

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """Pixels of the RGB image whose cell of the input holds a measurement; bool (H, W)."""
        valid = has_depth(self.depth).astype(np.uint8)
        size = self.rgb.shape[1::-1]
        return cv2.resize(valid, size, interpolation=cv2.INTER_NEAREST_EXACT) > 0

    @cached_property
    def digest(self) -> str:
        """Hash of all that a score depends on beside the method: for caches."""
        sha = hashlib.sha256()
        for array in (self.rgb, self.depth, self.truth, self.mask):
            if array is not None:
                sha.update(str(array.shape).encode())
                sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()[:20]


def frame_generator(seed: int, name: str) -> np.random.Generator:
    """Return the random generator of a frame: the same however many frames stand before it."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def degraded_cases(
    frames: Iterable[RGBDFrame],
    degradation: Callable[..., NDArray[np.float32]],
    seed: int = 0,
) -> list[Case]:
    """Take each frame's depth as the truth and its degradation as the input."""
    cases = []
    for frame in frames:
        if frame.depth.shape != frame.rgb.shape[:2]:
            raise ValueError(
                f'{frame.name}: depth {frame.depth.shape} cannot be the truth for '
                f'RGB {frame.rgb.shape[:2]}: it must have its size'
            )
        depth = degradation(frame.rgb, frame.depth, frame_generator(seed, frame.name))
        cases.append(Case(frame.name, frame.rgb, depth, frame.depth))
    return cases


def _last_number(name: str) -> int | None:
    numbers = re.findall(r'\d+', name)
    return int(numbers[-1]) if numbers else None


def paired_cases(
    inputs: Iterable[RGBDFrame],
    truths: Sequence[RGBDFrame],
    mask_of: Callable[[str], NDArray[np.bool_] | None] | None = None,
) -> list[Case]:
    """
    Score raw depth against the truth of another folder.

    Pairs have the same name, or else the same last number in it (`redwood_3` and `00003`).
    mask_of: where to score, by the input's name. Raises ValueError for an input without truth.
    """
    by_name = {frame.name: frame for frame in truths}
    by_number = {_last_number(frame.name): frame for frame in truths}
    cases = []
    for frame in inputs:
        truth = by_name.get(frame.name) or by_number.get(_last_number(frame.name))
        if truth is None:
            raise ValueError(f'{frame.name}: no truth of that name or number')
        if truth.depth.shape != frame.rgb.shape[:2]:
            raise ValueError(
                f'{frame.name}: truth {truth.depth.shape} must have the size of '
                f'RGB {frame.rgb.shape[:2]}'
            )
        mask = mask_of(frame.name) if mask_of else None
        cases.append(Case(frame.name, frame.rgb, frame.depth, truth.depth, mask))
    return cases


def suffix_pairs(
    frames: Sequence[RGBDFrame],
    input_suffix: str,
    truth_suffix: str,
    mask_of: Callable[[str], NDArray[np.bool_] | None] | None = None,
) -> list[Case]:
    """Score `NAME + input_suffix` against `NAME + truth_suffix` of the same folder."""
    by_name = {frame.name: frame for frame in frames}
    inputs = [frame for frame in frames if frame.name.endswith(input_suffix)]
    if not inputs:
        raise ValueError(f'no frame whose name ends in {input_suffix!r}')
    cases = []
    for frame in inputs:
        partner = frame.name.removesuffix(input_suffix) + truth_suffix
        if partner not in by_name:
            raise ValueError(f'{frame.name}: {partner} is missing')
        mask = mask_of(frame.name) if mask_of else None
        cases.append(Case(frame.name, frame.rgb, frame.depth, by_name[partner].depth, mask))
    return cases


def hidden_cases(
    frames: Iterable[RGBDFrame], seed: int = 0, share: float = 0.1, sides: tuple = (16, 80)
) -> list[Case]:
    """
    Hide blocks of a raw sensor's own measurements and score those pixels only.

    Blocks with sides drawn from `sides` (pixels), centred on measurements, until `share` of the
    measured pixels is hidden. The truth is as noisy as the sensor.
    """
    cases = []
    for frame in frames:
        rng = frame_generator(seed, frame.name)
        valid = has_depth(frame.depth)
        rows, columns = np.nonzero(valid)
        hidden = np.zeros(valid.shape, bool)
        while rows.size and (hidden & valid).sum() < share * rows.size:
            centre = rng.integers(rows.size)
            height, width = rng.integers(sides[0], sides[1], endpoint=True, size=2)
            top = max(rows[centre] - height // 2, 0)
            left = max(columns[centre] - width // 2, 0)
            hidden[top : top + height, left : left + width] = True
        depth = np.where(hidden, 0, frame.depth).astype(np.float32)
        cases.append(Case(frame.name, frame.rgb, depth, frame.depth, hidden))
    return cases


def part_measured(cases: Iterable[Case]) -> tuple[list[Case], list[str]]:
    """Part cases into those with depth to see and to score, and the names of the others."""
    kept, left_out = [], []
    for case in cases:
        if has_depth(case.depth).any() and has_depth(case.truth).any():
            kept.append(case)
        else:
            left_out.append(case.name)
    return kept, left_out


def cropped(case: Case, size: tuple[int, int], seed: int = 0) -> Case:
    """
    Cut a window of `size` (H, W) out of a case; the case itself where it is no larger.

    The window lies on the input's cells, so that every measurement keeps its place.
    """
    height, width = case.truth.shape
    rows, columns = case.depth.shape
    step_v, step_u = height // rows, width // columns
    if (rows * step_v, columns * step_u) != (height, width):
        raise ValueError(f'{case.name}: {height}x{width} is no multiple of {rows}x{columns}')
    rng = frame_generator(seed, case.name)
    tall, wide = min(size[0] // step_v, rows), min(size[1] // step_u, columns)
    row, column = rng.integers(rows - tall + 1), rng.integers(columns - wide + 1)
    cells = np.s_[row : row + tall, column : column + wide]
    pixels = np.s_[row * step_v : (row + tall) * step_v, column * step_u : (column + wide) * step_u]
    return Case(
        case.name,
        np.ascontiguousarray(case.rgb[pixels]),
        np.ascontiguousarray(case.depth[cells]),
        np.ascontiguousarray(case.truth[pixels]),
        None if case.mask is None else case.mask[pixels],
    )
