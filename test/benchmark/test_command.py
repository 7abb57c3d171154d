# SPDX-License-Identifier: Apache-2.0
"""The benchmark runs and its figures agree with each other; how fast it is, is nobody's test."""

import argparse
import contextlib
import copy
import json
import logging
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from depth_sr_ros.benchmark import command
from depth_sr_ros.cli import main

QUICK = ['benchmark', '--quick', '--device', 'cpu', '--subject', 'embedded']


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """What one run wrote and printed."""
    folder = tmp_path_factory.mktemp('benchmark')
    done = subprocess.run(
        [
            sys.executable, '-m', 'depth_sr_ros.cli', *QUICK,
            '--size', '96x64', '--size', '128x96',
            '--json', str(folder / 'b.json'), '--plot', str(folder / 'b.png'),
            '--scaling-plot', str(folder / 's.png'), '--markdown', str(folder / 'b.md'),
        ],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


def test_one_run_gives_tables_json_and_pictures(finished):
    folder, done = finished
    report = json.loads((folder / 'b.json').read_text())
    assert [row['size'] for row in report['rows'][::2]][:1] == ['96x64']
    for row in report['rows']:
        assert 0 < row['median_ms'] <= row['p90_ms'] <= row['p99_ms']
        assert row['fps'] == pytest.approx(1000 / row['median_ms'])
        assert row['frames'] == 3
        # ONNX Runtime computes everything between the copies as one graph.
        stages = {'inspect', 'fusion', 'download'}
        if row['reference']:
            stages |= {'upload', 'preprocess'}
        assert stages <= set(row['stages_ms'])
        assert row['roofline']['times_bound'] > 0
        assert (row['parity'] is None) == row['reference']
    for size in ('96x64', '128x96'):
        rows = [row for row in report['rows'] if row['size'] == size]
        assert [row['reference'] for row in rows] == [True] + [False] * (len(rows) - 1)
        assert rows[0]['ratio'] == 1
        assert len(rows) >= 2
        for row in rows[1:]:
            assert row['ratio'] == pytest.approx(rows[0]['median_ms'] / row['median_ms'])
            assert 0 <= row['parity']['median'] < 0.01
        assert set(report['codec'][size]) == {'decode', 'encode'}
        assert f'**{size}**' in done.stdout
    assert [point['size'] for point in report['scaling']['embedded']] == ['160x120', '320x240']
    assert 'FPS' in done.stdout.splitlines()[-1]
    assert (folder / 'b.md').read_text().strip() in done.stdout
    for name in ('b.png', 's.png'):
        assert cv2.imread(str(folder / name)).std() > 10


def test_resumed_run_measures_only_what_is_missing(finished, capsys):
    folder, _ = finished
    before = json.loads((folder / 'b.json').read_text())
    copy = folder / 'copy.json'
    kept = [row for row in before['rows'] if row['size'] == '96x64']
    copy.write_text(json.dumps({**before, 'rows': kept}))
    sizes = ['--size', '96x64', '--size', '64x64']
    assert main([*QUICK, *sizes, '--resume', '--json', str(copy)]) == 0
    after = json.loads(copy.read_text())
    assert after['rows'][: len(kept)] == kept
    assert {row['size'] for row in after['rows'][len(kept) :]} == {'64x64'}
    assert after['scaling'] == before['scaling']


def test_rows_of_other_weights_and_other_code_are_measured_anew(monkeypatch, tmp_path, capsys):
    file = tmp_path / 'b.json'

    def resumed():
        arguments = argparse.ArgumentParser()
        command.add_arguments(arguments)
        return command.Benchmark(
            arguments.parse_args([*QUICK[1:], '--resume', '--json', str(file)]), []
        )

    benchmark = resumed()
    (subject,) = benchmark.subjects
    report = benchmark.report
    report['rows'] = [
        {'subject': 'embedded', 'digest': subject.digest},
        {'subject': 'base', 'digest': 'of a subject that is not asked for'},
    ]
    report['scaling'] = {'embedded': [{'digest': subject.digest}]}
    file.write_text(json.dumps(report))
    assert resumed().report == report
    stale = copy.deepcopy(report)
    stale['rows'][0]['digest'] = stale['scaling']['embedded'][0]['digest'] = 'other'
    file.write_text(json.dumps(stale))
    assert resumed().report == {**report, 'rows': report['rows'][1:], 'scaling': {}}
    assert 'other weights, measured anew: embedded' in capsys.readouterr().err
    file.write_text(json.dumps(report))
    monkeypatch.setattr(command, '_sources', lambda: 'other')
    assert resumed().report['rows'] == []
    assert 'another state of this package' in capsys.readouterr().err


@pytest.fixture
def measured(monkeypatch):
    """Rows of a group whose variants run by `behave(variant)`, which may raise or warn."""
    from depth_sr_ros.benchmark import subjects
    from depth_sr_ros.benchmark.frames import benchmark_frames

    def measure(behave):
        def build(variant, _device):
            described = behave(variant) or {}
            return subjects.Contestant(
                variant,
                lambda rgb, _depth: np.ones(rgb.shape[:2], np.float32),
                lambda *_: None,
                lambda _mark: None,
                lambda: None,
                lambda: described,
            )

        subject = subjects.Subject(
            'small', 'text', True, build, lambda *_: lambda: None, lambda _: 'none', 1, 'abc'
        )
        arguments = argparse.ArgumentParser()
        command.add_arguments(arguments)
        parsed = arguments.parse_args([*QUICK[1:], '--frames', '3'])
        benchmark = command.Benchmark(parsed, [])
        benchmark.variants = [subjects.REFERENCE, subjects.Variant('bfloat16', 'eager')]
        monkeypatch.setattr(benchmark, '_roofline', lambda *_: None)
        benchmark._measure_group(subject, benchmark_frames((64, 64)))
        return benchmark.report['rows']

    return measure


def test_warnings_of_the_engines_are_in_the_row_that_they_are_of(measured):
    def behave(variant):
        if variant.precision == 'bfloat16':
            logging.getLogger('depth_sr_ros.inference.onnx_engine').warning('no graph:\n%s', 'why')
            return {'reduced': '64x64 halved'}
        return None

    reference, other = measured(behave)
    assert (reference['reduced'], reference['fell_back']) == (None, None)
    assert (other['reduced'], other['fell_back']) == ('64x64 halved', 'no graph: why')
    assert other['ratio'] > 0
    assert other['parity']['median'] == 0
    assert (other['digest'], reference['parity']) == ('abc', None)


@pytest.mark.parametrize('reduced', [False, True])
def test_nothing_is_compared_without_a_reference(measured, reduced):
    def behave(variant):
        if variant.precision == 'float32':
            if reduced:
                return {'reduced': '64x64 halved'}
            raise RuntimeError('no memory')
        return None

    rows = measured(behave)
    assert len(rows) == 1 + reduced
    assert all(row['ratio'] is None and row['parity'] is None for row in rows)


def test_report_of_another_machine_is_not_gone_on_with(finished, capsys):
    folder, _ = finished
    other = json.loads((folder / 'b.json').read_text())
    other['about']['machine'] = 'another one'
    file = folder / 'other.json'
    file.write_text(json.dumps(other))
    assert main([*QUICK, '--resume', '--json', str(file)]) == 2
    assert 'measured on another machine' in capsys.readouterr().err
    for foreign in ('{"rows": [', '{"name": "other"}'):
        file.write_text(foreign)
        assert main([*QUICK, '--resume', '--json', str(file)]) == 2
        assert 'no report to go on with' in capsys.readouterr().err


def test_interrupted_run_keeps_what_it_has(tmp_path):
    file = tmp_path / 'b.json'
    process = subprocess.Popen(
        [
            sys.executable, '-m', 'depth_sr_ros.cli', *QUICK, '--no-scaling', '--json', str(file),
            *(word for n in range(16) for word in ('--size', f'{64 + 16 * n}x64')),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not file.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 130, errors
    assert 'interrupted' in errors
    report = json.loads(file.read_text())
    assert report['about']['interrupted']
    assert 1 <= len({row['size'] for row in report['rows']}) < 16
    assert 'Interrupted: not all rows' in output


def test_an_interrupt_that_a_callback_swallows_ends_the_run_at_the_next_row(monkeypatch, tmp_path):
    measured = []

    def measure(_benchmark, subject, _frames):
        measured.append(subject.name)
        # As in a callback from C, whose exceptions go nowhere.
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1.0)

    monkeypatch.setattr(command.Benchmark, '_measure_group', measure)
    before = signal.getsignal(signal.SIGINT)
    sizes = ('--size', '64x64', '--size', '80x64')
    assert main([*QUICK, '--no-scaling', *sizes, '--json', str(tmp_path / 'b.json')]) == 130
    assert measured == ['embedded']
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--size', '640'], "--size is '640'"),
        (['--size', 'VGA'], "--size is 'VGA'"),
        (['--frames', '0'], '--frames is 0'),
        (['--row-seconds', '0'], '--row-seconds is 0.0'),
        (['--subject', 'theirs'], "--subject is 'theirs': known are embedded"),
        (['--resume'], 'name one'),
        (['--device', 'tpu'], "device is 'tpu'"),
        (['--ros', '--depth-size', 'small'], "--depth-size is 'small'"),
    ],
)
def test_wrong_arguments_are_quoted(arguments, words, capsys):
    assert main(['benchmark', *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize('option', ['--json', '--markdown', '--plot', '--scaling-plot'])
def test_folders_are_made_before_anything_is_measured(option, monkeypatch, tmp_path, capsys):
    begun = []
    monkeypatch.setattr(command, 'Benchmark', lambda *_: begun.append(1) or sys.exit())
    with pytest.raises(SystemExit):
        main([*QUICK, option, str(tmp_path / 'one' / 'two' / 'file')])
    assert (tmp_path / 'one' / 'two').is_dir()
    (tmp_path / 'taken').write_text('')
    assert main([*QUICK, option, str(tmp_path / 'taken' / 'file')]) == 2
    assert str(tmp_path / 'taken' / 'file') in capsys.readouterr().err
    assert begun == [1]


def test_node_is_measured_with_the_sizes_and_rates_asked_for(monkeypatch, tmp_path):
    benchmark = pytest.importorskip('depth_sr_ros.ros.benchmark')
    calls = []
    monkeypatch.setattr(benchmark, 'main', lambda arguments: calls.append(arguments) or 0)
    arguments = ['benchmark', '--ros', '--size', '1920x1080', '--rate', '60', '--seconds', '5']
    assert main(arguments) == 0
    assert main([*arguments, '--depth-size', '640x360', '--depth-rate', '15']) == 0
    first, second = (' '.join(call) for call in calls)
    assert '--depth-size 480x270 --rate 60.0 --seconds 5.0' in first
    assert '--depth-rate' not in first
    assert '--depth-size 640x360' in second
    assert '--depth-rate 15.0' in second


def test_codecs_are_timed():
    from depth_sr_ros.benchmark.frames import benchmark_frames

    times = command.time_codecs(benchmark_frames((96, 64)), count=3)
    assert times['decode'] > 0
    assert times['encode'] > 0
