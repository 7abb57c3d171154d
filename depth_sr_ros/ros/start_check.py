# SPDX-License-Identifier: Apache-2.0
"""Checks at start that the pipeline answers in metres, before anything is published."""

from __future__ import annotations

from typing import Any

import numpy as np

_DISTANCE = 2.0
_TOLERANCE = 0.25
_RGB_SIZE = (160, 120)
_DEPTH_SIZE = (80, 60)


class StartCheckError(RuntimeError):
    """The pipeline's answer to a known input is not what it must be."""


def check_pipeline(pipeline: Any) -> None:
    """Show the pipeline a flat wall 2 m away with every pixel measured; it must see it there.

    Engines have been known to change the scale of depth without a word (an engine's new version, a
    precision that overflows). No trained network may be off by 25% here.

    Raises:
        StartCheckError: the depth that came back is not finite or not near 2 m.
    """
    rgb_size, depth_size = (getattr(pipeline, 'fixed_sizes', None) or (_RGB_SIZE, _DEPTH_SIZE))[:2]
    columns, rows = np.meshgrid(np.arange(rgb_size[0]), np.arange(rgb_size[1]))
    pattern = ((columns // 8 + rows // 8) % 2 * 60 + 90).astype(np.uint8)
    rgb = np.repeat(pattern[..., None], 3, axis=-1)
    depth = np.full(depth_size[::-1], _DISTANCE, np.float32)
    result = pipeline(rgb, depth).depth
    if result.shape != rgb.shape[:2]:
        raise StartCheckError(f'depth is {result.shape}; it must be {rgb.shape[:2]}')
    share_finite = np.isfinite(result).mean()
    median = float(np.median(result))
    if share_finite < 1 or abs(median / _DISTANCE - 1) > _TOLERANCE:
        raise StartCheckError(
            f'a flat wall at {_DISTANCE:g} m came back at {median:.3f} m, {share_finite:.1%} of it '
            f'finite; it must be within {_TOLERANCE:.0%}: try precision float32 or other weights'
        )
