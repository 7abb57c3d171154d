# SPDX-License-Identifier: Apache-2.0
"""tools/measure_network.py: what it makes of its processes' words, and one short real run."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / 'tools/measure_network.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('measure_network', TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules['measure_network'] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules['measure_network']


CAMERA_LOG = """
[INFO] [1.0] [demo_camera]: /camera/color/image_raw/compressed 640x480 'rgb8; jpeg compressed bgr8', 58 kB, at 30 Hz and /camera/depth/image_raw/compressedDepth 160x120 '16UC1; compressedDepth png', 27 kB, at 30 Hz; reliable
[INFO] [2.0] [demo_camera]: sent 148 RGB and 150 depth frames; skipped 2 and 0 because the machine was late
"""  # noqa: E501


def test_the_camera_s_words_are_read(tool):
    said = tool.parse_camera(CAMERA_LOG)
    assert said['captured'] == {'rgb': 150, 'depth': 150}
    assert said['skipped'] == {'rgb': 2, 'depth': 0}
    assert said['kilobytes'] == {'rgb': 58, 'depth': 27}
    with pytest.raises(ValueError, match='did not finish'):
        tool.parse_camera('Traceback')


def test_shares_are_of_what_was_captured(tool):
    log = 'noise\n{"latencies": {"rgb": [3, 1, 2], "depth": []}, "first": {"rgb": 0.5}}\n'
    said = {'captured': {'rgb': 4, 'depth': 2}}
    assert tool.summary(tool.parse_receiver(log), said) == {
        'rgb': {'share': 0.75, 'p50': 2, 'p99': 3},
        'depth': {'share': 0.0, 'p50': None, 'p99': None},
    }
    with pytest.raises(ValueError, match='the subscriber did not finish'):
        tool.parse_receiver('killed')


def test_load_is_counted_while_images_flow(tool):
    flowing = [(0.1 * n, 1000 + 125_000 * max(0, min(n - 20, 10))) for n in range(60)]
    assert tool.load(flowing) == pytest.approx(10.0)
    assert tool.load([(0.0, 5), (0.1, 500), (0.2, 900)]) == 0.0


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('raw', 'it must be TRANSPORT,RELIABILITY,PROFILE'),
        ('jpeg,reliable,default', "transport is 'jpeg'; allowed: raw, compressed"),
        ('raw,maybe,default', "reliability is 'maybe'; allowed: best_effort, reliable"),
        ('raw,reliable,nowhere.xml', "profile is 'nowhere.xml'; allowed: default"),
    ],
)
def test_a_choice_that_is_none_is_quoted(tool, text, said):
    with pytest.raises(ValueError, match=said):
        tool.Choice.parse(text)


def test_every_choice_is_run_over_every_link_once(tool):
    arguments = tool.parse_arguments(
        ['--mbit', '1000,30', '--loss', '0,5', '--choice', 'compressed,reliable,network,images']
    )
    runs = tool.planned(arguments)
    assert [str(run.link) for run in runs] == [
        f'{mbit} Mbit/s, {loss}% lost' for mbit in (1000, 30) for loss in (0, 5)
    ]
    assert {(run.choice.camera, run.choice.node) for run in runs} == {('network', 'images')}
    everything = tool.planned(tool.parse_arguments([]))
    assert len({run.key for run in everything}) == len(everything) == 9 * 2 * 2 * len(tool.PROFILES)
    discovery = tool.planned(tool.parse_arguments(['--discovery', '--mbit', '30', '--loss', '0']))
    assert len(discovery) == 2 * len(tool.DISCOVERIES)


def test_the_table_names_what_was_set_and_what_came(tool):
    def row(loss, **changes):
        values = {
            'camera': 'vga',
            'link': {'mbit': 30, 'loss': loss, 'multicast': True},
            'choice': {
                'transport': 'compressed',
                'reliability': 'best_effort',
                'camera': 'network',
                'node': 'images',
            },
            'received': {
                'rgb': {'share': 0.987, 'p50': 12.34, 'p99': 50.1},
                'depth': {'share': 0.5, 'p50': None, 'p99': None},
            },
            'mbit_per_second': 21.2,
        }
        return {**values, **changes}

    lines = tool.markdown([row(0), row(5), row(30, received={})]).splitlines()
    assert lines[0] == '**vga, 30 Mbit/s**'
    assert lines[2] == '| choice | 0% lost | 5% lost | 30% lost |'
    cell = '99 / 50%, 12 / 50 ms, 21 Mbit/s'
    label = 'compressed, best effort, network / images'
    assert lines[4] == f'| {label} | {cell} | {cell} | not connected |'
    timed = row(0, discovery='static peers', seconds_to_images=[0.52, None])
    timed['link']['multicast'] = False
    lines = tool.markdown([timed]).splitlines()
    assert lines[2:] == [
        '| choice | 0% lost, no multicast |',
        '|---|---|',
        '| static peers | 0.5 s, never |',
    ]


def test_a_short_real_run(tool, tmp_path):
    pytest.importorskip('rclpy', reason='needs ROS 2')
    reason = tool.why_not()
    if reason:
        pytest.skip(reason)
    command = [sys.executable, str(TOOL), '--camera', 'small', '--mbit', '100', '--loss', '0']
    command += ['--choice', 'compressed,reliable,network,images', '--seconds', '1']
    command += ['--out', str(tmp_path / 'network')]

    def run():
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / 'network.json').read_text())['rows']
    assert row['captured'] == {'rgb': 30, 'depth': 30}
    assert row['received']['rgb']['share'] > 0.5
    assert row['received']['rgb']['p50'] > 0
    assert row['mbit_per_second'] > 1
    table = (tmp_path / 'network.md').read_text()
    assert '| compressed, reliable, network / images | ' in table
    names = subprocess.run(['ip', 'netns', 'list'], capture_output=True, text=True, check=True)
    mine = re.findall(r'depth_sr_\w+_(\d+)', names.stdout)
    assert all(Path(f'/proc/{pid}').exists() for pid in mine), names.stdout
    # Again: it is there already.
    written = (tmp_path / 'network.json').stat().st_mtime_ns
    assert run().returncode == 0
    assert (tmp_path / 'network.json').stat().st_mtime_ns == written
