# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from depth_sr_ros.ros.frame_pairing import NearestPairing, Pair, StampError

MS = 1_000_000
START = 1_700_000_000_000_000_000


class Event(NamedTuple):
    arrival_ns: int
    topic: str
    stamp_ns: int
    lap: int = 0


class Decided(NamedTuple):
    pair: Pair
    at_ns: int


class Playback:
    """Plays events in the order of arrival, with the timer that a node would have."""

    def __init__(self, pairing, events):
        self.pairing = pairing
        self.decided: list[Decided] = []
        self.refused: list[Event] = []
        self.largest_queue = 0
        for event in sorted(events, key=lambda event: event.arrival_ns):
            self.wait_until(event.arrival_ns)
            add = pairing.add_rgb if event.topic == 'rgb' else pairing.add_depth
            try:
                self.take(add(event.stamp_ns, event, event.arrival_ns), event.arrival_ns)
            except StampError:
                self.refused.append(event)
            self.largest_queue = max(self.largest_queue, len(pairing._rgb), len(pairing._depth))
        self.wait_until(None)

    def wait_until(self, time_ns):
        while (deadline := self.pairing.next_deadline_ns) is not None:
            if time_ns is not None and deadline > time_ns:
                return
            before = self.pairing.next_deadline_ns, len(self.pairing._rgb)
            self.take(self.pairing.poll(deadline), deadline)
            assert before != (self.pairing.next_deadline_ns, len(self.pairing._rgb))

    def take(self, pairs, now_ns):
        self.decided += [Decided(pair, now_ns) for pair in pairs]

    @property
    def pairs(self):
        return [decided.pair for decided in self.decided]


def stream(topic, period_ms, count, *, start_ms=0.0, latency_ms=0.0):
    return [
        Event(
            round((start_ms + index * period_ms + latency_ms) * MS),
            topic,
            START + round((start_ms + index * period_ms) * MS),
        )
        for index in range(count)
    ]


def gap_ms(pair):
    return (pair.depth_stamp_ns - pair.rgb_stamp_ns) / MS


def pairing_ms(slop=20.0, hold=100.0, queue_size=10, **durations):
    return NearestPairing(
        round(slop * MS),
        round(hold * MS),
        queue_size,
        **{f'{name}_ns': round(value * MS) for name, value in durations.items()},
    )


class TestChoice:
    def test_the_nearer_of_two_depths_is_chosen_though_the_farther_one_came_first(self):
        pairing = pairing_ms()
        pairing.add_depth(START, 'early', 0)
        assert pairing.add_rgb(START + 10 * MS, 'rgb', 1 * MS) == []
        pairs = pairing.add_depth(START + 13 * MS, 'late', 2 * MS)
        assert pairs == [Pair('rgb', 'late', START + 10 * MS, START + 13 * MS, False)]

    def test_of_two_equally_near_depths_the_earlier_one_is_chosen(self):
        pairing = pairing_ms()
        pairing.add_depth(START, 'early', 0)
        pairing.add_rgb(START + 10 * MS, 'rgb', 1)
        pairs = pairing.add_depth(START + 20 * MS, 'late', 2)
        assert [pair.depth for pair in pairs] == ['early']

    @pytest.mark.parametrize(('gap', 'paired'), [(20 * MS, 1), (20 * MS + 1, 0)])
    def test_slop_is_exact_to_the_nanosecond(self, gap, paired):
        pairing = NearestPairing(20 * MS, 0)
        pairing.add_depth(START + gap, 'depth', 0)
        assert len(pairing.add_rgb(START, 'rgb', 1)) == paired
        assert (pairing.counts.paired, pairing.counts.no_partner) == (paired, 1 - paired)
        assert pairing.nearest_gap_ns == gap

    def test_slop_0_pairs_equal_stamps_only(self):
        rgb = stream('rgb', 33, 30)
        depth = stream('depth', 66, 15, latency_ms=20)
        late_by_a_nanosecond = [event._replace(stamp_ns=event.stamp_ns + 1) for event in depth[5:]]
        playback = Playback(pairing_ms(slop=0, hold=0), rgb + depth[:5] + late_by_a_nanosecond)
        assert [pair.rgb_stamp_ns for pair in playback.pairs] == [e.stamp_ns for e in depth[:5]]

    def test_one_depth_serves_every_rgb_frame_that_it_is_nearest_to(self):
        playback = Playback(
            pairing_ms(slop=17), stream('rgb', 8, 60) + stream('depth', 33, 15, start_ms=2)
        )
        assert playback.pairing.counts.paired == 60
        assert len({pair.depth_stamp_ns for pair in playback.pairs}) == 15


