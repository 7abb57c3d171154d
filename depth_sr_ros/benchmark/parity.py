# SPDX-License-Identifier: Apache-2.0
"""How far a variant's output is from the reference's, and what that does to the error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from depth_sr_ros.benchmark.frames import Frame


def parity(
    outputs: Sequence[np.ndarray], references: Sequence[np.ndarray], frames: Sequence[Frame]
) -> dict[str, Any]:
    """Compare float32 (H, W) outputs with the reference's, over all pixels of all frames.

    Returns:
        'median' and 'p99' of the relative difference, and 'rmse_ratio': the RMSE against the
        truth over the reference's.
    """
    ours, reference, truth = (
        np.concatenate([image.ravel() for image in images]).astype(np.float64)
        for images in (outputs, references, [frame.truth for frame in frames])
    )
    difference = np.abs(ours - reference) / np.maximum(np.abs(reference), 1e-9)
    known = np.isfinite(truth) & (truth > 0)

    def rmse(values: np.ndarray) -> float:
        return float(np.sqrt(np.mean((values[known] - truth[known]) ** 2)))

    median, p99 = np.percentile(difference, (50, 99))
    return {
        'median': float(median),
        'p99': float(p99),
        'rmse_ratio': rmse(ours) / max(rmse(reference), 1e-12),
    }
