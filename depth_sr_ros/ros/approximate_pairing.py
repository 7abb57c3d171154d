# SPDX-License-Identifier: Apache-2.0
"""Pair by message_filters' ApproximateTimeSynchronizer, for those who want exactly that."""

from __future__ import annotations

from typing import Any, NamedTuple

from rclpy.duration import Duration
from rclpy.time import Time

from depth_sr_ros.ros.frame_pairing import Pair, PairingCounts, StampError


class _Header(NamedTuple):
    stamp: Time


class _Stamped(NamedTuple):
    header: _Header
    stamp_ns: int
    item: Any


class ApproximatePairing:
    """The same calls as NearestPairing, with the pairs that message_filters makes.

    Each image is used once, depth is not held, and the first pair within slop is taken, not the
    nearest. Unlike message_filters by itself, it survives stamps that run backward (a looped bag):
    everything older is forgotten.

    Raises:
        ImportError: message_filters is not installed.
    """

    next_deadline_ns: int | None = None
    """Pairs come when messages come; there is nothing to wait for."""

    def __init__(
        self,
        slop_ns: int,
        depth_hold_ns: int = 0,
        queue_size: int = 10,
        *,
        clock_jump_ns: int = 200_000_000,
    ) -> None:
        import message_filters

        self._message_filters = message_filters
        self._slop_ns = slop_ns
        self.depth_hold_ns = depth_hold_ns  # taken for the sake of the same calls; no meaning here
        self._queue_size = queue_size
        self._clock_jump_ns = clock_jump_ns
        self.counts = PairingCounts()
        self.nearest_gap_ns: int | None = None
        self._rgb_refused = 0
        self._pairs: list[Pair] = []
        self._reset()

    def _reset(self) -> None:
        self._filters = [self._message_filters.SimpleFilter() for _ in range(2)]
        self._synchronizer = self._message_filters.ApproximateTimeSynchronizer(
            self._filters, self._queue_size, 0.0
        )
        self._synchronizer.registerCallback(self._on_pair)
        self._newest = [0, 0]
        self.slop_ns = self._slop_ns

    @property
    def slop_ns(self) -> int:
        return self._slop_ns

    @slop_ns.setter
    def slop_ns(self, value: int) -> None:
        self._slop_ns = value
        # It takes what is strictly nearer than its slop; ours is inclusive, so that 0 is exact.
        self._synchronizer.slop = Duration(nanoseconds=value + 1)

    def add_rgb(self, stamp_ns: int, item: Any, now_ns: int) -> list[Pair]:
        """Take an RGB frame and return the pair that it completes, if any.

        Raises:
            StampError: stamp zero or negative.
        """
        self.counts.rgb_received += 1
        return self._add(0, stamp_ns, item)

    def add_depth(self, stamp_ns: int, item: Any, now_ns: int) -> list[Pair]:
        """Take a depth frame and return the pair that it completes, if any.

        Raises:
            StampError: stamp zero or negative.
        """
        self.counts.depth_received += 1
        return self._add(1, stamp_ns, item)

    def poll(self, now_ns: int) -> list[Pair]:
        return []

    def clear(self) -> None:
        """Forget all frames; the counts stay."""
        self._reset()
        self._count_unpaired()

    def _add(self, topic: int, stamp_ns: int, item: Any) -> list[Pair]:
        if stamp_ns <= 0:
            self.counts.zero_stamp += 1
            self._rgb_refused += topic == 0
            kind = ('RGB', 'depth')[topic]
            raise StampError('zero_stamp', f'{kind} stamp is {stamp_ns} ns; it must be above 0')
        if self._newest[topic] - stamp_ns > self._clock_jump_ns:
            self.counts.clock_jumps += 1
            self.clear()
        self._newest[topic] = max(self._newest[topic], stamp_ns)
        header = _Header(Time(nanoseconds=stamp_ns))
        self._filters[topic].signalMessage(_Stamped(header, stamp_ns, item))
        self._count_unpaired()
        pairs, self._pairs = self._pairs, []
        return pairs

    def _on_pair(self, rgb: _Stamped, depth: _Stamped) -> None:
        # Called while message_filters holds its lock: nothing here may raise.
        self.counts.paired += 1
        self.nearest_gap_ns = abs(rgb.stamp_ns - depth.stamp_ns)
        self._pairs.append(Pair(rgb.item, depth.item, rgb.stamp_ns, depth.stamp_ns, False))

    def _count_unpaired(self) -> None:
        counts, waiting = self.counts, len(self._synchronizer.queues[0])
        counts.no_partner = counts.rgb_received - counts.paired - waiting - self._rgb_refused
