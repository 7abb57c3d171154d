# SPDX-License-Identifier: Apache-2.0
"""The report from invented figures: a GPU's, since there is none where this runs."""

import math

import cv2
import pytest

from depth_sr_ros.benchmark import report as reporting


def row(subject, size, label, milliseconds, **changed):
    return {
        'subject': subject,
        'text': subject,
        'ours': subject in ('seed', 'embedded'),
        'parameters': 29_000_000,
        'size': size,
        'depth_size': '480x270',
        'backbone_input': '924x518',
        'label': label,
        'precision': label.split()[0],
        'reference': label == 'float32 eager',
        'frames': 100,
        'median_ms': milliseconds,
        'p90_ms': milliseconds * 1.1,
        'p99_ms': milliseconds * 1.2,
        'fps': 1000 / milliseconds,
        'device_ms': milliseconds * 0.9,
        'stages_ms': {'upload': 0.3, 'guide': milliseconds / 2, 'fusion': milliseconds / 3},
        'ratio': 1.0,
        'memory_mb': 900.0,
        'parity': None,
        'reduced': None,
        'fell_back': None,
        'digest': 'abc',
        'date': '2026-01-01',
        'roofline': {
            'flops': 1e11,
            'bytes': 1e9,
            'all_bytes': 4e9,
            'launches': 1500,
            'bound_ms': milliseconds / 2.5,
            'times_bound': 2.5,
        },
        **changed,
    }


def point(size, pixels, milliseconds):
    return {
        'size': size,
        'pixels': pixels,
        'label': 'float16 graph',
        'median_ms': milliseconds,
        'reduced': None,
        'fell_back': None,
        'digest': 'abc',
    }


@pytest.fixture
def report():
    good = {'median': 2e-4, 'p99': 3e-3, 'rmse_ratio': 1.001}
    theirs = 'Prompt Depth Anything Small'
    return {
        'about': {
            'device': 'cuda:0 (an invented GPU)',
            'cuda': True,
            'machine': 'x86_64, an invented processor',
            'python': '3.12',
            'torch': '2.9',
            'threads': 8,
            'date': '2026-01-01',
            'interrupted': False,
        },
        'rates': {'flops': {'float32': 5e13, 'float16': 8e14}, 'bytes': 4e12, 'transfer': 5e10},
        'codec': {'1920x1080': {'decode': 1.0, 'encode': 0.5}},
        'rows': [
            row('seed', '1920x1080', 'float32 eager', 60.0),
            row('seed', '1920x1080', 'float16 graph', 7.5, ratio=8.0, parity=good),
            row(theirs, '1920x1080', 'float16 graph', 6.0),
        ],
        'scaling': {
            'seed': [
                point('640x480', 307200, 3.0),
                point('1920x1080', 2073600, 8.0),
            ]
        },
    }


def test_every_bar_is_judged_or_said_to_be_unmeasured(report):
    bars = {text.partition(':')[0]: text for text in reporting.bars(report)}
    assert len(bars) == 9
    assert bars['29M configuration at 1920x1080, at least 120 FPS'].endswith(
        '133 (float16 graph), reached'
    )
    assert bars['at least 4 times the reference at 1920x1080'].endswith('8.0, reached')
    assert bars['29M configuration at 640x480, at least 400 FPS'].endswith(
        'not measured in this run'
    )
    (beside,) = (text for text in bars.values() if text.startswith('seed at 1920x1080'))
    assert beside.endswith('1.25, reached')
    assert bars['seed'].endswith('reached')  # the growth
    assert sum('not measured' in text for text in bars.values()) == 2


def test_what_is_missed_is_said(report):
    slow = report['rows'][1]
    slow.update(median_ms=9.0, fps=1000 / 9, p99_ms=20.0, ratio=3.9)
    slow['parity'] = {'median': 2e-3, 'p99': 3e-3, 'rmse_ratio': 1.0}
    slow['roofline']['times_bound'] = 3.5
    report['scaling']['seed'][1]['median_ms'] = 90.0
    assert sum('**not reached**' in text for text in reporting.bars(report)) == 7


@pytest.mark.parametrize('key', ['reduced', 'fell_back'])
def test_what_did_not_run_as_asked_for_is_said_and_not_judged(report, key):
    report['rows'][1][key] = 'no CUDA graph | for the frame'
    report['scaling']['seed'][1][key] = 'no CUDA graph'
    judged = [text for text in reporting.bars(report) if 'not measured' not in text]
    assert not judged
    tables = reporting.markdown(report)
    assert 'float16 graph, **not as asked**: no CUDA graph / for the frame |' in tables


def test_nothing_is_compared_with_a_reference_that_failed(report):
    del report['rows'][0]
    report['rows'][0].update(ratio=None, parity=None)
    assert '| 133 |  | 900 |' in reporting.markdown(report)
    assert 'float32' not in reporting.summary(report)
    (text,) = (text for text in reporting.bars(report) if 'times the reference' in text)
    assert 'not measured' in text


def test_processor_is_judged_by_its_own_rows(report):
    report['about']['cuda'] = False
    report['scaling'] = {}
    parity = {'median': 0.0, 'p99': 0.0, 'rmse_ratio': 1.03}
    report['rows'] = [
        row('embedded', '640x480', 'float32 eager', 300.0),
        row('embedded', '640x480', 'onnxruntime', 190.0, ratio=1.58, parity=parity),
    ]
    fps, ratio, rmse = reporting.bars(report)
    assert fps.endswith('5.3 (onnxruntime), reached')
    assert ratio.endswith('1.58 (onnxruntime), reached')
    assert rmse.endswith('+3.00%, **not reached**')
    parity['rmse_ratio'] = 1.02
    assert reporting.bars(report)[2].endswith('+2.00%, reached')


def test_time_of_the_gpu_has_a_column_where_there_is_one(report):
    assert '| 7.5 | 8.2 | 9.0 | 6.8 | 133 |' in reporting.markdown(report)
    report['about']['cuda'] = False
    assert 'GPU ms' not in reporting.markdown(report)


def test_dates_are_those_of_the_rows(report):
    report['about']['date'] = '2026-01-05'
    assert '; 2026-01-01. RGB' in reporting.about(report)
    report['rows'][0]['date'] = '2026-01-03'
    assert '; 2026-01-01 to 2026-01-03. RGB' in reporting.about(report)


def test_growth_is_per_doubling():
    points = [{'pixels': 1, 'median_ms': 1.0}, {'pixels': 4, 'median_ms': 9.0}]
    assert reporting.growths(points) == [pytest.approx(3.0)]


def test_tables_and_pictures_hold_every_row(report, tmp_path):
    tables = reporting.markdown(report)
    assert 'an invented GPU' in tables
    assert tables.count('| seed |') >= 5
    assert '0.02% / 0.30%' in tables
    assert 'transfer 50.0 GB/s' in tables
    assert math.isclose(reporting.row_stages(report, report['rows'][1])['decode'], 1.0)
    assert 'decode' not in reporting.row_stages(report, report['rows'][2])
    reporting.plot_stages(report, tmp_path / 'stages.png')
    reporting.plot_scaling(report, tmp_path / 'scaling.png')
    for name in ('stages.png', 'scaling.png'):
        assert cv2.imread(str(tmp_path / name)).std() > 10
    assert reporting.summary(report).startswith('seed at 1920x1080: 133.3 FPS')
