# SPDX-License-Identifier: Apache-2.0
"""Pair by message_filters' ApproximateTimeSynchronizer, for those who want exactly that."""

from __future__ import annotations

from typing import Any, NamedTuple

from depth_sr_ros.ros.frame_pairing import Pair, PairingCounts
from depth_sr_ros.ros.stamp_watch import StampError, StampWatch, Topic, Verdict


class _Header(NamedTuple):
    stamp: Any


class _Stamped(NamedTuple):
    header: _Header
    stamp_ns: int
    item: Any


class ApproximatePairing:
    """The same calls as NearestPairing, with the pairs that message_filters makes.

    Each image is used once, depth is not held, and the first pair within slop is taken, not the
    nearest. Unlike message_filters by itself, it survives a clock that jumps back (a looped bag):
    everything older is forgotten. Bad stamps are refused and pairs that would come out of order
    are dropped, as NearestPairing does. Nothing ever waits for a deadline.

    Raises:
        ImportError: message_filters is not installed.
        ValueError: a negative duration or a queue size below 1.
    """

    next_deadline_ns: int | None = None

    def __init__(
        self,
        slop_ns: int,
        depth_hold_ns: int = 0,
        queue_size: int = 10,
        *,
        clock_jump_ns: int = 200_000_000,
    ) -> None:
        import message_filters
        from rclpy.duration import Duration
        from rclpy.time import Time

        if slop_ns < 0:
            raise ValueError(f'slop_ns is {slop_ns}; it must be 0 or more')
        if queue_size < 1:
            raise ValueError(f'queue_size is {queue_size}; it must be 1 or more')
        self._message_filters, self._duration, self._time = message_filters, Duration, Time
        self._slop_ns = slop_ns
        self.depth_hold_ns = depth_hold_ns  # taken for the sake of the same calls; no meaning here
        self.queue_size = queue_size
        self.counts = PairingCounts()
        self.nearest_gap_ns: int | None = None
        self._watch = StampWatch(clock_jump_ns)
        self._accounted = 0  # RGB frames refused, or paired too late to keep the order
        self._start_afresh()

    @property
    def slop_ns(self) -> int:
        return self._slop_ns

    @slop_ns.setter
    def slop_ns(self, value: int) -> None:
        self._slop_ns = value
        # It takes what is strictly nearer than its slop; ours is inclusive, so that 0 is exact.
        self._synchronizer.slop = self._duration(nanoseconds=value + 1)

    def add_rgb(self, stamp_ns: int, item: Any, now_ns: int) -> list[Pair]:
        """Take an RGB frame and return the pair that it completes, if any.

        Raises:
            StampError: stamp zero or negative, seen before, or older than a frame already paired.
        """
        self.counts.rgb_received += 1
        try:
            left_over = self._judge(Topic.RGB, stamp_ns) is Verdict.LEFT_OVER
            if stamp_ns <= self._paired_ns:
                self._refuse(
                    'out_of_order',
                    f'RGB stamp {stamp_ns} ns came after a pair of {self._paired_ns} ns; '
                    'stamps must increase',
                )
        except StampError:
            self._accounted += 1
            raise
        waiting = self._synchronizer.queues[0]
        if left_over or len(waiting) >= self.queue_size:
            self._measure_gap(stamp_ns if left_over else min(stamp_ns, *waiting))
        if left_over:
            self._count_unpaired()
            return []
        return self._signal(0, stamp_ns, item)

    def add_depth(self, stamp_ns: int, item: Any, now_ns: int) -> list[Pair]:
        """Take a depth frame and return the pair that it completes, if any.

        Raises:
            StampError: stamp zero or negative, or seen before.
        """
        self.counts.depth_received += 1
        if self._judge(Topic.DEPTH, stamp_ns) is Verdict.LEFT_OVER:
            self.counts.from_before_jump += 1
            return []
        return self._signal(1, stamp_ns, item)

    def poll(self, now_ns: int) -> list[Pair]:
        """Return nothing: pairs come when messages come."""
        return []

    def clear(self) -> None:
        """Forget all frames; the counts stay."""
        self._watch.reset()
        self._start_afresh()

    def _start_afresh(self) -> None:
        # A synchroniser that has seen later stamps would drop all that come now as its oldest.
        self._filters = [self._message_filters.SimpleFilter() for _ in range(2)]
        self._synchronizer = self._message_filters.ApproximateTimeSynchronizer(
            self._filters, self.queue_size, 0.0
        )
        self._completed: list[tuple[_Stamped, _Stamped]] = []
        # It calls back while it holds its lock, and an exception would leave that locked: only note
        # the pair.
        self._synchronizer.registerCallback(lambda *pair: self._completed.append(pair))
        self.slop_ns = self._slop_ns
        self._paired_ns = 0
        self._count_unpaired()

    def _judge(self, topic: Topic, stamp_ns: int) -> Verdict:
        try:
            verdict = self._watch.judge(topic, stamp_ns)
        except StampError:
            self.counts.zero_stamp += 1
            raise
        if verdict is Verdict.JUMPED:
            self.counts.clock_jumps += 1
            self._start_afresh()
        is_rgb = topic is Topic.RGB
        if stamp_ns in self._synchronizer.queues[not is_rgb] or (
            is_rgb and stamp_ns == self._paired_ns
        ):
            self._refuse('duplicate', f'{topic.value} stamp {stamp_ns} ns came twice')
        return verdict

    def _refuse(self, reason: str, message: str) -> None:
        setattr(self.counts, reason, getattr(self.counts, reason) + 1)
        raise StampError(reason, message)

    def _signal(self, topic: int, stamp_ns: int, item: Any) -> list[Pair]:
        header = _Header(self._time(nanoseconds=stamp_ns))
        self._filters[topic].signalMessage(_Stamped(header, stamp_ns, item))
        pairs = []
        for rgb, depth in self._completed:
            self.nearest_gap_ns = abs(rgb.stamp_ns - depth.stamp_ns)
            if rgb.stamp_ns <= self._paired_ns:
                self.counts.out_of_order += 1
                self._accounted += 1
                continue
            self._paired_ns = rgb.stamp_ns
            self.counts.paired += 1
            pairs.append(Pair(rgb.item, depth.item, rgb.stamp_ns, depth.stamp_ns, False))
        self._completed.clear()
        self._count_unpaired()
        return pairs

    def _count_unpaired(self) -> None:
        counts, waiting = self.counts, len(self._synchronizer.queues[0])
        counts.no_partner = counts.rgb_received - counts.paired - waiting - self._accounted

    def _measure_gap(self, stamp_ns: int) -> None:
        newest = self._watch.newest[Topic.DEPTH]
        if newest is not None:
            known = (newest, *self._synchronizer.queues[1])
            self.nearest_gap_ns = min(abs(depth - stamp_ns) for depth in known)
