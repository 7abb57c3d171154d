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
                {'size': '640x480', 'pixels': 307200, 'label': 'float16 graph', 'median_ms': 3.0},
                {
                    'size': '1920x1080',
                    'pixels': 2073600,
                    'label': 'float16 graph',
                    'median_ms': 8.0,
                },
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
