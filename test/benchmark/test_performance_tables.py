# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md is rewritten between its markers and nowhere else."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/write_performance_tables.py'
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_document_has_every_marker(tool):
    document = (ROOT / 'docs/performance.md').read_text(encoding='utf-8')
    for name in ('cpu', 'gpu', 'guide interval'):
        assert tool.with_section(document, name, 'figures') != document


def test_only_what_is_between_the_markers_changes(tool, tmp_path):
    document = tmp_path / 'performance.md'
    document.write_text(
        'before\n<!-- guide interval: begin -->\nold\n<!-- guide interval: end -->\nafter\n'
    )
    rows = [
        {'interval': None, 'rmse': 0.05, 'rmse_edge': 0.1},
        {'interval': 1, 'rmse': 0.02, 'rmse_edge': 0.04},
        {'interval': 5, 'rmse': 0.03, 'rmse_edge': 0.05},
    ]
    report = {'guide': 'imitated', 'frames': 'clip', 'weights': 'w', 'digest': 'd', 'rows': rows}
    file = tmp_path / 'guide_interval.json'
    file.write_text(json.dumps(report))
    tool.main([str(file), '--document', str(document)])
    text = document.read_text()
    assert text.startswith('before\n')
    assert text.endswith('<!-- guide interval: end -->\nafter\n')
    assert 'old' not in text
    assert '| every 5. frame | 30.0 | +50.0% | 50.0 | +25.0% |' in text
    assert '| no frame | 50.0 | +150.0% |' in text


def test_missing_markers_are_named(tool):
    with pytest.raises(ValueError, match='cpu: begin'):
        tool.with_section('nothing here', 'cpu', 'text')
