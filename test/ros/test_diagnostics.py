# SPDX-License-Identifier: Apache-2.0
import threading

import pytest

pytest.importorskip('diagnostic_msgs')

from depth_sr_ros.ros.diagnosis import Diagnosis, Level
from depth_sr_ros.ros.diagnostics import DROP_CAUSES, NodeDiagnostics


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def diagnostics(clock):
    return NodeDiagnostics(window=4, clock=clock)


def run(diagnostics, clock, seconds, per_second):
    for _ in range(seconds):
        for name, number in per_second.items():
            diagnostics.count(name, number)
        clock.now += 1
        diagnostics.tick()


def test_rates_cover_the_window(diagnostics, clock):
    run(diagnostics, clock, 10, {'received rgb/image': 30})
    assert diagnostics.total('received rgb/image') == 300
    assert diagnostics.recent('received rgb/image') == 120
    assert diagnostics.rate('received rgb/image') == 30
    run(diagnostics, clock, 2, {})
    assert diagnostics.rate('received rgb/image') == 15
    run(diagnostics, clock, 4, {})
    assert diagnostics.rate('received rgb/image') == 0
    assert diagnostics.total('received rgb/image') == 300


def test_drops_keep_their_cause_and_last_sentence(diagnostics, clock):
    diagnostics.drop('bad message', 'step is 1')
    diagnostics.drop('bad message', 'step is 2')
    diagnostics.drop('superseded')
    clock.now += 1
    diagnostics.tick()
    assert diagnostics.recent_drops() == {
        'bad message': (2, 'step is 2'),
        'superseded': (1, ''),
    }
    with pytest.raises(ValueError, match="cause is 'bad luck'"):
        diagnostics.drop('bad luck')


def test_percentiles_are_over_the_last_thousand(diagnostics):
    for _ in range(500):
        diagnostics.latency('decode', 9.0)
    for number in range(1000):
        diagnostics.latency('decode', number / 1000)
    median, high, samples = diagnostics.percentiles()['decode']
    assert median == pytest.approx(0.4995)
    assert high == pytest.approx(0.98901)
    assert samples == 1000
    assert 'encode' not in diagnostics.percentiles()


def test_status_says_everything(diagnostics, clock):
    diagnostics.latency('total', 0.0105)
    diagnostics.drop('stale', 'waited 1 s')
    run(diagnostics, clock, 4, {'received rgb/image': 30, 'published depth/image': 15})
    status = diagnostics.status(
        'node', 'cpu', Diagnosis(Level.WARN, 'superseded', 'too slow'), {'weights': 'small'}
    )
    values = {value.key: value.value for value in status.values}
    assert (status.level, status.name, status.message) == (b'\x01', 'node', 'too slow')
    assert values['received rgb/image'] == '120'
    assert values['rate published depth/image [Hz]'] == '15.00'
    assert values['latency total p50 [ms]'] == '10.500'
    assert values['dropped stale'] == '1'
    assert values['last stale'] == 'waited 1 s'
    assert values['weights'] == 'small'
    assert {f'dropped {cause}' for cause in DROP_CAUSES} <= set(values)


def test_two_threads_lose_no_count(diagnostics):
    def count():
        for _ in range(20000):
            diagnostics.count('paired')

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert diagnostics.total('paired') == 40000
