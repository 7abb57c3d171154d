# SPDX-License-Identifier: Apache-2.0
"""`depth_sr export` as a user types it, and the file it writes behind the seam."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from depth_sr_ros import cli
from depth_sr_ros.pipeline import DepthSRPipeline

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """The embedded weights as a file for RGB 96x64 with depth 48x32, and what was printed."""
    path = tmp_path_factory.mktemp('export') / 'embedded.onnx'
    command = [
        sys.executable, '-m', 'depth_sr_ros.cli', 'export', '--format', 'onnx', '--out', str(path),
        '--size', '96x64', '--depth-size', '48x32', '--frames', '2',
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return path, done.stdout


def pair():
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 256, (64, 96, 3), np.uint8)
    depth = rng.uniform(1, 4, (32, 48)).astype(np.float32)
    depth[4:9, 10:20] = 0
    return rgb, depth


def test_the_file_answers_as_the_weights_do(exported):
    path, printed = exported
    assert 'ONNX Runtime against PyTorch, 2 synthetic frames' in printed
    expected = DepthSRPipeline.from_pretrained(None, device='cpu', backend='torch')(*pair())
    pipeline = DepthSRPipeline.from_pretrained(path, device='cpu')
    result = pipeline(*pair())
    assert pipeline.description['digest'] in printed
    np.testing.assert_allclose(result.depth, expected.depth, rtol=1e-3)
    np.testing.assert_allclose(result.confidence, expected.confidence, atol=1e-3)


def test_a_camera_of_another_size_is_told_both_sizes(exported):
    rgb, depth = pair()
    pipeline = DepthSRPipeline.from_pretrained(exported[0], device='cpu')
    with pytest.raises(ValueError, match='96x64') as caught:
        pipeline(rgb[:, :80], depth[:, :40])
    assert '80x64' in str(caught.value)


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['--size', '640'], '640'),
        (['--size', '8x8'], '64x64'),
        (['--size', '96x64', '--depth-size', '500x10'], '500x10'),
        (['--frames', '0'], '--frames is 0'),
    ],
)
def test_bad_arguments_are_quoted_and_no_file_is_left(tmp_path, capsys, words, sentence):
    out = tmp_path / 'model.onnx'
    assert cli.main(['export', '--out', str(out), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()


def test_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name, *a: None if name == 'onnxruntime' else find(name)
    )
    assert cli.main(['export', '--out', str(tmp_path / 'model.onnx')]) == 2
    message = capsys.readouterr().err
    assert 'onnxruntime is not installed' in message
    assert 'depth_sr_ros[export]' in message
