# SPDX-License-Identifier: Apache-2.0
"""tools/average_weights.py, as a developer runs it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from depth_sr_ros.model.config import DepthSRConfig, FusionUNetConfig
from depth_sr_ros.model.depth_sr import DepthSR, read_metadata
from depth_sr_ros.pipeline import state_digest

TOOL = Path(__file__).resolve().parent.parent / 'tools' / 'average_weights.py'
CONFIG = DepthSRConfig(fusion=FusionUNetConfig(stem=2, widths=(8, 8, 8, 8)), name='tiny')


@pytest.fixture
def folders(tmp_path):
    for value, name in ((1.0, 'first'), (2.0, 'second')):
        model = DepthSR(CONFIG)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, value)
        header = {'git': name, 'step': '7', 'score': '0.8', 'validation': '{}', 'guide_git': 'g'}
        model.save(tmp_path / name, metadata=header)
    return tmp_path


def run(folders, *arguments):
    command = [sys.executable, str(TOOL), 'first', 'second', '--out', 'out', *arguments]
    return subprocess.run(
        command, check=False, cwd=folders, capture_output=True, text=True, timeout=120
    )


def test_parameters_are_means_and_the_header_says_of_what(folders):
    (folders / 'scored.jsonl').write_text('{"step": 1, "score": 0.7, "ratio/x8": 0.6}\n')
    done = run(folders, '--share', '0.25', '--validation', 'scored.jsonl')
    assert done.returncode == 0, done.stderr
    model = DepthSR.from_pretrained(folders / 'out')
    assert state_digest(model) in done.stdout
    assert all(torch.all(parameter == 1.25) for parameter in model.parameters())
    header = read_metadata(folders / 'out')
    assert header['git'] == 'second'
    assert header['guide_git'] == 'g'
    assert header['score'] == '0.70000'
    assert json.loads(header['validation']) == {'step': 7, 'score': 0.7, 'ratio/x8': 0.6}
    said = json.loads(header['averaged'])
    assert said['share_of_the_second'] == 0.25
    assert said['digests'][0] == state_digest(DepthSR.from_pretrained(folders / 'first'))


def test_a_score_of_others_is_not_taken_over(folders):
    assert run(folders).returncode == 0
    assert 'score' not in read_metadata(folders / 'out')


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [(['--share', '2'], 'allowed is 0 to 1'), (['--validation', 'none.jsonl'], 'none.jsonl')],
)
def test_what_does_not_go_is_said(folders, arguments, words):
    done = run(folders, *arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert 'Traceback' not in done.stderr


def test_the_bias_of_an_output_is_shifted(folders):
    assert run(folders, '--shift', 'residual=-0.5').returncode == 0
    model = DepthSR.from_pretrained(folders / 'out')
    assert torch.unique(model.fusion.head[0].bias).tolist() == [1.0, 1.5]
    bias = model.fusion.head[0].bias.view(len(CONFIG.fusion.heads), -1)
    assert torch.all(bias[CONFIG.fusion.heads.index('residual')] == 1.0)
    assert json.loads(read_metadata(folders / 'out')['averaged'])['shift'] == 'residual=-0.5'
    for wrong in ('nothing=1', 'residual', 'residual=much', 'residual=nan'):
        done = run(folders, '--shift', wrong)
        assert done.returncode == 1
        assert repr(wrong) in done.stderr
        assert 'gate, residual, confidence' in done.stderr
        assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('text', ['', 'no JSON', '{"step": 1}', '[]'])
def test_a_file_without_a_score_is_named(folders, text):
    (folders / 'scored.jsonl').write_text(text)
    done = run(folders, '--validation', 'scored.jsonl')
    assert done.returncode == 1
    assert 'scored.jsonl holds no validation' in done.stderr
    assert 'Traceback' not in done.stderr


def test_other_networks_are_refused(folders):
    DepthSR(dataclasses.replace(CONFIG, name='other')).save(folders / 'second')
    done = run(folders)
    assert done.returncode == 1
    assert 'different configurations' in done.stderr