class TestWaiting:
    def test_a_frame_waits_for_its_own_depth_that_comes_later(self):
        playback = Playback(
            pairing_ms(), stream('rgb', 33, 40) + stream('depth', 33, 40, latency_ms=25)
        )
        assert [gap_ms(pair) for pair in playback.pairs] == [0] * 40
        assert all(
            decided.at_ns - decided.pair.rgb.arrival_ns == 25 * MS for decided in playback.decided
        )

    def test_a_frame_is_decided_at_once_when_no_depth_could_be_nearer(self):
        rgb = stream('rgb', 33, 40, start_ms=5)
        depth = stream('depth', 66, 20)
        playback = Playback(pairing_ms(slop=15), rgb + depth)
        learnt = [d for d in playback.decided if 500 * MS < d.at_ns < 1200 * MS]
        assert {decided.at_ns - decided.pair.rgb.arrival_ns for decided in learnt} == {0}
        assert {gap_ms(d.pair) for d in learnt} == {-5, -38}

    def test_a_missing_depth_is_waited_for_no_longer_than_it_was_ever_late(self):
        rgb = stream('rgb', 33, 40)
        depth = stream('depth', 33, 40, latency_ms=25)
        del depth[30]
        playback = Playback(pairing_ms(slop=10), rgb + depth)
        decided = playback.decided[30]
        assert decided.pair.held
        # 25 ms late, 10 ms of slop, a quarter of a period and 5 ms for jitter.
        assert 35 * MS <= decided.at_ns - decided.pair.rgb.arrival_ns <= 49 * MS

    def test_before_anything_is_learnt_the_wait_is_bounded_by_max_wait(self):
        pairing = pairing_ms(slop=20, hold=100, max_wait=50)
        pairing.add_depth(START, 'depth', 0)
        assert pairing.add_rgb(START + 15 * MS, 'rgb', 7 * MS) == []
        assert pairing.next_deadline_ns == 57 * MS
        assert pairing.poll(57 * MS - 1) == []
        assert [pair.depth for pair in pairing.poll(57 * MS)] == ['depth']
        assert pairing.next_deadline_ns is None

    def test_without_any_depth_frames_go_after_max_wait(self):
        playback = Playback(pairing_ms(), stream('rgb', 33, 30))
        assert playback.pairs == []
        assert playback.pairing.counts.no_partner == 30
        assert playback.pairing.nearest_gap_ns is None

    @pytest.mark.parametrize('pace', [0.1, 1.0, 10.0])
    def test_a_simulation_may_run_at_any_pace(self, pace):
        events = stream('rgb', 33, 90) + stream('depth', 66, 45, latency_ms=40)
        slowed = [event._replace(arrival_ns=round(event.arrival_ns / pace)) for event in events]
        playback = Playback(pairing_ms(hold=0), slowed)
        late = [pair for pair in playback.pairs if pair.rgb_stamp_ns > START + 800 * MS]
        assert [gap_ms(pair) for pair in late] == [0] * len(late)
        assert len(late) >= 30


class TestHolding:
    def test_10_hz_depth_gives_30_hz_output(self):
        playback = Playback(
            pairing_ms(slop=10), stream('rgb', 100 / 3, 90) + stream('depth', 100, 30, latency_ms=5)
        )
        counts = playback.pairing.counts
        assert (counts.paired, counts.held, counts.no_partner) == (30, 60, 0)
        for pair in playback.pairs:
            assert pair.held == (gap_ms(pair) < -10)
            assert -67 < gap_ms(pair) <= 0

    def test_the_last_depth_is_held_no_longer_than_depth_hold(self):
        playback = Playback(
            pairing_ms(slop=10, hold=100), stream('rgb', 30, 20) + stream('depth', 30, 5)
        )
        assert [gap_ms(pair) for pair in playback.pairs] == [0] * 5 + [-30, -60, -90]
        assert playback.pairing.counts.no_partner == 12

    def test_a_later_depth_beyond_the_slop_is_not_held(self):
        pairing = pairing_ms(slop=10, hold=100)
        pairing.add_depth(START + 30 * MS, 'depth', 0)
        assert pairing.add_rgb(START, 'rgb', 0) == []
        assert pairing.counts.no_partner == 1


