# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from depth_sr_ros.ros.approximate_pairing import ApproximatePairing
from depth_sr_ros.ros.frame_pairing import NearestPairing, Pair, StampError

pytest.importorskip('rclpy')

MS = 1_000_000
START = 1_700_000_000_000_000_000


class StandInFilter:
    def __init__(self):
        self.callback = None

    def registerCallback(self, callback, *args):  # noqa: N802
        self.callback, self.args = callback, args

    def signalMessage(self, *messages):  # noqa: N802
        self.callback(*messages, *self.args)


class StandInSynchroniser(StandInFilter):
    """What matters of the real one: the first within the slop, and a lock held in the callback."""

    def __init__(self, filters, queue_size, slop):
        super().__init__()
        self.queues = [{} for _ in filters]
        self.queue_size = queue_size
        self.lock = threading.Lock()
        for index, source in enumerate(filters):
            source.registerCallback(self.add, index)

    def add(self, message, index):
        assert self.lock.acquire(timeout=1), 'called again while it calls back'
        stamp_ns = message.header.stamp.nanoseconds
        own, other = self.queues[index], self.queues[1 - index]
        own[stamp_ns] = message
        while len(own) > self.queue_size:
            del own[min(own)]
        for candidate in sorted(other, key=lambda known: abs(known - stamp_ns)):
            if abs(candidate - stamp_ns) < self.slop.nanoseconds and stamp_ns in own:
                pair = own.pop(stamp_ns), other.pop(candidate)
                self.signalMessage(*(pair if index == 0 else pair[::-1]))
                break
        self.lock.release()


@pytest.fixture(params=['stand-in', 'message_filters'])
def message_filters(request, monkeypatch):
    if request.param == 'stand-in':
        module = SimpleNamespace(
            SimpleFilter=StandInFilter, ApproximateTimeSynchronizer=StandInSynchroniser
        )
        monkeypatch.setitem(sys.modules, 'message_filters', module)
        return module
    return pytest.importorskip('message_filters')


pytestmark = pytest.mark.usefixtures('message_filters')


def play(pairing, *topics):
    """Adds (topic, [stamps]) in the order of the stamps and returns the pairs."""
    pairs = []
    events = [(stamp, name) for name, stamps in topics for stamp in stamps]
    for stamp, name in sorted(events):
        pairs += getattr(pairing, f'add_{name}')(stamp, (name, stamp), 0)
    return pairs


def stamps(period_ms, count, start_ms=0.0):
    return [START + round((start_ms + index * period_ms) * MS) for index in range(count)]


def test_frames_within_the_slop_are_paired():
    pairing = ApproximatePairing(5 * MS)
    pairs = play(pairing, ('rgb', stamps(33, 60)), ('depth', stamps(66, 30, start_ms=3)))
    assert [pair.depth_stamp_ns - pair.rgb_stamp_ns for pair in pairs] == [3 * MS] * 30
    assert pairs[0] == Pair(('rgb', START), ('depth', START + 3 * MS), START, START + 3 * MS, False)
    assert pairing.counts.paired == 30
    assert pairing.counts.no_partner == 30 - len(pairing._synchronizer.queues[0])
    assert pairing.nearest_gap_ns in (3 * MS, 30 * MS)


@pytest.mark.parametrize(
    ('slop', 'gap', 'paired'),
    [(20 * MS, 20 * MS, 1), (20 * MS, 20 * MS + 1, 0), (0, 0, 1), (0, 1, 0)],
)
def test_slop_is_inclusive_and_0_is_exact(slop, gap, paired):
    pairing = ApproximatePairing(slop)
    pairing.add_rgb(START, 'rgb', 0)
    assert len(pairing.add_depth(START + gap, 'depth', 0)) == paired


def test_a_looped_bag_is_paired_in_every_lap():
    pairing = ApproximatePairing(5 * MS)
    for _ in range(3):
        pairs = play(pairing, ('rgb', stamps(33, 60)), ('depth', stamps(66, 30, start_ms=3)))
        assert len(pairs) == 30
    assert pairing.counts.clock_jumps == 2


