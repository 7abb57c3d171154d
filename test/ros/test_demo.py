# SPDX-License-Identifier: Apache-2.0
"""`python -m depth_sr_ros.ros.demo` as a process, with its own node and camera over DDS."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import cv2
import pytest

pytest.importorskip('rclpy')

MARK = 'DEPTH_SR_DEMO_TEST'


class Demo:
    """A demo process; its environment carries a mark that its children inherit."""

    def __init__(self, out, *arguments):
        self.out = out
        self.mark = f'{MARK}={uuid.uuid4()}'
        name, value = self.mark.split('=')
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'depth_sr_ros.ros.demo', '--out', str(out), *arguments],
            env={**os.environ, name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self, timeout=170):
        """Exit status, stdout, stderr."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err

    def running(self):
        """Process ids that carry the mark, the demo's own included."""
        found = []
        for entry in Path('/proc').iterdir():
            try:
                if entry.name.isdigit() and self.mark.encode() in (entry / 'environ').read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # gone, or another user's
        return found

    def wait_for_children(self):
        deadline = time.monotonic() + 60
        while len(self.running()) < 3:
            assert time.monotonic() < deadline, 'node and camera were not started'
            time.sleep(0.1)

    def gone(self, timeout=15):
        deadline = time.monotonic() + timeout
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.running()


@pytest.fixture
def start_demo(tmp_path, ros_environment):
    demos = []

    def start(*arguments):
        demos.append(Demo(tmp_path / 'out', *arguments))
        return demos[-1]

    yield start
    for demo in demos:
        for process in demo.running():
            os.kill(process, signal.SIGKILL)
        demo.process.communicate()


pytestmark = pytest.mark.skipif(not Path('/proc/self/environ').exists(), reason='needs /proc')


@pytest.mark.slow
def test_without_a_network_it_runs_to_its_end_and_says_that_nothing_is_better(start_demo):
    demo = start_demo('--weights', 'interpolation', '--seconds', '3')
    status, out, err = demo.wait()
    assert demo.gone()
    assert status == 1, err
    assert 'the output is not better than the interpolated input: RMSE' in err
    assert 'Traceback' not in err
    # Not a terminal: no control characters, and a line now and then.
    assert '\x1b' not in err
    assert '\r' not in err
    assert 'sr_node is ready' in err

    figures = json.loads((demo.out / 'demo.json').read_text())
    frames = figures['frames']
    assert frames['published'] >= 20
    assert frames['output_heard'] == frames['published']
    assert frames['rgb_sent'] >= frames['rgb_received'] > 0
    assert frames['depth_sent'] >= frames['depth_received'] > 0
    # Every frame that came is accounted for.
    dropped = sum(frames['dropped'].values())
    accounted = frames['published'] + dropped
    assert 0 <= frames['rgb_received'] - accounted <= 2
    after_pairing = dropped - frames['dropped'].get('no partner', 0)
    assert frames['paired'] + frames['held'] == frames['published'] + after_pairing
    # What the node makes of it without a network is the interpolated input, frame by frame: the
    # replay chose the same depth, the truth is that of the same stamp.
    error = figures['error_m']
    for name in ('rmse', 'rmse_edge'):
        assert error[name]['output'] == pytest.approx(error[name]['interpolated'], rel=0.02)
    assert 0.005 < error['rmse']['output'] < 0.5
    assert figures['fps'] > 0
    assert 0 < figures['latency_ms']['median'] <= figures['latency_ms']['p99']
    assert figures['model']['weights'] == 'interpolation'
    assert figures['coverage'] == 1.0
    assert f'{error["rmse"]["output"] * 100:.2f} cm' in out
    assert cv2.imread(str(demo.out / 'demo.png')) is not None


def test_a_node_that_dies_is_shown_with_its_last_lines(start_demo, tmp_path):
    demo = start_demo('--weights', str(tmp_path / 'no_such_weights'))
    status, _, err = demo.wait()
    assert demo.gone()
    assert status == 1
    assert 'sr_node ended with status' in err
    assert 'no_such_weights' in err
    assert 'Traceback' not in err.partition('demo:')[0]


def test_a_missing_clip_is_named(start_demo, tmp_path):
    demo = start_demo('--clip', str(tmp_path / 'missing.npz'))
    status, _, err = demo.wait()
    assert demo.gone()
    assert status == 1
    assert 'missing.npz' in err
    assert 'Traceback' not in err


@pytest.mark.parametrize(
    ('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_however_it_ends_nothing_is_left_running(start_demo, number, status):
    demo = start_demo('--weights', 'interpolation')
    demo.wait_for_children()
    demo.process.send_signal(number)
    assert demo.wait(60)[0] == status
    assert demo.gone()


def test_arguments_out_of_range_are_quoted(start_demo):
    status, _, err = start_demo('--seconds', '0').wait()
    assert status == 2
    assert '--seconds is 0; allowed: 1 to 300' in err