class TestBadStamps:
    @pytest.mark.parametrize('stamp', [0, -1])
    @pytest.mark.parametrize('add', ['add_rgb', 'add_depth'])
    def test_a_stamp_that_was_never_set_is_refused(self, add, stamp):
        pairing = pairing_ms()
        with pytest.raises(StampError, match=f'{stamp} ns.*above 0') as error:
            getattr(pairing, add)(stamp, 'item', 0)
        assert error.value.reason == 'zero_stamp'
        assert pairing.counts.zero_stamp == 1

    @pytest.mark.parametrize('add', ['add_rgb', 'add_depth'])
    def test_a_duplicate_is_refused(self, add):
        pairing = pairing_ms()
        getattr(pairing, add)(START, 'item', 0)
        with pytest.raises(StampError, match=f'{START} ns came twice'):
            getattr(pairing, add)(START, 'item', 1)
        assert pairing.counts.duplicate == 1

    def test_an_rgb_frame_out_of_order_takes_its_place_while_that_is_open(self):
        pairing = pairing_ms()
        pairing.add_rgb(START + 20 * MS, 'second', 0)
        pairing.add_rgb(START, 'first', 1)
        pairs = pairing.add_depth(START + 21 * MS, 'depth', 2)
        assert pairing.counts.no_partner == 1
        pairs += pairing.add_rgb(START + 22 * MS, 'third', 3)
        assert [pair.rgb for pair in pairs] == ['second']

    def test_an_rgb_frame_older_than_one_already_decided_is_refused(self):
        pairing = pairing_ms()
        pairing.add_depth(START, 'depth', 0)
        pairing.add_rgb(START, 'decided', 1)
        with pytest.raises(StampError, match=f'{START - MS} ns.*{START} ns.*increase') as error:
            pairing.add_rgb(START - MS, 'late', 2)
        assert error.value.reason == 'out_of_order'

    def test_a_depth_out_of_order_is_used(self):
        pairing = pairing_ms()
        pairing.add_rgb(START, 'rgb', 0)
        pairing.add_rgb(START + 33 * MS, 'next', 1)
        pairing.add_depth(START - 15 * MS, 'far', 2)
        pairing.add_depth(START - 19 * MS, 'farther', 3)
        pairs = pairing.add_depth(START + 40 * MS, 'late', 5)
        assert [pair.depth for pair in pairs] == ['far', 'late']

    def test_an_rgb_frame_out_of_order_still_finds_the_depth_before_it(self):
        pairing = pairing_ms()
        pairing.add_depth(START, 'early', 0)
        pairing.add_depth(START + 30 * MS, 'late', 1)
        pairing.add_rgb(START + 40 * MS, 'second', 2)
        pairs = pairing.add_rgb(START + 2 * MS, 'first', 3)
        assert [(pair.rgb, pair.depth) for pair in pairs] == [('first', 'early')]