def test_depth_left_over_from_before_the_jump_is_not_used():
    pairing = ApproximatePairing(5 * MS)
    play(pairing, ('rgb', stamps(33, 60)), ('depth', stamps(33, 60)))
    assert pairing.add_rgb(START, 'new', 0) == []
    assert pairing.add_depth(START + 60 * 33 * MS, 'left over', 0) == []
    assert [pair.depth for pair in pairing.add_depth(START, 'new', 0)] == ['new']
    assert (pairing.counts.from_before_jump, pairing.counts.clock_jumps) == (1, 1)


@pytest.mark.parametrize('add', ['add_rgb', 'add_depth'])
@pytest.mark.parametrize('stamp', [0, -1])
def test_a_stamp_that_was_never_set_is_refused(add, stamp):
    pairing = ApproximatePairing(5 * MS)
    with pytest.raises(StampError, match=f'{stamp} ns'):
        getattr(pairing, add)(stamp, 'item', 0)
    assert pairing.counts.zero_stamp == 1


@pytest.mark.parametrize('add', ['add_rgb', 'add_depth'])
def test_a_duplicate_is_refused(add):
    pairing = ApproximatePairing(5 * MS)
    getattr(pairing, add)(START, 'item', 0)
    with pytest.raises(StampError, match=f'{START} ns came twice'):
        getattr(pairing, add)(START, 'item', 0)
    assert pairing.counts.duplicate == 1


def test_pairs_never_come_out_of_order():
    pairing = ApproximatePairing(20 * MS)
    pairing.add_rgb(START, 'first', 0)
    pairing.add_rgb(START + 15 * MS, 'second', 0)
    assert [p.rgb for p in pairing.add_depth(START + 15 * MS, 'depth', 0)] == ['second']
    assert pairing.add_depth(START + 2 * MS, 'late depth', 0) == []
    assert pairing.counts.out_of_order == 1


def test_the_slop_can_change_while_running():
    pairing = ApproximatePairing(5 * MS)
    pairing.slop_ns = 30 * MS
    pairing.add_rgb(START, 'rgb', 0)
    assert len(pairing.add_depth(START + 25 * MS, 'depth', 0)) == 1


def test_clear_forgets_frames_and_keeps_counts():
    pairing = ApproximatePairing(5 * MS)
    pairing.add_rgb(START, 'rgb', 0)
    pairing.clear()
    assert pairing.add_depth(START, 'depth', 0) == []
    assert (pairing.counts.rgb_received, pairing.counts.no_partner) == (1, 1)


def test_it_has_the_interface_of_the_other_policy():
    public = {name for name in dir(NearestPairing(0, 0)) if not name.startswith('_')}
    missing = public - set(dir(ApproximatePairing(5 * MS, 0, 10)))
    assert missing == {'max_wait_ns', 'clock_jump_ns'}


@pytest.mark.parametrize('arguments', [(-1, 0, 10), (1, 0, 0)])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match='must be'):
        ApproximatePairing(*arguments)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'message_filters', None)
    with pytest.raises(ImportError, match='message_filters') as error:
        ApproximatePairing(5 * MS)
    assert error.value.name == 'message_filters'  # what the node's sentence is made of


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 2000)), max_size=120),
    st.sampled_from([0, 3 * MS, 40 * MS]),
    st.sampled_from([1, 4, 10]),
)
def test_whatever_comes_pairs_are_sound(calls, slop_ns, queue_size):
    pairing = ApproximatePairing(slop_ns, 0, queue_size)
    refused = []
    pairs: list[Pair] = []
    for index, (is_rgb, offset_ms) in enumerate(calls):
        try:
            add = pairing.add_rgb if is_rgb else pairing.add_depth
            pairs += add(START + offset_ms * MS, index, 0)
        except StampError as error:
            refused += [error.reason] if is_rgb else []
    counts = pairing.counts
    waiting = len(pairing._synchronizer.queues[0])
    came_out_too_late = counts.out_of_order - refused.count('out_of_order')
    decided = counts.paired + counts.no_partner + came_out_too_late
    assert counts.rgb_received == decided + waiting + len(refused)
    assert waiting <= queue_size
    assert len({pair.rgb for pair in pairs}) == len(pairs) == counts.paired
    assert all(abs(pair.depth_stamp_ns - pair.rgb_stamp_ns) <= slop_ns for pair in pairs)
