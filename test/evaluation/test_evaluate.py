# SPDX-License-Identifier: Apache-2.0
import json
import math

import numpy as np
import pytest

from depth_sr_ros import cli
from depth_sr_ros.data.degradation import degradation_help, parse_degradation
from depth_sr_ros.data.rgbd_folder import RGBDFolder
from depth_sr_ros.evaluation import evaluate
from depth_sr_ros.evaluation.cases import Case, degraded_cases
from depth_sr_ros.evaluation.comparison import Row, compare
from depth_sr_ros.evaluation.network import Network, confidence_scores
from depth_sr_ros.evaluation.report import table
from depth_sr_ros.evaluation.scoring import INTERPOLATED, ScoreCache
from depth_sr_ros.model.interpolation import interpolate_depth
from depth_sr_ros.pipeline import DepthSRResult


class FakePipeline:
    """Mixes the truth with the interpolated input: `share` 1 is perfect."""

    def __init__(self, cases, share):
        self.truths = {case.depth.tobytes(): case.truth for case in cases}
        self.share = share
        self.description = {'weights': 'fake', 'digest': 'none'}

    def __call__(self, rgb, depth):
        truth = self.truths[depth.tobytes()]
        start = interpolate_depth(depth, truth.shape)
        output = (1 - self.share) * start + self.share * truth
        error = np.abs(output - truth) / truth
        return DepthSRResult(output.astype(np.float32), (error < 0.05).astype(np.float32))


@pytest.fixture
def row(scenes):
    cases = degraded_cases(RGBDFolder(scenes), parse_degradation('scale=8,noise=0.02'))
    return Row('test', cases, 'scale=8,noise=0.02')


def test_better_and_worse_networks_are_told_apart(row):
    networks = [
        Network('good', FakePipeline(row.cases, 0.5)),
        Network('bad', FakePipeline(row.cases, -0.5)),
    ]
    comparison = compare(row, networks, ScoreCache(None))
    before = comparison.mean(INTERPOLATED)
    assert comparison.mean('good') == pytest.approx(0.5 * before, rel=1e-4)
    assert comparison.mean('bad') == pytest.approx(1.5 * before, rel=1e-4)
    assert comparison.worse_than_interpolated('good') == []
    assert comparison.worse_than_interpolated('bad') == ['00000', '00001', '00002']
    name, value = comparison.best_baseline()
    assert comparison.methods[name].kind == 'baseline'
    assert value <= comparison.mean('bilinear')
    text = table(comparison)
    assert '| good | ' in text
    assert 'worse than it on 00000, 00001, 00002' in text


def test_oracle_is_at_least_as_good_as_tuned(row):
    comparison = compare(row, [], ScoreCache(None), oracle=True)
    for method in comparison.methods.values():
        if method.oracle is not None and len(method.settings):
            assert method.oracle['rmse'] <= method.mean['rmse']
    assert comparison.best_oracle()[1] <= comparison.best_baseline()[1]


def test_an_oracle_that_found_nothing_better_takes_the_tuned_settings(row, monkeypatch):
    def worst(baseline, *_, **__):
        return baseline.grid[0], 0.0

    monkeypatch.setattr('depth_sr_ros.evaluation.comparison.best_settings', worst)
    comparison = compare(row, [], ScoreCache(None), oracle=True)
    for method in comparison.methods.values():
        if method.oracle is not None:
            assert method.oracle['rmse'] <= method.mean['rmse']
    assert any(m.oracle_settings == m.settings != {} for m in comparison.methods.values())


def test_confidence_scores_by_hand():
    truth = np.full((2, 2), 1.0, np.float32)
    depth = np.array([[1.0, 1.2], [1.0, 1.0]], np.float32)
    confidence = np.array([[0.9, 0.2], [0.8, 1.0]], np.float32)
    case = Case('a', np.zeros((2, 2, 3), np.uint8), depth, truth)
    scores, curves = confidence_scores(DepthSRResult(depth, confidence), case)
    assert scores['brier'] == pytest.approx((0.01 + 0.04 + 0.04 + 0) / 4)
    assert scores['confidence_right'] == pytest.approx(0.9)
    assert scores['confidence_wrong'] == pytest.approx(0.2)
    assert scores['ause'] == pytest.approx(0)
    assert [curves.by_confidence[0], curves.by_oracle[0]] == pytest.approx([1, 1])
    assert confidence_scores(
        DepthSRResult(depth, confidence), Case('b', case.rgb, depth, 0 * truth)
    ) == ({}, None)


