# SPDX-License-Identifier: Apache-2.0
"""tools/transfer_training.py, as a developer runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from depth_sr_ros.model.config import DepthSRConfig, FusionUNetConfig
from depth_sr_ros.model.depth_sr import DepthSR, read_metadata
from depth_sr_ros.pipeline import state_digest

TOOL = Path(__file__).resolve().parent.parent / 'tools' / 'transfer_training.py'
SMALL = DepthSRConfig(fusion=FusionUNetConfig(stem=2, widths=(8, 8, 8, 8)), name='small')
LARGE = DepthSRConfig(
    fusion=FusionUNetConfig(stem=2, widths=(8, 8, 8, 8), middle_blocks=3), name='large'
)
OTHER = DepthSRConfig(fusion=FusionUNetConfig(stem=2, widths=(16, 8, 8, 8)), name='other')


@pytest.fixture
def folders(tmp_path):
    for value, config, name in (
        (1.0, SMALL, 'former'),
        (3.0, SMALL, 'now'),
        (5.0, LARGE, 'larger'),
        (1.0, OTHER, 'other'),
    ):
        model = DepthSR(config)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, value)
        header = {'git': name, 'step': '7', 'score': '0.8', 'averaged': 'of something else'}
        model.save(tmp_path / name, metadata=header)
    return tmp_path


def run(folders, *arguments, larger='larger', former='former'):
    command = [sys.executable, str(TOOL), larger, '--began-from', former, '--now', 'now']
    return subprocess.run(
        [*command, '--out', 'out', *arguments],
        check=False, cwd=folders, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_both_have_learnt_and_further_blocks_stay(folders):
    (folders / 'scored.jsonl').write_text('{"step": 1, "score": 0.7}\n')
    done = run(folders, '--share', '0.5', '--validation', 'scored.jsonl')
    assert done.returncode == 0, done.stderr
    model = DepthSR.from_pretrained(folders / 'out')
    assert state_digest(model) in done.stdout
    common = DepthSR(SMALL).state_dict()
    values = {name: tensor.unique().tolist() for name, tensor in model.state_dict().items()}
    assert len(values) > len(common)
    for name, found in values.items():
        assert found == ([3.0 + 0.5 * (5.0 - 1.0)] if name in common else [5.0]), name
    header = read_metadata(folders / 'out')
    assert header['git'] == 'larger'
    assert header['score'] == '0.70000'
    assert 'averaged' not in header
    said = json.loads(header['transferred'])
    assert said['share'] == 0.5
    assert said['now'] == state_digest(DepthSR.from_pretrained(folders / 'now'))


@pytest.mark.parametrize(
    ('options', 'arguments', 'words'),
    [
        ({}, ['--share', '-1'], 'allowed is 0 to 1'),
        ({'former': 'other'}, [], 'BEGAN_FROM and NOW are of different configurations'),
        ({'former': 'now', 'larger': 'other'}, [], 'so it did not begin from BEGAN_FROM'),
        ({'former': 'nowhere'}, [], 'nowhere'),
    ],
)
def test_what_does_not_go_is_said(folders, options, arguments, words):
    done = run(folders, *arguments, **options)
    assert done.returncode != 0
    assert words in done.stderr
    assert 'Traceback' not in done.stderr
