# SPDX-License-Identifier: Apache-2.0
"""Pair RGB with depth by message_filters' ApproximateTimeSynchronizer, behind our own interface."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from typing import Any

from depth_sr_ros.ros.frame_pairing import Pair, PairingCounts
from depth_sr_ros.ros.stamp_watch import StampError, StampWatch, Topic, Verdict

_SECOND = 1_000_000_000


class _Header:
    def __init__(self, stamp: Any):
        self.stamp = stamp


class _Message:
    """What the synchroniser needs of a message: a header with a builtin_interfaces/Time."""

    def __init__(self, stamp: Any, stamp_ns: int, item: Any):
        self.header = _Header(stamp)
        self.stamp_ns = stamp_ns
        self.item = item


class ApproximatePairing:
    """The pairs that message_filters makes, with the interface of NearestPairing.

    message_filters emits the first two frames within the slop, not the nearest; it uses a depth
    once and holds none, so that depth slower than RGB lowers the output rate (`depth_hold_ns` is
    taken and not used). Around it this class refuses bad stamps, starts a new synchroniser when a
    clock jumps back (the old one would drop all new frames as its oldest), drops pairs that come
    out of order, and counts. It never waits on a clock: `poll` returns nothing.

    message_filters calls back while it holds its lock, and an exception there leaves it locked: the
    callback only appends to a list.

    Raises:
        ImportError: message_filters is not installed.
        ValueError: a negative duration or a queue size below 1.
    """

    next_deadline_ns = None

    def __init__(
        self,
        slop_ns: int,
        depth_hold_ns: int = 0,
        queue_size: int = 10,
        *,
        clock_jump_ns: int = 200_000_000,
    ):
        try:
            import message_filters
            from builtin_interfaces.msg import Time
        except ImportError as error:
            raise ImportError(
                f"pairing 'approximate' needs the ROS package message_filters ({error}); install "
                "ros-<distro>-message-filters, or set pairing to 'nearest', which needs no package"
            ) from error
        if slop_ns < 0:
            raise ValueError(f'slop_ns is {slop_ns}; it must be 0 or more')
        if queue_size < 1:
            raise ValueError(f'queue_size is {queue_size}; it must be 1 or more')
        self._message_filters = message_filters
        self._time = Time
        self._slop_ns = int(slop_ns)
        self.depth_hold_ns = int(depth_hold_ns)
        self.queue_size = int(queue_size)
        self.counts = PairingCounts()
        self.nearest_gap_ns: int | None = None
        self._watch = StampWatch(clock_jump_ns)
        self._start_afresh()

    @property
    def slop_ns(self) -> int:
        return self._slop_ns

    @slop_ns.setter
    def slop_ns(self, value: int) -> None:
        if value != self._slop_ns:
            self._slop_ns = int(value)
            self._start_afresh()

    def add_rgb(self, stamp_ns: int, item: Any, now_ns: int) -> list[Pair]:
        """Take an RGB frame and return the pair that it completes, if any.

        Raises:
            StampError: stamp zero or negative, seen before, or older than a frame already paired.
        """
        self.counts.rgb_received += 1
        if not self._admit(Topic.RGB, stamp_ns):
            self.counts.no_partner += 1
            return []
        if stamp_ns <= self._paired_ns:
            self._refuse('out_of_order', f'RGB stamp {stamp_ns} ns came after {self._paired_ns} ns')
        insort(self._waiting, stamp_ns)
        if len(self._waiting) > self.queue_size:  # as message_filters does, before it searches
            self._measure_gap(self._waiting.pop(0))
            self.counts.no_partner += 1
        return self._signal(Topic.RGB, stamp_ns, item)

    def add_depth(self, stamp_ns: int, item: Any, now_ns: int) -> list[Pair]:
        """Take a depth frame and return the pair that it completes, if any.

        Raises:
            StampError: stamp zero or negative, or seen before.
        """
        self.counts.depth_received += 1
        if not self._admit(Topic.DEPTH, stamp_ns):
            self.counts.from_before_jump += 1
            return []
        self._recent_depth.append(stamp_ns)
        return self._signal(Topic.DEPTH, stamp_ns, item)

    def poll(self, now_ns: int) -> list[Pair]:
        """Return nothing: message_filters decides on arrival only."""
        return []

    def clear(self) -> None:
        """Forget all frames; the counts stay."""
        self._watch.reset()
        self._start_afresh()

    def _start_afresh(self) -> None:
        if hasattr(self, '_waiting'):
            self.counts.no_partner += len(self._waiting)
        self._waiting: list[int] = []
        self._recent_depth: deque[int] = deque(maxlen=self.queue_size)
        self._paired_ns = 0
        self._completed: list[tuple[_Message, _Message]] = []
        self._inputs = {topic: self._message_filters.SimpleFilter() for topic in Topic}
        # It compares with "less than", in seconds: half a nanosecond more makes the slop inclusive
        # and 0 exact.
        synchroniser = self._message_filters.ApproximateTimeSynchronizer(
            [self._inputs[Topic.RGB], self._inputs[Topic.DEPTH]],
            self.queue_size,
            (self._slop_ns + 1.5) / _SECOND,
        )
        synchroniser.registerCallback(self._on_pair)

    def _on_pair(self, rgb: _Message, depth: _Message) -> None:
        self._completed.append((rgb, depth))

    def _admit(self, topic: Topic, stamp_ns: int) -> bool:
        try:
            verdict = self._watch.judge(topic, stamp_ns)
        except StampError:
            self.counts.zero_stamp += 1
            raise
        if verdict is Verdict.JUMPED:
            self.counts.clock_jumps += 1
            self._start_afresh()
        known = self._waiting if topic is Topic.RGB else self._recent_depth
        if stamp_ns in known or (topic is Topic.RGB and stamp_ns == self._paired_ns):
            self._refuse('duplicate', f'{topic.value} stamp {stamp_ns} ns came twice')
        return verdict is not Verdict.LEFT_OVER

    def _refuse(self, reason: str, message: str) -> None:
        setattr(self.counts, reason, getattr(self.counts, reason) + 1)
        raise StampError(reason, message)

    def _signal(self, topic: Topic, stamp_ns: int, item: Any) -> list[Pair]:
        stamp = self._time(sec=stamp_ns // _SECOND, nanosec=stamp_ns % _SECOND)
        self._inputs[topic].signalMessage(_Message(stamp, stamp_ns, item))
        pairs = []
        for rgb, depth in self._completed:
            del self._waiting[bisect_left(self._waiting, rgb.stamp_ns)]
            self.nearest_gap_ns = abs(depth.stamp_ns - rgb.stamp_ns)
            if rgb.stamp_ns <= self._paired_ns:
                self.counts.out_of_order += 1
                continue
            self._paired_ns = rgb.stamp_ns
            self.counts.paired += 1
            pairs.append(Pair(rgb.item, depth.item, rgb.stamp_ns, depth.stamp_ns, False))
        self._completed.clear()
        return pairs

    def _measure_gap(self, stamp_ns: int) -> None:
        newest = self._watch.newest[Topic.DEPTH]
        if newest is not None:
            self.nearest_gap_ns = min(
                abs(depth - stamp_ns) for depth in (newest, *self._recent_depth)
            )
