# SPDX-License-Identifier: Apache-2.0
"""With the real message_filters, where it is installed."""

import pytest

pytest.importorskip('message_filters')

from depth_sr_ros.ros.approximate_pairing import ApproximatePairing
from depth_sr_ros.ros.frame_pairing import StampError

MILLISECOND = 1_000_000
START = 1000 * 10**9


def play(pairing, laps=1, frames=60, depth_late=3):
    """RGB at 30 Hz, depth at 15 Hz and a few milliseconds late; return what comes out."""
    pairs = []
    for _ in range(laps):
        for number in range(frames):
            stamp = START + number * 33 * MILLISECOND
            pairs += pairing.add_rgb(stamp, ('rgb', number), 0)
            if number % 2 == 0:
                pairs += pairing.add_depth(stamp + depth_late * MILLISECOND, ('depth', number), 0)
    return pairs


def test_every_depth_finds_its_frame():
    pairing = ApproximatePairing(20 * MILLISECOND)
    pairs = play(pairing)
    assert [pair.rgb[1] for pair in pairs] == list(range(0, 60, 2))
    assert all(pair.rgb[1] == pair.depth[1] and not pair.held for pair in pairs)
    assert {pair.depth_stamp_ns - pair.rgb_stamp_ns for pair in pairs} == {3 * MILLISECOND}
    assert pairing.counts.paired == 30
    assert pairing.nearest_gap_ns == 3 * MILLISECOND
    pairing.clear()
    assert pairing.counts.no_partner == 30


def test_a_looped_bag_goes_on():
    pairing = ApproximatePairing(20 * MILLISECOND)
    assert len(play(pairing, laps=3)) == 90
    assert pairing.counts.clock_jumps >= 2


def test_slop_is_inclusive_and_can_change():
    pairing = ApproximatePairing(3 * MILLISECOND)
    assert len(play(pairing)) == 30
    pairing.clear()
    pairing.slop_ns = 3 * MILLISECOND - 1
    assert not play(pairing)
    pairing.slop_ns = 0
    pairing.clear()
    assert len(play(pairing, depth_late=0)) == 30


def test_zero_stamps_are_refused():
    pairing = ApproximatePairing(20 * MILLISECOND)
    with pytest.raises(StampError, match='RGB stamp is 0 ns'):
        pairing.add_rgb(0, None, 0)
    with pytest.raises(StampError, match='depth stamp is 0 ns'):
        pairing.add_depth(0, None, 0)
    assert pairing.counts.no_partner == 0
