# SPDX-License-Identifier: Apache-2.0
"""What is remembered between the frames of one camera: the guide's answer, for a few frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from depth_sr_ros.pipeline import DepthSRPipeline, DepthSRResult

LONGEST_GUIDE_INTERVAL = 100


class DepthSRStream:
    """Called like the pipeline, with the frames of one camera in their order.

    With a `guide_interval` of N, Depth Anything sees every N-th frame and its answer serves for
    that one and the N - 1 after it: the scene has moved on by then, which costs accuracy where
    it moves and saves most of the time where the guide is what is slow (docs/performance.md has
    both, measured). It sees a frame out of turn when the image's size changes and after `reset`.

    Args:
        pipeline: it may serve several streams.
        guide_interval: 1 (the guide sees every frame) to 100.

    Raises:
        ValueError: for another interval.
    """

    def __init__(self, pipeline: DepthSRPipeline, guide_interval: int = 1):
        if not 1 <= guide_interval <= LONGEST_GUIDE_INTERVAL:
            raise ValueError(
                f'guide_interval is {guide_interval}: allowed are 1 to {LONGEST_GUIDE_INTERVAL}'
            )
        self.pipeline = pipeline
        self.guide_interval = guide_interval
        self._relative: Any = None
        self._size: tuple[int, ...] = ()
        self._served = 0

    def __call__(
        self, rgb: np.ndarray, depth: np.ndarray, *, out: np.ndarray | None = None
    ) -> DepthSRResult:
        """As `DepthSRPipeline.__call__`."""
        if self.guide_interval == 1:
            return self.pipeline(rgb, depth, out=out)
        if self._served >= self.guide_interval or np.shape(rgb)[:2] != self._size:
            self.reset()
        if self._served == 0:
            self._relative = self.pipeline.relative_depth(rgb)
            self._size = rgb.shape[:2]
        result = self.pipeline(rgb, depth, out=out, relative=self._relative)
        # A frame that was refused has not been served.
        self._served += 1
        return result

    def reset(self) -> None:
        """Forget what was seen: the next frame has nothing to do with the last one."""
        self._relative, self._size, self._served = None, (), 0

    @property
    def description(self) -> dict[str, Any]:
        """As the pipeline's, with the interval."""
        return {**self.pipeline.description, 'guide_interval': self.guide_interval}

    @property
    def mark(self) -> Callable[[str], None]:
        """As the pipeline's."""
        return self.pipeline.mark

    @mark.setter
    def mark(self, clock: Callable[[str], None]) -> None:
        self.pipeline.mark = clock

    def warm_up(self, rgb_size: tuple[int, int], depth_size: tuple[int, int]) -> None:
        """As the pipeline's."""
        self.pipeline.warm_up(rgb_size, depth_size)

    def memory(self) -> dict[str, int]:
        """As the pipeline's."""
        return self.pipeline.memory()

    def close(self) -> None:
        """Forget what was seen and close the pipeline."""
        self.reset()
        self.pipeline.close()
