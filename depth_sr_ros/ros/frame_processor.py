# SPDX-License-Identifier: Apache-2.0
"""What happens to one pair of messages: decode, run the pipeline, encode, publish."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from depth_sr_ros.ros.diagnostics import NodeDiagnostics
from depth_sr_ros.ros.frame_pairing import Pair
from depth_sr_ros.ros.image_codec import ImageCodecError, decode_depth, decode_rgb
from depth_sr_ros.ros.parameters import NodeParameters


class Arrival(NamedTuple):
    """A message and the steady time at which it came."""

    message: Any
    arrival_ns: int


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
        publish: called with (RGB header, DepthSRResult, values); publishes every output.
        parameters: returns the parameters that hold now.
        now_ns: the node's clock, for the age of stamps.
    """

    def __init__(
        self,
        pipeline: Any,
        publish: Callable[[Any, Any, NodeParameters], None],
        parameters: Callable[[], NodeParameters],
        diagnostics: NodeDiagnostics,
        now_ns: Callable[[], int],
    ) -> None:
        self._pipeline = pipeline
        self._publish = publish
        self._parameters = parameters
        self._diagnostics = diagnostics
        self._now_ns = now_ns

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
        rgb, depth = self._decode(pair, parameters)
        decoded = time.monotonic_ns()
        result = self._run(rgb, depth)
        computed = time.monotonic_ns()
        self._publish(rgb_message.header, result, parameters)
        published = time.monotonic_ns()
        latency('decode', 1e-9 * (decoded - start))
        latency('pipeline', 1e-9 * (computed - decoded))
        latency('total', 1e-9 * (published - arrival_ns))
        latency('stamp age', 1e-9 * (self._now_ns() - pair.rgb_stamp_ns))

    def _decode(self, pair: Pair, parameters: NodeParameters) -> tuple[Any, Any]:
        topic = 'RGB'
        try:
            rgb = decode_rgb(pair.rgb.message)
            topic = 'depth'
            depth = decode_depth(pair.depth.message, mono16_is_depth=parameters.mono16_is_depth)
        except ImageCodecError as error:
            raise FrameDroppedError('bad message', f'{topic} image: {error}') from error
        return rgb, depth

    def _run(self, rgb: Any, depth: Any) -> Any:
        try:
            return self._pipeline(rgb, depth)
        except ValueError as error:  # no measurement, or sizes that the pipeline does not take
            cause = 'bad message' if depth.any() else 'no valid depth'
            raise FrameDroppedError(cause, str(error)) from error
        except Exception as error:
            raise FrameDroppedError('pipeline error', f'{type(error).__name__}: {error}') from error
