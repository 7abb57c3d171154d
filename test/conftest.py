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


@pytest.fixture
def compiled(monkeypatch):
    """What torch.compile is given, without a compiler; one variant of a function at a time."""
    import torch
    import torch._dynamo

    graphs = []

    def backend(graph, _examples):
        graphs.append(graph)
        return graph

    compile_with = torch.compile
    monkeypatch.setattr(
        torch, 'compile', lambda *args, **kwargs: compile_with(*args, backend=backend, **kwargs)
    )
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=1):
        yield graphs
    torch._dynamo.reset()


@pytest.fixture(scope='session')
def randomised():
    """Makes a model of a FusionUNetConfig whose zero-initialised parts are random."""
    import torch

    from depth_sr_ros.model.config import DepthSRConfig
    from depth_sr_ros.model.depth_sr import DepthSR

    def make(config):
        torch.manual_seed(0)
        model = DepthSR(DepthSRConfig(fusion=config)).eval()
        with torch.no_grad():
            for name, parameter in model.fusion.named_parameters():
                if name.endswith(('beta', 'gamma')):
                    parameter.normal_(0, 0.3)
                elif 'norm' in name:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
            for head in (model.fusion.head, model.fusion.detail and model.fusion.detail.head):
                if head is not None:
                    head[0].weight.normal_(0, 0.05)
            if model.fusion.repetition is not None:
                model.fusion.repetition.weight.normal_(0, 0.3)
        return model

    return make


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
