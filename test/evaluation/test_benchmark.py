# SPDX-License-Identifier: Apache-2.0
"""The benchmark runs and its figures agree with each other; how fast it is, is nobody's test."""

import json
import subprocess
import sys

import cv2
import pytest

from depth_sr_ros.evaluation.benchmark import STAGES, parse_size


def test_one_run_gives_table_json_and_picture(tmp_path):
    done = subprocess.run(
        [
            sys.executable, '-m', 'depth_sr_ros.cli', 'benchmark', '--device', 'cpu',
            '--size', '96x64', '--size', '128x96', '--frames', '4',
            '--json', str(tmp_path / 'b.json'), '--plot', str(tmp_path / 'b.png'),
        ],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / 'b.json').read_text())
    assert [row['size'] for row in report['rows']] == ['96x64'] * 3 + ['128x96'] * 3
    for row in report['rows']:
        assert 0 < row['median_ms'] <= row['p90_ms'] <= row['p99_ms']
        assert row['fps'] == pytest.approx(1000 / row['median_ms'])
        assert set(row['stages_ms']) == set(STAGES)
    assert report['rows'][0]['name'] == 'reference'
    assert report['rows'][0]['ratio'] == 1
    assert report['digest'] in done.stdout
    assert 'FPS' in done.stdout.splitlines()[-1]
    assert cv2.imread(str(tmp_path / 'b.png')).std() > 10


@pytest.mark.parametrize('text', ['640', '640x', 'VGA', '640x480x3'])
def test_wrong_sizes_are_quoted(text):
    with pytest.raises(ValueError, match=text):
        parse_size(text)
