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


def test_a_size_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(['--rgb-size', 'large'])
    assert "'large' is no size" in capsys.readouterr().err
