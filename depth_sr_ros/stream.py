# SPDX-License-Identifier: Apache-2.0
"""What is remembered between the frames of one camera.

The guide's answer, for a few frames, and what the camera's depth maps are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from depth_sr_ros.nearest_upsampling import NearestUpsamplingMemory
from depth_sr_ros.point_samples import SamplingMemory

if TYPE_CHECKING:
    from depth_sr_ros.pipeline import DepthSRPipeline, DepthSRResult

LONGEST_GUIDE_INTERVAL = 100
# Pixels of the short side at which motion is looked for.
_FLOW_SIZE = 360
# Of DIS: 1 is down to half of that size, where its fastest preset stops at a quarter. What is kept
# is moved more exactly so.
_FINEST_SCALE = 1


class _Flow:
    """Follows what moves from picture to picture, and moves a map along."""

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise ImportError(
                'guide_interval above 1 follows what moves by OpenCV, which is not installed: '
                "pip install 'depth_sr_ros[opencv]', or set guide_interval to 1"
            ) from error
        self._cv2 = cv2
        self._search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._search.setFinestScale(_FINEST_SCALE)
        self._last = np.empty((0, 0), np.uint8)
        self._way = np.empty((0, 0, 2), np.float32)

    def start(self, rgb: np.ndarray) -> None:
        """From this picture, uint8 (H, W, 3), on."""
        self._last = self._reduced(rgb)
        self._way = np.zeros((*self._last.shape, 2), np.float32)

    def follow(self, rgb: np.ndarray) -> None:
        """To the next picture of the same size.

        One step at a time: over several, things move farther than DIS finds them.
        """
        now = self._reduced(rgb)
        step = self._search.calc(now, self._last, None)
        self._way = step + self._taken(self._way, step)
        self._last = now

    def moved(self, values: np.ndarray) -> np.ndarray:
        """float32 (g, k) that belongs to the first picture -> to the last one."""
        rows, columns = values.shape
        height, width = self._last.shape
        scale = np.array([columns / width, rows / height], np.float32)
        return self._taken(values, self._cv2.resize(self._way, (columns, rows)) * scale)

    def _reduced(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) -> grey uint8, its short side _FLOW_SIZE."""
        height, width = rgb.shape[:2]
        scale = _FLOW_SIZE / min(height, width)
        size = round(width * scale), round(height * scale)
        # First made smaller: a camera's picture is large.
        small = self._cv2.resize(
            np.ascontiguousarray(rgb), size, interpolation=self._cv2.INTER_AREA
        )
        return self._cv2.cvtColor(small, self._cv2.COLOR_RGB2GRAY)

    def _taken(self, values: np.ndarray, way: np.ndarray) -> np.ndarray:
        """From where `way` (h, w, 2; x, y in pixels) leads to: float32 (h, w, ...)."""
        rows, columns = values.shape[:2]
        x, y = np.meshgrid(np.arange(columns, dtype=np.float32), np.arange(rows, dtype=np.float32))
        return self._cv2.remap(
            values,
            x + way[..., 0],
            y + way[..., 1],
            self._cv2.INTER_LINEAR,
            borderMode=self._cv2.BORDER_REPLICATE,
        )


class DepthSRStream:
    """Called like the pipeline, with the frames of one camera in their order.

    With a `guide_interval` of N, Depth Anything sees every N-th frame and its answer serves for
    that one and the N - 1 after it, moved along by optical flow (DIS: Kroeger et al., ECCV 2016).
    That costs accuracy where the scene moves and saves most of the time
    where the guide is what is slow: docs/performance.md has both, measured. It sees a frame out of
    turn when the image's size changes and after `reset`.

    What the values of the depth maps are (`SamplingMemory`), and which of them are repeated
    (`NearestUpsamplingMemory`), is remembered as long as their size and the image's stay.

    Args:
        pipeline: it may serve several streams.
        guide_interval: 1 (the guide sees every frame) to 100; more than 1 needs OpenCV.

    Raises:
        ValueError: for another interval.
        ImportError: without OpenCV, where it is needed.
    """

    def __init__(self, pipeline: DepthSRPipeline, guide_interval: int = 1):
        if not 1 <= guide_interval <= LONGEST_GUIDE_INTERVAL:
            raise ValueError(
                f'guide_interval is {guide_interval}: allowed are 1 to {LONGEST_GUIDE_INTERVAL}'
            )
        self.pipeline = pipeline
        self.guide_interval = guide_interval
        self._flow = None if guide_interval == 1 else _Flow()
        self._relative: np.ndarray | None = None
        self._size: tuple[int, ...] = ()
        self._served = 0
        self._camera: dict[str, Any] = {
            'sampling_of': SamplingMemory(),
            'without_repetition': NearestUpsamplingMemory(),
        }

    def __call__(
        self, rgb: np.ndarray, depth: np.ndarray, *, out: np.ndarray | None = None
    ) -> DepthSRResult:
        """As `DepthSRPipeline.__call__`."""
        usable = isinstance(rgb, np.ndarray) and rgb.ndim == 3 and rgb.dtype == np.uint8
        if self._flow is None or not usable:
            # Or it says what is wrong.
            return self.pipeline(rgb, depth, out=out, **self._camera)
        if self._served >= self.guide_interval or rgb.shape[:2] != self._size:
            self.reset()
        if self._served == 0:
            self._relative = self.pipeline.relative_depth(rgb)
            self._size = rgb.shape[:2]
        relative = self._relative
        if relative is not None:
            if self._served == 0:
                self._flow.start(rgb)
            else:
                self._flow.follow(rgb)
                relative = self._flow.moved(relative)
        result = self.pipeline(rgb, depth, out=out, relative=relative, **self._camera)
        # A frame that was refused has not been served.
        self._served += 1
        return result

    def reset(self) -> None:
        """Forget what was seen: the next frame has nothing to do with the last one.

        What the camera's depth maps are is no matter of frames, and stays.
        """
        self._relative, self._size, self._served = None, (), 0

    @property
    def description(self) -> dict[str, Any]:
        """As the pipeline's, with the interval."""
        return {**self.pipeline.description, 'guide_interval': self.guide_interval}

    @property
    def fixed_sizes(self) -> tuple | None:
        """As the pipeline's."""
        return self.pipeline.fixed_sizes

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
