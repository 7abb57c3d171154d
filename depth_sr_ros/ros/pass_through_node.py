# SPDX-License-Identifier: Apache-2.0
"""`sr_node` without a network and without torch: what the benchmark measures the node itself with.

Depth is enlarged to the nearest pixel. Everything else is the real node.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import cv2
import numpy as np

from depth_sr_ros.ros.node import main


class _Result(NamedTuple):
    depth: np.ndarray
    confidence: np.ndarray


class PassThroughPipeline:
    """Called and answering like a DepthSRPipeline."""

    description: dict[str, Any] = {  # noqa: RUF012
        'weights': 'pass-through',
        'digest': 'none',
        'relative_depth': 'none',
        'device': 'cpu',
        'precision': 'float32',
    }

    def __call__(
        self, rgb: np.ndarray, depth: np.ndarray, *, out: np.ndarray | None = None
    ) -> _Result:
        if not depth.any():
            raise ValueError(f'none of the {depth.size} depth pixels is a measurement')
        height, width = rgb.shape[:2]
        dense = cv2.resize(depth, (width, height), dst=out, interpolation=cv2.INTER_NEAREST)
        return _Result(dense, np.broadcast_to(np.float32(1), dense.shape))

    def memory(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


if __name__ == '__main__':
    sys.exit(main(load=lambda parameters: PassThroughPipeline()))
