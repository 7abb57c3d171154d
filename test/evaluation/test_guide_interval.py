# SPDX-License-Identifier: Apache-2.0
"""Scoring a sequence with a guide that sees only some of its frames."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from depth_sr_ros.cli import main
from depth_sr_ros.evaluation.cases import Case
from depth_sr_ros.evaluation.guide_interval import clip_frames, measure_intervals
from depth_sr_ros.point_samples import SamplingMemory


class Pipeline:
    """Believes its guide: what it is given as relative depth is its answer, at the right scale."""

    def __call__(self, rgb, depth, *, out=None, relative=None, **camera):
        # With a guide a stream asks, which knows its camera.
        assert relative.size < 5 or isinstance(camera['sampling_of'], SamplingMemory)
        inverse = np.full(rgb.shape[:2], relative.mean()) if relative.size < 5 else relative
        return SimpleNamespace(depth=(4.0 - 2.0 * inverse).astype(np.float32))


def moving(count=8):
    """A wall at 2 m before one at 4 m, moving to the right."""
    cases = []
    for index in range(count):
        truth = np.full((48, 64), 4.0, np.float32)
        truth[:, 10 + 2 * index : 30 + 2 * index] = 2.0
        rgb = np.zeros((48, 64, 3), np.uint8)
        cases.append(Case(str(index), rgb, truth[::4, ::4], truth))
    return cases


def test_the_longer_it_is_held_the_worse_where_things_move():
    rows = measure_intervals(Pipeline(), moving(), (1, 2, 4), imitated=True)
    assert [row['interval'] for row in rows] == [None, 1, 2, 4]
    errors = [row['rmse'] for row in rows]
    assert errors[1] < errors[2] < errors[3] < errors[0]


def test_nothing_is_lost_where_nothing_moves():
    still = [moving(1)[0]] * 6
    rows = measure_intervals(Pipeline(), still, (1, 3), imitated=True)
    assert rows[1]['rmse'] == rows[2]['rmse']


def test_clip_moves_from_frame_to_frame():
    first, second = clip_frames(2)
    assert first.depth.shape == first.rgb.shape[:2]
    assert not np.array_equal(first.depth, second.depth)


def test_command_writes_table_and_json(tmp_path, capsys):
    arguments = ['evaluate', 'clip', '--frames', '2', '--guide-interval', '1', '2']
    options = ['--relative-depth', 'embedded', '--device', 'cpu', '--out', str(tmp_path)]
    assert main([*arguments, *options]) == 0
    rows = json.loads((tmp_path / 'guide_interval.json').read_text())['rows']
    assert [row['interval'] for row in rows] == [None, 1, 2]
    assert all(0 < row['rmse'] <= row['rmse_edge'] for row in rows)
    output = capsys.readouterr().out
    assert '| every 2. frame |' in output
    assert 'clip, 2 frames, scale=8,noise=0.02' in output


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--relative-depth', 'off'], 'do without a guide'),
        (['--guide', 'off'], '--guide is off'),
        (['--relative-depth', 'embedded', '--guide-interval', '0'], 'guide_interval is 0'),
    ],
)
def test_what_makes_no_sense_is_said(options, words, tmp_path, capsys):
    arguments = ['evaluate', 'clip', '--frames', '1', '--guide-interval', '1', *options]
    assert main([*arguments, '--device', 'cpu', '--out', str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
