# SPDX-License-Identifier: Apache-2.0
"""Pair RGB frames with depth frames by their stamps; needs no ROS installation.

Stamps are integer nanoseconds of whatever clock stamps the messages (system, camera, simulation).
`now_ns` is a steady clock of this process. The two are never compared with each other: the stamps
decide who belongs together, the steady clock decides how long it is worth waiting.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from depth_sr_ros.ros.stamp_watch import StampError, StampWatch, Topic, Verdict

_MILLISECOND = 1_000_000
_LEARNING_WINDOW = 16


class Pair(NamedTuple):
    """One RGB frame with the depth frame chosen for it.

    `held` is true when no depth lay within the slop and the last one before it was used instead.
    """

    rgb: Any
    depth: Any
    rgb_stamp_ns: int
    depth_stamp_ns: int
    held: bool


@dataclass
class PairingCounts:
    """What became of the messages since construction; `clear` does not reset it.

    rgb_received = paired + held + no_partner + the refused RGB frames + those still waiting.
    """

    rgb_received: int = 0
    depth_received: int = 0
    paired: int = 0
    held: int = 0
    no_partner: int = 0
    zero_stamp: int = 0
    duplicate: int = 0
    out_of_order: int = 0
    from_before_jump: int = 0
    clock_jumps: int = 0


class _Frame(NamedTuple):
    stamp_ns: int
    arrival_ns: int
    item: Any


def _stamp_of(frame: _Frame) -> int:
    return frame.stamp_ns


class _DepthRhythm:
    """When the next depth can be expected, learnt from the last few that came.

    Lateness is measured on the steady clock against a straight line through the stamps, so that a
    simulation that runs slower or faster than real time is understood too.
    """

    def __init__(self) -> None:
        self._frames: deque[tuple[int, int]] = deque(maxlen=_LEARNING_WINDOW)
        self._intervals: deque[int] = deque(maxlen=_LEARNING_WINDOW - 1)
        self.reset()

    def reset(self) -> None:
        self._frames.clear()
        self._intervals.clear()
        self.shortest_interval_ns: int | None = None
        self._steady_per_stamp = 1.0
        self._latest_ns = 0

    def observe(self, stamp_ns: int, arrival_ns: int) -> None:
        frames = self._frames
        if frames:
            interval = stamp_ns - frames[-1][0]
            if interval <= 0:
                return
            if self.shortest_interval_ns and interval > 20 * self.shortest_interval_ns:
                self.reset()  # a pause or a forward jump: learn afresh
            else:
                self._intervals.append(interval)
        frames.append((stamp_ns, arrival_ns))
        if len(self._intervals) < 3:
            return
        self.shortest_interval_ns = min(self._intervals)
        first_stamp, first_arrival = frames[0]
        rate = (arrival_ns - first_arrival) / (stamp_ns - first_stamp)
        # Transport jitter must not pass for a simulation's pace.
        self._steady_per_stamp = rate = 1.0 if 0.8 < rate < 1.25 else min(max(rate, 0.02), 50.0)
        self._latest_ns = max(arrival + int(rate * (stamp_ns - stamp)) for stamp, arrival in frames)

    @property
    def slow_down(self) -> float:
        """How many steady nanoseconds a nanosecond of stamps takes, at least 1."""
        return max(1.0, self._steady_per_stamp)

    def earliest_next_ns(self) -> int:
        """The earliest stamp that the next depth can be expected to bear."""
        stamp_ns = self._frames[-1][0]
        if self.shortest_interval_ns is None:
            return stamp_ns + 1
        return stamp_ns + self.shortest_interval_ns * 7 // 8

    def arrived_by_ns(self, stamp_ns: int) -> int | None:
        """The steady time by which a depth with this stamp should have arrived."""
        if self.shortest_interval_ns is None:
            return None
        ahead = stamp_ns - self._frames[-1][0] + self.shortest_interval_ns // 4
        return self._latest_ns + int(ahead * self._steady_per_stamp) + 5 * _MILLISECOND


class NearestPairing:
    """Give every RGB frame the depth nearest in time, once, in the order of the RGB stamps.

    A frame is decided as soon as no later depth can be nearer: at once when a depth at or after its
    stamp is there, or when the learnt depth period says that the next one will be farther away. If
    not, it waits until such a depth should have arrived, at most `max_wait_ns` on the steady clock
    after its own arrival. A frame without any depth within `slop_ns` takes the last depth before
    it, up to `depth_hold_ns` old, as a held pair; otherwise it is dropped as having no partner.
    A depth may serve several RGB frames. `slop_ns` 0 pairs equal stamps only (with `depth_hold_ns`
    0 nothing else comes out). Of two equally near depths the earlier one is taken.

    A stamp that runs backward by more than `clock_jump_ns` (looped bag, restarted simulation) on
    either topic clears what is older; a smaller one is a message out of order, which still takes
    its place if that has not been passed. At most `queue_size` frames of each topic are kept.
    Not thread-safe: call it from one thread.

    Raises:
        ValueError: a negative duration or a queue size below 1.
    """

    def __init__(
        self,
        slop_ns: int,
        depth_hold_ns: int,
        queue_size: int = 10,
        *,
        max_wait_ns: int = 200 * _MILLISECOND,
        clock_jump_ns: int = 200 * _MILLISECOND,
    ):
        durations = {
            'slop_ns': slop_ns,
            'depth_hold_ns': depth_hold_ns,
            'max_wait_ns': max_wait_ns,
            'clock_jump_ns': clock_jump_ns,
        }
        for name, value in durations.items():
            if value < 0:
                raise ValueError(f'{name} is {value}; it must be 0 or more')
        if queue_size < 1:
            raise ValueError(f'queue_size is {queue_size}; it must be 1 or more')
        self.slop_ns = int(slop_ns)
        self.depth_hold_ns = int(depth_hold_ns)
        self.queue_size = int(queue_size)
        self.max_wait_ns = int(max_wait_ns)
        self.clock_jump_ns = int(clock_jump_ns)
        self.counts = PairingCounts()
        self.nearest_gap_ns: int | None = None
        """Distance from the RGB frame decided last to the depth nearest to it, paired or not."""
        self._reset()

    def _reset(self) -> None:
        self._rgb: list[_Frame] = []
        self._depth: list[_Frame] = []
        self._decided_ns = 0
        self._watch = StampWatch(self.clock_jump_ns)
        self._rhythm = _DepthRhythm()

    def add_rgb(self, stamp_ns: int, item: Any, now_ns: int) -> list[Pair]:
        """Take an RGB frame and return the pairs that are decided now, oldest first.

        Raises:
            StampError: stamp zero or negative, seen before, or older than a frame already decided.
        """
        self.counts.rgb_received += 1
        verdict = self._judge(Topic.RGB, stamp_ns)
        if verdict is Verdict.LEFT_OVER:
            self._drop_for_lack_of_depth(stamp_ns)
            return []
        pairs = self._start_afresh() if verdict is Verdict.JUMPED else []
        if stamp_ns == self._decided_ns or self._holds(self._rgb, stamp_ns):
            self._refuse('duplicate', f'RGB stamp {stamp_ns} ns came twice')
        if stamp_ns < self._decided_ns:
            self._refuse(
                'out_of_order',
                f'RGB stamp {stamp_ns} ns came after a frame with {self._decided_ns} ns; '
                'stamps must increase',
            )
        insort(self._rgb, _Frame(stamp_ns, now_ns, item), key=_stamp_of)
        pairs += self._decide(now_ns)
        while len(self._rgb) > self.queue_size:
            self._settle(self._rgb.pop(0), pairs)
        return pairs

    def add_depth(self, stamp_ns: int, item: Any, now_ns: int) -> list[Pair]:
        """Take a depth frame and return the pairs that are decided now, oldest first.

        Raises:
            StampError: stamp zero or negative, or seen before.
        """
        self.counts.depth_received += 1
        verdict = self._judge(Topic.DEPTH, stamp_ns)
        if verdict is Verdict.LEFT_OVER:
            # It must not pass for the future of the new frames.
            self.counts.from_before_jump += 1
            return []
        pairs = self._start_afresh() if verdict is Verdict.JUMPED else []
        if self._holds(self._depth, stamp_ns):
            self._refuse('duplicate', f'depth stamp {stamp_ns} ns came twice')
        insort(self._depth, _Frame(stamp_ns, now_ns, item), key=_stamp_of)
        self._rhythm.observe(stamp_ns, now_ns)
        pairs += self._decide(now_ns)
        if len(self._depth) > self.queue_size:
            del self._depth[0]
        return pairs

    def poll(self, now_ns: int) -> list[Pair]:
        """Return the pairs whose waiting time is over, oldest first."""
        return self._decide(now_ns)

    @property
    def next_deadline_ns(self) -> int | None:
        """The steady time at which `poll` should be called next; None while nothing waits."""
        return self._deadline(self._rgb[0]) if self._rgb else None

    def clear(self) -> None:
        """Forget all frames and what was learnt about their rhythm; the counts stay."""
        self.counts.no_partner += len(self._rgb)
        self._reset()

    def _judge(self, topic: Topic, stamp_ns: int) -> Verdict:
        try:
            return self._watch.judge(topic, stamp_ns)
        except StampError:
            self.counts.zero_stamp += 1
            raise

    def _refuse(self, reason: str, message: str) -> None:
        setattr(self.counts, reason, getattr(self.counts, reason) + 1)
        raise StampError(reason, message)

    @staticmethod
    def _holds(frames: list[_Frame], stamp_ns: int) -> bool:
        index = bisect_left(frames, stamp_ns, key=_stamp_of)
        return index < len(frames) and frames[index].stamp_ns == stamp_ns

    def _start_afresh(self) -> list[Pair]:
        """Settle what waits with what is there, and forget all that came before the jump."""
        pairs: list[Pair] = []
        while self._rgb:
            self._settle(self._rgb.pop(0), pairs)
        self.counts.clock_jumps += 1
        self._depth.clear()
        self._rhythm.reset()
        self._decided_ns = 0
        return pairs

    def _nearest(self, stamp_ns: int) -> tuple[_Frame | None, _Frame | None]:
        """The depth nearest to a stamp and the last one that is not after it."""
        index = bisect_right(self._depth, stamp_ns, key=_stamp_of)
        before = self._depth[index - 1] if index else None
        after = self._depth[index] if index < len(self._depth) else None
        if before is None:
            return after, None
        if after is None or stamp_ns - before.stamp_ns <= after.stamp_ns - stamp_ns:
            return before, before
        return after, before

    def _last_useful_stamp(self, stamp_ns: int, before: _Frame | None) -> int:
        """The latest stamp with which a depth yet to come could be this frame's partner."""
        if before is not None and stamp_ns - before.stamp_ns <= self.slop_ns:
            return 2 * stamp_ns - before.stamp_ns - 1
        return stamp_ns + self.slop_ns

    def _deadline(self, frame: _Frame) -> int:
        limit = frame.arrival_ns + int(self.max_wait_ns * self._rhythm.slow_down)
        before = self._depth[-1] if self._depth else None
        if before is None or frame.stamp_ns - before.stamp_ns > max(
            self.slop_ns, self.depth_hold_ns
        ):
            return limit  # nothing to publish yet: giving up early would gain nothing
        expected = self._rhythm.arrived_by_ns(self._last_useful_stamp(frame.stamp_ns, before))
        return limit if expected is None else min(limit, expected)

    def _is_decided(self, frame: _Frame, now_ns: int) -> bool:
        if self._depth:
            before = self._depth[-1]
            if before.stamp_ns >= frame.stamp_ns:
                return True
            gap = frame.stamp_ns - before.stamp_ns
            if gap <= max(
                self.slop_ns, self.depth_hold_ns
            ) and self._rhythm.earliest_next_ns() > self._last_useful_stamp(frame.stamp_ns, before):
                return True
        return now_ns >= self._deadline(frame)

    def _decide(self, now_ns: int) -> list[Pair]:
        pairs: list[Pair] = []
        while self._rgb and self._is_decided(self._rgb[0], now_ns):
            self._settle(self._rgb.pop(0), pairs)
        self._forget_passed_depth()
        return pairs

    def _settle(self, frame: _Frame, pairs: list[Pair]) -> None:
        stamp_ns = self._decided_ns = frame.stamp_ns
        nearest, before = self._nearest(stamp_ns)
        if nearest is None:
            self._drop_for_lack_of_depth(stamp_ns)
            return
        self.nearest_gap_ns = abs(nearest.stamp_ns - stamp_ns)
        if self.nearest_gap_ns <= self.slop_ns:
            self.counts.paired += 1
            pairs.append(Pair(frame.item, nearest.item, stamp_ns, nearest.stamp_ns, False))
        elif before is not None and stamp_ns - before.stamp_ns <= self.depth_hold_ns:
            self.counts.held += 1
            pairs.append(Pair(frame.item, before.item, stamp_ns, before.stamp_ns, True))
        else:
            self.counts.no_partner += 1

    def _drop_for_lack_of_depth(self, stamp_ns: int) -> None:
        self.counts.no_partner += 1
        newest = self._watch.newest[Topic.DEPTH]
        if newest is not None:
            self.nearest_gap_ns = abs(newest - stamp_ns)

    def _forget_passed_depth(self) -> None:
        """Drop every depth that has another one between itself and all frames to come."""
        depth = self._depth
        while len(depth) > 1 and depth[1].stamp_ns <= self._decided_ns:
            del depth[0]