def test_command_writes_table_json_and_pictures(scenes, tmp_path, capsys, arguments_of):
    out = tmp_path / 'out'
    args = arguments_of(
        scenes, '--scale', 8, '--noise', 0.02, '--weights', 'interpolation', '--out', out,
        '--frames', 2, '--pictures', 1, '--no-oracle', '--device', 'cpu',
    )  # fmt: skip
    assert evaluate.run(args) == 0
    assert '| bilinear |' in capsys.readouterr().out
    assert 'RMSE' in (out / 'evaluation.md').read_text()
    values = json.loads((out / 'evaluation.json').read_text())
    (row,) = values['rows']
    assert row['frames'] == ['00000', '00002']
    ours, start = row['methods']['ours']['mean'], row['methods'][INTERPOLATED]['mean']
    assert ours['rmse'] == pytest.approx(start['rmse'], rel=1e-5)
    assert values['networks']['ours']['weights'] == 'interpolation'
    pictures = {path.name for path in (out / 'pictures').glob('*.png')}
    row_name = 'scenes_scale=8,noise=0.02'
    assert pictures == {f'{row_name}_00000.png', f'{row_name}_sparsification.png'}
    curves = row['methods']['ours']['sparsification']
    assert curves['by_confidence'][0] == pytest.approx(1)
    assert 'RMSE mm at' in (out / 'evaluation.md').read_text()


def test_frames_without_depth_are_left_out_and_counted(
    scenes, tmp_path, capsys, arguments_of, write_frame, box_scene
):
    rgb, depth = box_scene()
    write_frame(scenes, '00001', rgb, 0 * depth)
    # Emptied by the degradation: nothing of it is within 4 m.
    write_frame(scenes, '00002', rgb, depth + 5)
    out = tmp_path / 'out'
    common = ['--weights', 'interpolation', '--out', out, '--no-oracle', '--pictures', 0]
    words = ['--degradation', 'range=0.3:4', *common]
    assert evaluate.run(arguments_of(scenes, *words)) == 0
    captured = capsys.readouterr()
    assert 'left out: 00001: no depth measurement\n' in captured.err
    assert 'left out: 00002: no depth measurement\n' in captured.err
    assert '(1 frames, 2 without depth left out)' in captured.out
    assert '(1 frames, 2 without depth left out)' in (out / 'evaluation.md').read_text()
    (row,) = json.loads((out / 'evaluation.json').read_text())['rows']
    assert (row['frames'], row['left_out']) == (['00000'], ['00001', '00002'])
    with pytest.raises(ValueError, match=rf'{scenes}: no depth measurement in any of 3 frames'):
        evaluate.run(arguments_of(scenes, '--degradation', 'range=20:30', *common))


def test_command_on_raw_depth(scenes, tmp_path, arguments_of):
    common = ['--weights', 'interpolation', '--out', tmp_path / 'out', '--no-oracle', '--frames', 1]
    assert evaluate.run(arguments_of(scenes, '--truth', scenes, '--pictures', 0, *common)) == 0
    assert evaluate.run(arguments_of(scenes, '--hide', 0.1, '--pictures', 0, *common)) == 0
    values = json.loads((tmp_path / 'out' / 'evaluation.json').read_text())
    methods = values['rows'][0]['methods']
    assert methods['inpainting (Telea)']['mean']['rmse_hole'] > 0
    assert methods['raw sensor']['mean']['rmse_hole'] is None
    with pytest.raises(ValueError, match='do not go together'):
        evaluate.run(arguments_of(scenes, '--hide', 0.1, '--truth', scenes, *common))


def test_tune_command(scenes, tmp_path, monkeypatch, arguments_of):
    monkeypatch.setattr(
        'depth_sr_ros.evaluation.tuning.tune_baselines',
        lambda frames, cache, seed, report: {'scale=8': {'guided filter': {'radius': len(frames)}}},
    )
    args = arguments_of(scenes, '--tune-baselines', '--frames', 2, '--seed', 5, '--out', tmp_path)
    assert evaluate.run(args) == 0
    values = json.loads((tmp_path / 'tuned_baselines.json').read_text())
    assert values['settings'] == {'scale=8': {'guided filter': {'radius': 2}}}
    assert values['seed'] == 5
    assert values['frames'] == ['00000', '00002']


def test_degradation_of_the_arguments(arguments_of):
    assert evaluate.degradation_text(arguments_of('x')) == 'scale=8,noise=0.02'
    assert evaluate.degradation_text(arguments_of('x', '--scale', 4)) == 'scale=4'
    assert evaluate.degradation_text(arguments_of('x', '--sparse', 500)) == 'sparse=500'
    text = evaluate.degradation_text(arguments_of('x', '--noise', 0.01, '--degradation', 'holes'))
    assert text == 'noise=0.01,holes'


def test_help_lists_the_degradations(capsys):
    with pytest.raises(SystemExit):
        cli.main(['evaluate', '--help'])
    shown = capsys.readouterr().out.splitlines()
    assert '  sparse (=500): points in the frame, 1 or more' in shown
    assert {f'  {line}' for line in degradation_help().splitlines()} <= set(shown)


def test_frames_are_spread():
    assert evaluate.spread(range(10), 3) == [0, 4, 9]
    assert evaluate.spread(range(2), 3) == [0, 1]
    with pytest.raises(ValueError, match='allowed is 1'):
        evaluate.spread(range(2), 0)


def test_undefined_figures_are_dashes(row):
    comparison = compare(Row('one', row.cases[:1], row.tuned_as), [], ScoreCache(None))
    assert math.isnan(comparison.mean('ours'))
    assert '| nan |' not in table(comparison)