class TestClockJump:
    def lap(self, number, shift_ms=0.0, period_ms=33.0):
        """A bag of 60 RGB frames and 30 depths, played for the given time in a row."""
        begin = number * 60 * 33.0
        return [
            event._replace(arrival_ns=event.arrival_ns + round((begin + shift) * MS), lap=number)
            for events, shift in (
                (stream('rgb', 33, 60), 0.0),
                (stream('depth', 66, 30, latency_ms=12), shift_ms),
            )
            for event in events
        ]

    @pytest.mark.parametrize('shift_ms', [-40.0, 0.0, 90.0])
    def test_a_looped_bag_is_paired_in_every_lap(self, shift_ms):
        events = [event for number in range(3) for event in self.lap(number, shift_ms)]
        playback = Playback(pairing_ms(slop=5), events)
        assert playback.refused == []
        assert playback.pairing.counts.clock_jumps == 2
        for number in range(3):
            pairs = [pair for pair in playback.pairs if pair.rgb.lap == number]
            assert {pair.depth.lap for pair in pairs} == {number}
            assert sum(not pair.held for pair in pairs) >= 28
            assert len(pairs) >= 56

    def test_depth_left_over_from_before_the_jump_is_not_used(self):
        pairing = pairing_ms()
        pairing.add_rgb(START + 5000 * MS, 'old', 0)
        pairing.add_depth(START + 5000 * MS, 'old', 1)
        pairing.add_rgb(START, 'new', 33 * MS)
        assert pairing.add_depth(START + 5033 * MS, 'left over', 34 * MS) == []
        pairs = pairing.add_depth(START + 2 * MS, 'new', 35 * MS)
        assert [(pair.rgb, pair.depth) for pair in pairs] == [('new', 'new')]
        assert pairing.counts.from_before_jump == 1
        assert pairing.counts.clock_jumps == 1

    def test_depth_that_jumps_first_is_kept_until_rgb_follows(self):
        pairing = pairing_ms()
        pairing.add_depth(START + 5000 * MS, 'old', 0)
        pairing.add_rgb(START + 5000 * MS, 'old', 1)
        for index in range(4):
            pairing.add_depth(START + 30 * index * MS, index, 10 + index)
        assert pairing.add_rgb(START + 5033 * MS, 'left over', 20) == []
        pairs = pairing.add_rgb(START + 31 * MS, 'new', 21)
        assert [(pair.rgb, pair.depth) for pair in pairs] == [('new', 1)]
        assert pairing.counts.clock_jumps == 1

    def test_what_waits_at_the_jump_still_gets_the_best_of_what_is_there(self):
        pairing = pairing_ms()
        pairing.add_depth(START + 5000 * MS, 'old', 0)
        assert pairing.add_rgb(START + 5005 * MS, 'old', 1) == []
        pairs = pairing.add_rgb(START, 'new', 2)
        assert [(pair.rgb, pair.depth) for pair in pairs] == [('old', 'old')]

    @pytest.mark.parametrize('topic', ['rgb', 'depth'])
    def test_one_camera_may_jump_alone_and_come_back(self, topic):
        events = stream('rgb', 33, 90) + stream('depth', 33, 90, latency_ms=3)
        jumped = [
            event._replace(stamp_ns=event.stamp_ns - 60_000 * MS)
            if event.topic == topic and 1000 * MS < event.arrival_ns < 2000 * MS
            else event
            for event in events
        ]
        playback = Playback(pairing_ms(hold=0), jumped)
        arrivals = [decided.at_ns for decided in playback.decided]
        assert sum(arrival < 1000 * MS for arrival in arrivals) >= 30
        assert sum(arrival > 2000 * MS for arrival in arrivals) >= 28
        assert all(gap_ms(pair) == 0 for pair in playback.pairs)

    def test_a_forward_jump_is_survived(self):
        events = stream('rgb', 33, 60) + stream('depth', 33, 60, latency_ms=3)
        jumped = [
            event._replace(stamp_ns=event.stamp_ns + 3_600_000 * MS)
            if event.arrival_ns > 1000 * MS
            else event
            for event in events
        ]
        playback = Playback(pairing_ms(hold=0), jumped)
        assert playback.pairing.counts.paired == 60


class TestBookkeeping:
    @pytest.mark.parametrize('queue_size', [1, 3])
    def test_memory_is_bounded_when_the_other_topic_is_missing(self, queue_size):
        for topic in ('rgb', 'depth'):
            pairing = pairing_ms(queue_size=queue_size, max_wait=1e6)
            playback = Playback(pairing, stream(topic, 5, 200))
            assert playback.largest_queue <= queue_size

    def test_clocks_that_differ_show_in_the_nearest_gap(self):
        rgb = stream('rgb', 33, 30)
        depth = [e._replace(stamp_ns=e.stamp_ns + 3000 * MS) for e in stream('depth', 33, 30)]
        playback = Playback(pairing_ms(), rgb + depth)
        assert playback.pairs == []
        assert playback.pairing.counts.no_partner == 30
        assert abs(playback.pairing.nearest_gap_ns - 3000 * MS) < 1000 * MS

    def test_clear_forgets_frames_and_keeps_counts(self):
        pairing = pairing_ms()
        pairing.add_depth(START, 'depth', 0)
        pairing.add_rgb(START + 5 * MS, 'rgb', 1)
        pairing.clear()
        assert pairing.next_deadline_ns is None
        assert pairing.poll(10**12) == []
        assert (pairing.counts.rgb_received, pairing.counts.no_partner) == (1, 1)
        assert pairing.add_rgb(START - 5000 * MS, 'older', 2) == []
        assert pairing.counts.clock_jumps == 0

    @pytest.mark.parametrize(
        'arguments', [{'slop': -1}, {'hold': -1}, {'queue_size': 0}, {'max_wait': -1}]
    )
    def test_arguments_out_of_range_are_refused(self, arguments):
        name, value = next(iter(arguments.items()))
        with pytest.raises(ValueError, match=rf'{name}.* is {value}.*must be'):
            pairing_ms(**arguments)


