# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the whole suite."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session', autouse=True)
def cache_folder(tmp_path_factory):
    """Graphs that tests make are kept for this run only."""
    folder = tmp_path_factory.mktemp('cache')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder))
        yield folder


@pytest.fixture(scope='session')
def installed(tmp_path_factory):
    """The prefix into which colcon's own command installs a copy of the package."""
    pytest.importorskip('setuptools')
    copy, prefix = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('prefix')
    for name in ('setup.py', 'setup.cfg', 'pyproject.toml', 'package.xml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, copy)
    for name in ('depth_sr_ros', 'launch', 'config', 'resource'):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'))
    command = [sys.executable, 'setup.py', '-q', 'install', f'--prefix={prefix}']
    command += ['--single-version-externally-managed', f'--record={copy / "record.txt"}']
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return prefix
