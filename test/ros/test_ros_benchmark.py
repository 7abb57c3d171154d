# SPDX-License-Identifier: Apache-2.0
"""The ROS benchmark over real processes, short; its figures add up."""

import json
import os

import pytest

pytest.importorskip('rclpy')

from depth_sr_ros.ros import benchmark


def test_counts_add_up_and_the_table_shows_them(tmp_path, capsys, monkeypatch):
    for name in ('ROS_DOMAIN_ID', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        monkeypatch.setenv(name, os.environ[name])  # put back what the benchmark sets
    file = tmp_path / 'figures.json'
    arguments = ['--rgb-size', '96x64', '--depth-size', '48x32', '--rate', '20']
    assert benchmark.main([*arguments, '--seconds', '2', '--json', str(file)]) == 0
    result = json.loads(file.read_text())
    frames = result['frames']
    assert frames['sent rgb'] + frames['skipped by the camera'] == 40
    assert frames['received rgb'] + frames['lost by the transport rgb'] == frames['sent rgb']
    assert frames['published'] > 0
    assert frames['published'] + sum(result['dropped'].values()) == frames['received rgb']
    assert frames['arrived twice'] == 0
    for stage in (*benchmark.OWN_STAGES, 'stamp to publish', 'stamp to consumer', 'own cpu'):
        latency = result['latency_ms'][stage]
        assert 0 < latency['p50'] <= latency['p99']
    assert 0 <= result['idle_cpu_share'] < 2
    assert 0 < result['pairing_us'] < 10_000
    printed = capsys.readouterr().out
    assert 'RGB 96x64 at 20 Hz' in printed
    assert 'own work' in printed
    assert 'us of processor time per message' in printed
    assert printed.splitlines()[-1] == benchmark.verdict(result)


@pytest.mark.parametrize(
    ('published', 'p50', 'p99', 'words'),
    [
        (100, 25.0, 40.0, 'p99 40.0 ms: all that it must reach'),
        (99, 24.0, 41.0, 'not reached: every frame published, p99 at most 40 ms'),
        (100, 26.0, 39.0, 'not reached: p50 at most 25 ms'),
    ],
)
def test_the_last_line_is_a_verdict(published, p50, p99, words):
    line = benchmark.verdict(
        {
            'frames': {'published': published, 'sent rgb': 100},
            'latency_ms': {'stamp to publish': {'p50': p50, 'p99': p99}},
        }
    )
    assert line.startswith(f'published {published} of 100 frames')
    assert line.endswith(words)


def test_a_size_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(['--rgb-size', 'large'])
    assert "'large' is no size" in capsys.readouterr().err