@st.composite
def camera_setups(draw):
    """Two cameras at 1 to 120 Hz whose timing is as regular as hardware makes it."""
    setup = {
        'rgb_hz': draw(st.floats(1, 120)),
        'depth_hz': draw(st.floats(1, 120)),
        'phase': draw(st.floats(0, 1)),
        'slop_ms': draw(st.sampled_from([0.0, 1.0, 8.0, 20.0, 50.0])),
        'hold_ms': draw(st.sampled_from([0.0, 40.0, 100.0])),
        'rgb_latency_ms': draw(st.floats(0, 40)),
        'depth_latency_ms': draw(st.floats(0, 60)),
        'jitter': draw(st.sampled_from([0.0, 0.01, 0.03])),
        'drop_outs': draw(st.sampled_from([0.0, 0.1])),
        'pace': draw(st.sampled_from([0.2, 0.5, 1.0, 2.0, 5.0])),
        'seed': draw(st.integers(0, 2**32)),
    }
    if setup['slop_ms'] == 0:  # exact: stamps of one trigger
        setup['depth_hz'] = setup['rgb_hz'] / draw(st.integers(1, 4))
        setup['phase'] = setup['jitter'] = 0.0
    return setup


def camera_events(topic, hz, phase, latency_ms, setup, seconds):
    """Jitter is a share of the period for stamps, up to 5 ms for latency; arrival keeps order."""
    rng = random.Random(f'{setup["seed"]} {topic}')
    period = 1e9 / hz
    events, arrival = [], 0
    for index in range(int(seconds * hz)):
        offset = (index + phase + setup['jitter'] * rng.uniform(-1, 1)) * period
        latency = (latency_ms + 100 * setup['jitter'] * rng.uniform(0, 1.6)) * MS
        arrival = max(arrival + 1, round(offset / setup['pace'] + latency))
        if rng.random() >= setup['drop_outs']:
            events.append(Event(arrival, topic, START + round(offset)))
    return events


@settings(max_examples=100, deadline=None, derandomize=True)
@given(camera_setups())
def test_regular_cameras_are_paired_as_by_brute_force(setup):
    seconds = max(6.0, 40 / setup['depth_hz'])
    rgb = camera_events('rgb', setup['rgb_hz'], 0.0, setup['rgb_latency_ms'], setup, seconds)
    depth = camera_events(
        'depth', setup['depth_hz'], setup['phase'], setup['depth_latency_ms'], setup, seconds
    )
    pairing = pairing_ms(setup['slop_ms'], setup['hold_ms'], 100)
    playback = Playback(pairing, rgb + depth)
    chosen = {pair.rgb_stamp_ns: pair for pair in playback.pairs}
    assert playback.refused == []
    begin = depth[min(20, len(depth) - 1)].stamp_ns
    for event in rgb:
        if not begin < event.stamp_ns < depth[-1].stamp_ns - 200 * MS:
            continue  # still learning, or nothing comes any more
        nearest = min(depth, key=lambda d: (abs(d.stamp_ns - event.stamp_ns), d.stamp_ns))
        last = max((d for d in depth if d.stamp_ns <= event.stamp_ns), key=lambda d: d.stamp_ns)
        pair = chosen.get(event.stamp_ns)
        if abs(nearest.stamp_ns - event.stamp_ns) <= pairing.slop_ns:
            assert pair is not None
            assert (pair.depth, pair.held) == (nearest, False)
        elif event.stamp_ns - last.stamp_ns <= pairing.depth_hold_ns:
            assert pair is not None
            assert (pair.depth, pair.held) == (last, True)
        else:
            assert pair is None


