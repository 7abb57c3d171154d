# SPDX-License-Identifier: Apache-2.0
"""Pictures of what the network sees and makes, for TensorBoard and `train --preview`."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

_SIDE = 160


def _colours(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    scaled = np.clip((depth - near) / max(far - near, 1e-6), 0, 1)
    picture = cv2.applyColorMap((255 - scaled * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    picture[depth <= 0] = 0
    return picture[..., ::-1]


def sample_sheet(batch: dict[str, Tensor], depth: Tensor | None = None, limit: int = 64):
    """One row per two samples: RGB, measured depth, interpolated, guide, truth[, result].

    Args:
        batch: of `depth_sr_ros.training.samples`.
        depth: float32 (B, 1, H, W), metres: the network's output; None leaves the column out.
        limit: at most this many samples.

    Returns:
        uint8 (rows, columns, 3) RGB.
    """
    rows = []
    for index in range(min(limit, batch['rgb'].shape[0])):
        truth = batch['truth'][index, 0].cpu().numpy()
        known = truth[truth > 0] if (truth > 0).any() else np.ones(1)
        near, far = np.percentile(known, [1, 99])
        interpolated = batch['interpolated'][index, 0].cpu().numpy()
        measured = np.where(batch['validity'][index, 0].cpu().numpy() > 0, interpolated, 0)
        relative = batch['relative'][index, 0].cpu().numpy()
        tiles = [
            (batch['rgb'][index].permute(1, 2, 0).cpu().numpy() * 255).astype(np.uint8),
            _colours(measured, near, far),
            _colours(interpolated, near, far),
            # Inverse depth: near is large.
            _colours(4.0 - np.clip(relative, -2, 3), 1.0, 6.0),
            _colours(truth, near, far),
        ]
        if depth is not None:
            tiles.append(_colours(depth[index, 0].cpu().numpy(), near, far))
        tiles = [cv2.resize(tile, (_SIDE, _SIDE)) for tile in tiles]
        rows.append(np.concatenate(tiles, axis=1))
    if len(rows) % 2:
        rows.append(np.zeros_like(rows[0]))
    half = len(rows) // 2
    gap = np.full((_SIDE, 8, 3), 255, np.uint8)
    return np.concatenate(
        [np.concatenate([rows[i], gap, rows[i + half]], axis=1) for i in range(half)], axis=0
    )
