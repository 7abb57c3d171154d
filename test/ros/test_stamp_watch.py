# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from depth_sr_ros.ros.stamp_watch import StampError, StampWatch, Topic, Verdict

RGB, DEPTH = Topic.RGB, Topic.DEPTH
IN_STEP, JUMPED, LEFT_OVER = Verdict.IN_STEP, Verdict.JUMPED, Verdict.LEFT_OVER


def verdicts(*stamps, clock_jump_ns=10):
    watch = StampWatch(clock_jump_ns)
    return [watch.judge(topic, stamp) for topic, stamp in stamps]


@pytest.mark.parametrize('back', [1, 10])
def test_a_little_back_is_a_message_out_of_order(back):
    assert verdicts((RGB, 1000), (RGB, 1000 - back), (RGB, 1001)) == [IN_STEP] * 3


def test_more_is_a_jump_and_the_other_topic_follows_it():
    assert verdicts(
        (RGB, 1000), (DEPTH, 1001), (RGB, 500), (DEPTH, 1002), (DEPTH, 501), (DEPTH, 502)
    ) == [IN_STEP, IN_STEP, JUMPED, LEFT_OVER, IN_STEP, IN_STEP]


def test_the_topic_that_follows_may_be_far_ahead_of_the_one_that_went_first():
    stamps = (RGB, 1000), (DEPTH, 1001), (DEPTH, 500), (RGB, 1010), (RGB, 550), (RGB, 560)
    assert verdicts(*stamps) == [IN_STEP, IN_STEP, JUMPED, LEFT_OVER, IN_STEP, IN_STEP]


def test_every_lap_is_a_jump_whoever_goes_first():
    lap = ((RGB, 100), (DEPTH, 101), (RGB, 150), (DEPTH, 151))
    swapped = ((DEPTH, 101), (RGB, 100), (RGB, 150), (DEPTH, 151))
    assert verdicts(*lap, *swapped, *lap).count(JUMPED) == 2


def test_a_topic_that_stays_behind_is_in_step_again_when_the_times_meet():
    assert verdicts((RGB, 1000), (DEPTH, 1001), (RGB, 500), (RGB, 995), (DEPTH, 1003)) == [
        IN_STEP,
        IN_STEP,
        JUMPED,
        IN_STEP,
        IN_STEP,
    ]


def test_one_topic_alone_jumps_without_another():
    assert verdicts((RGB, 1000), (RGB, 500), (DEPTH, 5000)) == [IN_STEP, JUMPED, IN_STEP]


def test_reset_forgets_the_time():
    watch = StampWatch(10)
    watch.judge(RGB, 1000)
    watch.reset()
    assert watch.judge(RGB, 5) is IN_STEP


@pytest.mark.parametrize('stamp', [0, -7])
def test_a_stamp_that_was_never_set_is_refused(stamp):
    with pytest.raises(StampError, match=f'depth stamp is {stamp} ns.*above 0') as error:
        StampWatch(10).judge(DEPTH, stamp)
    assert error.value.reason == 'zero_stamp'


def test_a_slow_topic_that_leads_is_not_left_over_for_ever():
    """Depth of a camera slower than the jump, after a jump: it is always ahead of RGB."""
    slow = [(topic, stamp) for stamp in range(120, 320, 20) for topic in (DEPTH, RGB)]
    seen = verdicts((RGB, 1000), (DEPTH, 100), (RGB, 80), *slow)
    assert seen[2] is JUMPED
    assert LEFT_OVER in seen
    assert seen[-6:] == [IN_STEP] * 6


@pytest.mark.parametrize(('left_over', 'jumps'), [(5, 1), (6, 2)])
def test_more_than_were_on_their_way_are_a_clock_of_their_own(left_over, jumps):
    on_their_way = [(DEPTH, 1001 + n) for n in range(left_over)]
    seen = verdicts((RGB, 1000), (DEPTH, 1000), (RGB, 500), *on_their_way, (DEPTH, 501))
    assert seen.count(LEFT_OVER) == 5
    assert seen.count(JUMPED) == jumps
