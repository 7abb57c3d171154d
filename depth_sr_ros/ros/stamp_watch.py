# SPDX-License-Identifier: Apache-2.0
"""Watch the stamps of two topics for clocks that jump back; needs no ROS installation."""

from __future__ import annotations

from enum import Enum


class StampError(ValueError):
    """A message with an unusable stamp; `reason` names its counter in PairingCounts."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class Topic(Enum):
    RGB = 'RGB'
    DEPTH = 'depth'

    @property
    def other(self) -> Topic:
        return Topic.DEPTH if self is Topic.RGB else Topic.RGB


class Verdict(Enum):
    """What a stamp says about the clock that made it.

    IN_STEP: nothing special. JUMPED: the clock went back; all frames that came before are of
    another time. LEFT_OVER: the other topic has jumped back already and this message is from
    before the jump.
    """

    IN_STEP = 0
    JUMPED = 1
    LEFT_OVER = 2


_MOST_LEFT_OVER = 5


class StampWatch:
    """Tells a clock that jumped back (looped bag, restarted simulation) from a late message.

    Two topics never jump at the same moment. The first one to go back by more than
    `clock_jump_ns` is the jump; the other one follows it, and what still comes of it with stamps
    far beyond the new time is left over. After more than five of those the topic is taken to be
    in step, and its own going back is another jump: what came of both before it is lost.
    """

    def __init__(self, clock_jump_ns: int):
        self.clock_jump_ns = clock_jump_ns
        self.reset()

    def reset(self) -> None:
        self.newest: dict[Topic, int | None] = {Topic.RGB: None, Topic.DEPTH: None}
        self._is_behind = {Topic.RGB: False, Topic.DEPTH: False}
        self._left_over = {Topic.RGB: 0, Topic.DEPTH: 0}

    def judge(self, topic: Topic, stamp_ns: int) -> Verdict:
        """Judge the next message of a topic.

        Raises:
            StampError: zero or negative.
        """
        if stamp_ns <= 0:
            raise StampError(
                'zero_stamp', f'{topic.value} stamp is {stamp_ns} ns; it must be above 0'
            )
        newest, of_other = self.newest[topic], self.newest[topic.other]
        if newest is None or stamp_ns > newest:
            self.newest[topic] = stamp_ns
        elif newest - stamp_ns > self.clock_jump_ns:
            self.newest[topic] = stamp_ns
            if not self._is_behind[topic]:
                self._is_behind[topic.other] = of_other is not None
                self._left_over[topic.other] = 0
                return Verdict.JUMPED
            self._is_behind[topic] = False
        if self._is_behind[topic] and of_other is not None:
            self._left_over[topic] += 1
            # Only what was on its way is left over. A topic that goes on and on is slow, and ahead
            # of the other one by its period.
            if (
                stamp_ns - of_other > self.clock_jump_ns
                and self._left_over[topic] <= _MOST_LEFT_OVER
            ):
                return Verdict.LEFT_OVER
            self._is_behind[topic] = False
        return Verdict.IN_STEP