@st.composite
def rough_streams(draw):
    """Anything that networks and drivers do: bursts, reordering, drop-outs, duplicates, loops."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    laps = draw(st.sampled_from([1, 1, 2, 3]))
    reorder = laps == 1 and draw(st.booleans())
    bursts_ms = draw(st.sampled_from([0, 0, 50, 150]))
    drop_outs = draw(st.sampled_from([0.0, 0.1, 0.5]))
    duplicates = draw(st.sampled_from([0.0, 0.1]))
    # Faster, a message late by 80 ms would look like a clock that jumped.
    pace = draw(st.sampled_from([0.2, 1.0, 1.0] if reorder else [0.2, 1.0, 4.0]))
    lap_ms = draw(st.integers(2500, 4000))
    events = []
    for topic in ('rgb', 'depth'):
        period_ms = 1000 / draw(st.floats(4 if laps > 1 else 1, 120))
        jitter = draw(st.sampled_from([0.0, 0.1, 0.45]))
        latency_ms, latency_jitter_ms = draw(st.floats(0, 150)), draw(st.sampled_from([0, 5, 80]))
        arrival = 0
        for lap in range(laps):
            for index in range(1, int(lap_ms / period_ms)):
                offset = (index + jitter * rng.uniform(-1, 1)) * period_ms
                due = (lap * lap_ms + offset) / pace
                due += latency_ms + rng.uniform(0, latency_jitter_ms)
                if bursts_ms:
                    due = (due // bursts_ms + 1) * bursts_ms
                if rng.random() < drop_outs:
                    continue
                arrival = round(due * MS) if reorder else max(arrival + 1, round(due * MS))
                event = Event(arrival, topic, START + round(offset * MS), lap)
                events.append(event)
                if rng.random() < duplicates:
                    events.append(event)
    return events, reorder


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    rough_streams(),
    st.sampled_from([0, 1 * MS, 8 * MS, 20 * MS, 60 * MS]),
    st.sampled_from([0, 40 * MS, 200 * MS]),
    st.sampled_from([1, 3, 10, 1000]),
)
def test_whatever_comes_pairs_are_sound(streams, slop_ns, hold_ns, queue_size):
    events, reordered = streams
    pairing = NearestPairing(slop_ns, hold_ns, queue_size)
    playback = Playback(pairing, events)
    counts = pairing.counts
    rgb = [event for event in events if event.topic == 'rgb']
    depth = [event for event in events if event.topic == 'depth']
    refused_rgb = sum(event.topic == 'rgb' for event in playback.refused)

    assert playback.largest_queue <= queue_size
    assert counts.rgb_received == len(rgb)
    assert counts.depth_received == len(depth)
    assert len(rgb) == counts.paired + counts.held + counts.no_partner + refused_rgb
    assert counts.paired == sum(not pair.held for pair in playback.pairs)
    assert counts.held == sum(pair.held for pair in playback.pairs)
    assert counts.duplicate + counts.out_of_order == len(playback.refused)

    order = [(pair.rgb.lap, pair.rgb_stamp_ns) for pair in playback.pairs]
    assert order == sorted(set(order)), 'a frame came out twice or out of order'
    for pair, at_ns in playback.decided:
        gap = pair.depth_stamp_ns - pair.rgb_stamp_ns
        assert (pair.rgb.stamp_ns, pair.depth.stamp_ns) == (pair.rgb_stamp_ns, pair.depth_stamp_ns)
        assert pair.rgb.lap == pair.depth.lap
        assert max(pair.rgb.arrival_ns, pair.depth.arrival_ns) <= at_ns
        assert slop_ns < -gap <= hold_ns if pair.held else abs(gap) <= slop_ns
        # A jump that was counted twice, see StampWatch, forgets depth of the new lap.
        if queue_size < 1000 or counts.clock_jumps > max(event.lap for event in events) > 0:
            continue
        known = [d for d in depth if d.lap == pair.rgb.lap and d.arrival_ns < at_ns]
        nearer = [d for d in known if abs(d.stamp_ns - pair.rgb_stamp_ns) < abs(gap)]
        if pair.held:
            nearer = [d for d in nearer if pair.depth_stamp_ns < d.stamp_ns <= pair.rgb_stamp_ns]
            assert all(abs(d.stamp_ns - pair.rgb_stamp_ns) > slop_ns for d in known)
        assert nearer == [], 'a nearer depth was there'

    if queue_size == 1000 and not reordered and max(event.lap for event in events) == 0:
        out = {pair.rgb_stamp_ns for pair in playback.pairs}
        for event in rgb:
            in_time = event.arrival_ns + pairing.max_wait_ns
            assert event.stamp_ns in out or not any(
                abs(d.stamp_ns - event.stamp_ns) <= slop_ns and d.arrival_ns < in_time
                for d in depth
            ), 'a frame that had a partner was lost'


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-(10**20), 10**20), st.integers(0, 10**18))))
@example([(True, 1, 0), (False, 10**20, 0), (True, 10**20, 0), (False, 1, 5)])
def test_any_stamps_are_taken_or_refused_and_nothing_else(calls):
    pairing = NearestPairing(20 * MS, 100 * MS)
    for is_rgb, stamp_ns, now_ns in calls:
        try:
            (pairing.add_rgb if is_rgb else pairing.add_depth)(stamp_ns, None, now_ns)
        except StampError as error:
            assert error.reason in ('zero_stamp', 'duplicate', 'out_of_order')  # noqa: PT017
        pairing.poll(now_ns)
    received = pairing.counts.rgb_received + pairing.counts.depth_received
    assert received == len(calls)
