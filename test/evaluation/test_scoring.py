# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.data.rgbd_folder import RGBDFolder
from depth_sr_ros.evaluation import scoring
from depth_sr_ros.evaluation.baselines import BASELINES, Baseline
from depth_sr_ros.evaluation.cases import Case, degraded_cases
from depth_sr_ros.evaluation.metrics import rmse


@pytest.fixture
def rows(scenes):
    return degraded_cases(RGBDFolder(scenes), parse_degradation('scale=8,noise=0.02'))


def test_cache_survives_the_process_and_is_by_settings(rows, tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {'rmse': 1.0}

    assert scoring.ScoreCache(tmp_path).get(rows[0], 'a', make) == {'rmse': 1.0}
    again = scoring.ScoreCache(tmp_path)
    assert again.get(rows[0], 'a', make) == {'rmse': 1.0}
    assert len(calls) == 1
    again.get(rows[0], 'b', make)
    again.get(rows[1], 'a', make)
    assert len(calls) == 3


def test_cache_cut_off_by_a_kill_is_made_again(rows, tmp_path):
    folder = tmp_path / 'cache'
    scoring.ScoreCache(folder).get(rows[0], 'a', lambda: 1.0)
    (path,) = folder.rglob('*.json')
    path.write_text('{"a": 1')
    assert scoring.ScoreCache(folder).get(rows[0], 'a', lambda: 2.0) == 2.0


def test_score_baseline_is_the_metric_of_its_output(rows):
    cache = scoring.ScoreCache(None)
    scores = scoring.score_baseline(BASELINES['bilinear'], {}, rows[0], cache)
    output = BASELINES['bilinear'](rows[0].rgb, rows[0].depth, {})
    assert scores['rmse'] == rmse(output, rows[0].truth)
    assert scores['seconds'] > 0


def test_best_settings_finds_the_best(rows):
    # A 'method' that is wrong by its setting.
    offsets = (0.3, 0.2, 0.05, 0.1, 0.4, 0.5)
    truths = {row.depth.tobytes(): row.truth for row in rows}
    wrong = Baseline(
        'wrong',
        lambda rgb, depth, offset: truths[depth.tobytes()] + np.float32(offset),
        [{'offset': o} for o in offsets],
    )
    for rough in (1, 10):
        settings, error = scoring.best_settings(
            wrong, rows, scoring.ScoreCache(None), rough_cases=rough, keep=2
        )
        assert settings == {'offset': 0.05}
        assert error == pytest.approx(0.05, rel=1e-3)


def test_rough_tries_look_at_windows_of_all_cases_and_the_best_at_the_whole(rows):
    height, width = rows[0].truth.shape
    seen = []

    def method(rgb, _depth, offset):
        seen.append((offset, rgb.shape[:2]))
        return np.full(rgb.shape[:2], 1.0 + offset, np.float32)

    truth, depth = np.ones((height, width), np.float32), np.ones_like(rows[0].depth)
    cases = [Case(f'case{n}', rows[0].rgb + np.uint8(n), depth, truth) for n in range(4)]
    baseline = Baseline('constant', method, [{'offset': o} for o in (0.3, 0.1, 0.0, 0.4)])
    settings, error = scoring.best_settings(
        baseline, cases, scoring.ScoreCache(None), keep=1, windows=True
    )
    assert (settings, error) == ({'offset': 0.0}, 0.0)
    half = (height // 2, width // 2)
    assert [size for offset, size in seen if offset == 0.4] == [half] * 4
    assert [size for offset, size in seen if offset == 0.0] == [half] * 4 + [(height, width)] * 4


def test_a_window_without_anything_to_score_is_the_whole_case(rows):
    hidden = np.zeros(rows[0].truth.shape, bool)
    assert scoring._window_of(dataclasses.replace(rows[0], mask=hidden)).truth.shape == hidden.shape
    window = scoring._window_of(rows[0])
    assert window.truth.shape == tuple(side // 2 for side in hidden.shape)


def test_raw_sensor_only_at_full_resolution(scenes, rows):
    cache = scoring.ScoreCache(None)
    assert scoring.score_raw(rows[0], cache) is None
    full = degraded_cases(RGBDFolder(scenes), parse_degradation('holes=0.2'))
    scores = scoring.score_raw(full[0], cache)
    assert scores['rmse_measured'] == 0
    assert 0.7 < scores['coverage'] < 0.9


def test_grid_without_settings_that_make_no_difference(rows):
    filled = scoring.distinct_settings(BASELINES['guided filter'], rows)
    assert {s['fill'] for s in filled} == {'nearest'}
    assert {s['coarse'] for s in filled} == {True, False}
    full = [type(row)(row.name, row.rgb, row.truth, row.truth) for row in rows]
    assert all(s['coarse'] for s in scoring.distinct_settings(BASELINES['guided filter'], full))
