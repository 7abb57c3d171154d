# SPDX-License-Identifier: Apache-2.0
"""tools/measure_cpu_candidates.py: each candidate beside eager PyTorch, and what cannot be made."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parent.parent / 'tools' / 'measure_cpu_candidates.py'


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location('measure_cpu_candidates', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_candidates_take_turns_and_what_fails_is_said(tool, monkeypatch, capsys):
    def missing():
        raise ModuleNotFoundError('No module named openvino')

    def doubled(rgb, _depth):
        time.sleep(0.05)
        return np.full(rgb.shape[:2], 4.0, np.float32)

    def candidates(_threads):
        yield tool.REFERENCE, lambda: lambda rgb, depth: np.full(rgb.shape[:2], 2.0, np.float32)
        yield 'doubled', lambda: doubled
        yield 'absent', missing

    monkeypatch.setattr(tool, 'candidates', candidates)
    rows = {row['name']: row for row in tool.measure(1, 3)}
    assert rows['doubled']['median'] == pytest.approx(1.0)
    assert rows['doubled']['median_ms'] >= 50 > rows['doubled']['cores_ms'] > 0
    assert rows[tool.REFERENCE]['median'] == 0
    assert rows['absent']['error'] == 'No module named openvino'
    assert 'absent: No module named openvino' in capsys.readouterr().err
    lines = tool.table(list(rows.values())).splitlines()
    assert len(lines) == 5
    assert '| 100.000% / 100.00% |' in next(line for line in lines if 'doubled' in line)


def test_versions_name_what_is_there_and_what_is_not(tool, monkeypatch):
    from importlib import metadata

    def version(package):
        if package == 'openvino':
            raise metadata.PackageNotFoundError
        return '1.2'

    monkeypatch.setattr(metadata, 'version', version)
    assert tool.versions() == 'torch 1.2, onnxruntime 1.2, no openvino'


def test_without_the_reference_there_is_nothing_to_compare(tool, monkeypatch):
    def candidates(_threads):
        yield tool.REFERENCE, lambda: 1 / 0

    monkeypatch.setattr(tool, 'candidates', candidates)
    with pytest.raises(ZeroDivisionError):
        tool.measure(1, 1)


def test_wrong_numbers_are_quoted():
    done = subprocess.run(
        [sys.executable, str(TOOL), '--threads', '0'], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert '--threads is [0]' in done.stderr
