# SPDX-License-Identifier: Apache-2.0
"""What happens to one pair of messages: decode, run the pipeline, hand over to be published."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from depth_sr_ros.ros.diagnostics import NodeDiagnostics
from depth_sr_ros.ros.frame_pairing import Pair
from depth_sr_ros.ros.image_codec import ImageCodecError
from depth_sr_ros.ros.input_formats import InputFormat
from depth_sr_ros.ros.parameters import NodeParameters
from depth_sr_ros.ros.point_cloud_input import PointCloudError

if TYPE_CHECKING:
    from depth_sr_ros.ros.registration import Registration


# Frames further apart than this show another scene.
_LONGEST_GAP_NS = 1_000_000_000


class Arrival(NamedTuple):
    """A message and the steady time at which it came."""

    message: Any
    arrival_ns: int


class DenseFrame(NamedTuple):
    """What is published of one pair: everything at the size of the output."""

    header: Any
    rgb: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray


class FrameDroppedError(Exception):
    """A pair that is not published; `cause` is one of `diagnostics.DROP_CAUSES`."""

    def __init__(self, cause: str, sentence: str):
        super().__init__(sentence)
        self.cause = cause
        self.sentence = sentence


class FrameProcessor:
    """Takes pairs of `Arrival` in the worker's thread and publishes what the pipeline makes of it.

    Args:
        pipeline: a DepthSRPipeline, or anything called and answering like one.
        publish: called with (DenseFrame, values); publishes every output.
        formats: of the RGB and the depth messages.
        registration: puts depth into the RGB view; None where it covers that already.
        parameters: returns the parameters that hold now.
        now_ns: the node's clock, for the age of stamps.
        buffer: called with (shape, parameters), gives memory for the depth that needs no copy to
            be published, or None.
        forget: called before a frame that does not continue the one before it.
    """

    def __init__(
        self,
        pipeline: Any,
        publish: Callable[[DenseFrame, NodeParameters], None],
        formats: tuple[InputFormat, InputFormat],
        registration: Registration | None,
        parameters: Callable[[], NodeParameters],
        diagnostics: NodeDiagnostics,
        now_ns: Callable[[], int],
        *,
        buffer: Callable[[tuple[int, int], NodeParameters], np.ndarray | None] | None = None,
        forget: Callable[[], None] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._publish = publish
        self._rgb_format, self._depth_format = formats
        self._registration = registration
        self._parameters = parameters
        self._diagnostics = diagnostics
        self._now_ns = now_ns
        self._buffer = buffer
        self._forget = forget
        self._last_stamp_ns: int | None = None

    def __call__(self, pair: Pair) -> None:
        """Process one pair.

        Raises:
            FrameDroppedError: it is stale, cannot be decoded, or the pipeline failed.
        """
        parameters, latency = self._parameters(), self._diagnostics.latency
        rgb_message, arrival_ns = pair.rgb
        start = time.monotonic_ns()
        waited = 1e-9 * (start - arrival_ns)
        latency('wait', waited)
        if waited > parameters.max_age:
            raise FrameDroppedError(
                'stale', f'waited {waited:.3f} s; max_age allows {parameters.max_age:g} s'
            )
        cpu_start = time.thread_time_ns()
        rgb, depth = self._decode(pair, parameters)
        decoded, cpu_decoded = time.monotonic_ns(), time.thread_time_ns()
        self._forget_across_gaps(pair.rgb_stamp_ns)
        result = self._run(rgb, depth, parameters)
        computed, cpu_computed = time.monotonic_ns(), time.thread_time_ns()
        if parameters.min_confidence > 0:
            result.depth[result.confidence < parameters.min_confidence] = 0
        frame = DenseFrame(rgb_message.header, rgb, result.depth, result.confidence)
        self._publish(frame, parameters)
        published = time.monotonic_ns()
        own_cpu = cpu_decoded - cpu_start + time.thread_time_ns() - cpu_computed
        latency('own cpu', 1e-9 * own_cpu)
        latency('decode', 1e-9 * (decoded - start))
        latency('pipeline', 1e-9 * (computed - decoded))
        latency('total', 1e-9 * (published - arrival_ns))
        latency('stamp age', 1e-9 * (self._now_ns() - pair.rgb_stamp_ns))

    def _decode(self, pair: Pair, parameters: NodeParameters) -> tuple[np.ndarray, np.ndarray]:
        topic = 'RGB'
        try:
            rgb = self._rgb_format.decode(pair.rgb.message, parameters)
            topic = 'depth'
            depth = self._depth_format.decode(pair.depth.message, parameters)
        except (ImageCodecError, PointCloudError) as error:
            raise FrameDroppedError('bad message', f'{topic} image: {error}') from error
        if self._registration is not None:
            depth = self._register(pair, depth, rgb.shape, parameters)
        near, far = parameters.depth_range
        if far > near:
            depth = within_range(depth, near, far)
        if parameters.output_scale < 1:
            rgb, depth = shrink(rgb, depth, parameters.output_scale)
        return rgb, depth

    def _register(
        self, pair: Pair, depth: np.ndarray, shape: tuple[int, ...], parameters: NodeParameters
    ) -> np.ndarray:
        from depth_sr_ros.ros.registration import RegistrationError

        start = time.monotonic_ns()
        # At the size at which it is used, so that no sparse measurement is lost by shrinking.
        rows, columns = shrunk_size(shape, parameters.output_scale)
        try:
            depth = self._registration(  # type: ignore[misc]
                depth, pair.depth.message.header, pair.rgb.message.header, (columns, rows)
            )
        except RegistrationError as error:
            raise FrameDroppedError(error.cause, error.sentence) from error
        self._diagnostics.latency('register', 1e-9 * (time.monotonic_ns() - start))
        return depth

    def _forget_across_gaps(self, stamp_ns: int) -> None:
        last, self._last_stamp_ns = self._last_stamp_ns, stamp_ns
        # A looped bag, a simulation begun anew, a camera that was away.
        if last is not None and self._forget and not 0 <= stamp_ns - last <= _LONGEST_GAP_NS:
            self._forget()

    def _run(self, rgb: np.ndarray, depth: np.ndarray, parameters: NodeParameters) -> Any:
        height, width = rgb.shape[:2]
        out = self._buffer((height, width), parameters) if self._buffer else None
        try:
            return self._pipeline(rgb, depth, out=out)
        except ValueError as error:  # no measurement, or sizes that the pipeline does not take
            measured = np.any(np.isfinite(depth) & (depth > 0))
            cause = 'bad message' if measured else 'no valid depth'
            raise FrameDroppedError(cause, str(error)) from error
        except Exception as error:
            raise FrameDroppedError('pipeline error', f'{type(error).__name__}: {error}') from error


def within_range(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Depth, float32 (h, w) metres, with 0 for what is measured nearer or farther than these.

    Raises:
        FrameDroppedError: all that is measured lies outside.
    """
    counts = (depth >= near) & (depth <= far) & (depth > 0)
    if not counts.any():
        measured = depth[(depth > 0) & (depth < np.inf)]
        if measured.size:
            raise FrameDroppedError(
                'no valid depth',
                f'all {measured.size} measurements, {measured.min():.3g} to '
                f'{measured.max():.3g} m, lie outside of depth_range [{near:g}, {far:g}]',
            )
    return np.where(counts, depth, np.float32(0))


def shrunk_size(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    """Rows and columns of an image at `scale` of its size."""
    rows, columns = (max(round(side * scale), 1) for side in shape[:2])
    return rows, columns


def shrink(rgb: np.ndarray, depth: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """RGB at `scale` of its size, and depth no larger than that.

    Depth that is larger is sampled, not averaged: a mean over an edge is a distance at which
    nothing is.
    """
    height, width = shrunk_size(rgb.shape, scale)
    rgb = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    rows, columns = depth.shape
    if rows > height or columns > width:
        factor = min(height / rows, width / columns)
        size = (max(int(columns * factor + 1e-9), 1), max(int(rows * factor + 1e-9), 1))
        depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    return rgb, depth
