# SPDX-License-Identifier: Apache-2.0
"""The seam, with the embedded weights as they are shipped."""

import subprocess
import sys

import numpy as np
import pytest

from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.data.imitated_guide import imitate_guide
from depth_sr_ros.evaluation.guide_interval import clip_frames
from depth_sr_ros.evaluation.metrics import rmse
from depth_sr_ros.model.config import DepthSRConfig
from depth_sr_ros.model.depth_sr import DepthSR
from depth_sr_ros.model.interpolation import interpolate_depth
from depth_sr_ros.pipeline import (
    DepthSRPipeline,
    NoValidDepthError,
    embedded_weights,
    state_digest,
)


@pytest.fixture(scope='module')
def pipeline():
    # One engine from the first frame on, so that results can be compared bit by bit.
    return DepthSRPipeline.from_pretrained(device='cpu', backend='torch')


def pair(width, height, depth_width, depth_height, seed=0):
    generator = np.random.default_rng(seed)
    rgb = generator.integers(0, 255, (height, width, 3), np.uint8)
    depth = generator.uniform(0.5, 4.0, (depth_height, depth_width)).astype(np.float32)
    return rgb, depth


@pytest.mark.parametrize(
    ('size', 'depth_size'),
    [
        ((64, 64), (8, 8)),
        ((65, 99), (13, 20)),
        ((641, 479), (81, 61)),
        ((640, 480), (640, 480)),
        ((480, 640), (60, 80)),
        ((1280, 720), (160, 90)),
        ((3840, 2160), (480, 270)),
    ],
)
def test_any_size(pipeline, size, depth_size):
    rgb, depth = pair(*size, *depth_size)
    result = pipeline(rgb, depth)
    for array in (result.depth, result.confidence):
        assert array.shape == (size[1], size[0])
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    assert result.depth.min() > 0
    assert 0 <= result.confidence.min() <= result.confidence.max() <= 1


def test_same_input_same_output(pipeline):
    rgb, depth = pair(320, 240, 40, 30)
    first = pipeline(rgb, depth)
    pipeline(*pair(200, 150, 50, 38, seed=1))
    second = pipeline(rgb, depth)
    assert np.array_equal(first.depth, second.depth)
    assert np.array_equal(first.confidence, second.confidence)


def test_no_measurement_is_encoded_in_several_ways(pipeline):
    rgb, depth = pair(320, 240, 320, 240)
    holes = np.random.default_rng(1).random(depth.shape) < 0.5
    results = []
    for value in (0, np.nan, np.inf, -np.inf, -1):
        marked = depth.copy()
        marked[holes] = value
        results.append(pipeline(rgb, marked).depth)
    for other in results[1:]:
        assert np.array_equal(results[0], other)


def test_scale_follows(pipeline):
    rgb, depth = pair(320, 240, 40, 30)
    one = pipeline(rgb, depth).depth
    assert not np.allclose(one, interpolate_depth(depth, (240, 320)), rtol=0.01)
    for factor in (0.1, 10):
        assert np.allclose(pipeline(rgb, depth * np.float32(factor)).depth, one * factor, rtol=0.01)


def test_out_is_filled_and_returned(pipeline):
    rgb, depth = pair(320, 240, 40, 30)
    out = np.zeros((240, 320), np.float32)
    result = pipeline(rgb, depth, out=out)
    assert result.depth is out
    assert np.array_equal(out, pipeline(rgb, depth).depth)


def test_views_and_read_only_arrays_are_taken(pipeline):
    rgb, depth = pair(320, 240, 40, 30)
    expected = pipeline(np.ascontiguousarray(rgb[:, ::-1]), depth).depth
    frozen = rgb[:, ::-1]
    frozen.flags.writeable = False
    depth.flags.writeable = False
    assert np.array_equal(pipeline(frozen, depth).depth, expected)


@pytest.mark.parametrize('fill', [0, np.nan, -3, np.inf])
def test_without_any_measurement(pipeline, fill):
    rgb, _ = pair(64, 64, 8, 8)
    with pytest.raises(NoValidDepthError, match='64 depth pixels'):
        pipeline(rgb, np.full((8, 8), fill, np.float32))


@pytest.mark.parametrize(
    ('rgb', 'depth', 'words'),
    [
        (np.zeros((480, 640), np.uint8), np.ones((60, 80), np.float32), r'uint8 \(480, 640\)'),
        (np.zeros((480, 640, 4), np.uint8), np.ones((60, 80), np.float32), 'expected uint8'),
        (np.zeros((480, 640, 3), np.float32), np.ones((60, 80), np.float32), 'float32'),
        (np.zeros((63, 64, 3), np.uint8), np.ones((8, 8), np.float32), '64x63'),
        (np.zeros((64, 5000, 3), np.uint8), np.ones((8, 80), np.float32), '5000x64'),
        (np.zeros((480, 640, 3), np.uint8), np.ones((60, 80)), 'float64'),
        (np.zeros((480, 640, 3), np.uint8), np.ones((60, 80, 1), np.float32), r'\(60, 80, 1\)'),
        (np.zeros((480, 640, 3), np.uint8), np.ones((7, 9), np.float32), '9x7'),
        (np.zeros((480, 640, 3), np.uint8), np.ones((481, 640), np.float32), '640x481'),
        (np.zeros((480, 640, 3), np.uint8), np.ones((60, 84), np.float32), 'aspect 1.400'),
        ('picture.png', np.ones((60, 80), np.float32), 'str'),
        (np.zeros((480, 640, 3), np.uint8), [[1.0]], 'list'),
    ],
)
def test_wrong_input_is_quoted(pipeline, rgb, depth, words):
    with pytest.raises(ValueError, match=words):
        pipeline(rgb, depth)


def test_wrong_out_is_quoted(pipeline):
    rgb, depth = pair(320, 240, 40, 30)
    for out in (np.zeros((240, 321), np.float32), np.zeros((240, 320)), 'out'):
        with pytest.raises(ValueError, match=r'expected float32 \(240, 320\)'):
            pipeline(rgb, depth, out=out)


def test_interpolation_needs_no_network():
    pipeline = DepthSRPipeline.from_pretrained('interpolation', device='cpu')
    rgb, depth = pair(320, 240, 40, 30)
    result = pipeline(rgb, depth)
    assert np.array_equal(result.depth, interpolate_depth(depth, (240, 320)))
    assert pipeline.description['weights'] == 'interpolation'


def test_guide_can_be_switched_off(pipeline):
    rgb, depth = pair(320, 240, 40, 30)
    without = DepthSRPipeline.from_pretrained(relative_depth='off', device='cpu', backend='torch')
    guided = DepthSRPipeline.from_pretrained(
        relative_depth='embedded', device='cpu', backend='torch'
    )
    assert without.description['relative_depth'] == 'none'
    assert guided.description['relative_depth'] == 'embedded'
    assert not np.array_equal(without(rgb, depth).depth, guided(rgb, depth).depth)
    # The default is one of the two: what the weights validate better with.
    expected = guided if pipeline.description['relative_depth'] == 'embedded' else without
    assert np.array_equal(expected(rgb, depth).depth, pipeline(rgb, depth).depth)


@pytest.mark.parametrize(
    ('arguments', 'error', 'words'),
    [
        ({'device': 'tpu'}, ValueError, "device is 'tpu'"),
        ({'device': 'cuda:77'}, ValueError, 'CUDA'),
        ({'backend': 'tvm'}, ValueError, "backend is 'tvm'"),
        ({'backend': 'onnxruntime', 'precision': 'bfloat16'}, ValueError, 'computes in float32'),
        ({'precision': 'int3'}, ValueError, "precision is 'int3'"),
    ],
)
def test_wrong_arguments_are_quoted(arguments, error, words):
    with pytest.raises(error, match=words):
        DepthSRPipeline.from_pretrained(**arguments)


def test_weights_without_a_guide_say_so(tmp_path):
    DepthSR(DepthSRConfig(name='bare')).save(tmp_path)
    with pytest.raises(ValueError, match=r"'bare' hold no guide"):
        DepthSRPipeline.from_pretrained(tmp_path, relative_depth='embedded', device='cpu')
    pipeline = DepthSRPipeline.from_pretrained(tmp_path, device='cpu')
    assert pipeline.description['relative_depth'] == 'none'


def test_folder_without_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'config\.json'):
        DepthSRPipeline.from_pretrained(tmp_path)


def test_base_makes_use_of_a_guide():
    """On the demo's clip, a guide imitated from the truth: better than without, and than input."""
    frame, other = (clip_frames(40)[i] for i in (3, 30))
    pipeline = DepthSRPipeline.from_pretrained('base', device='cpu', backend='torch')
    assert pipeline.description['relative_depth'] == 'none'
    with pytest.raises(ValueError, match='hold no guide'):
        DepthSRPipeline.from_pretrained('base', relative_depth='embedded')
    for view in (frame, other):
        truth = view.depth
        depth = parse_degradation('scale=8,noise=0.02')(view.rgb, truth, np.random.default_rng(0))
        guide = imitate_guide(truth, np.random.default_rng(0), 1.0)
        interpolated = interpolate_depth(depth, truth.shape)
        alone, guided = (
            pipeline(view.rgb, depth, relative=relative).depth
            for relative in (np.zeros((2, 2), np.float32), guide)
        )
        errors = [rmse(result, truth) for result in (interpolated, alone, guided)]
        assert errors[1] < 0.9 * errors[0]
        assert errors[2] < 0.95 * errors[1]


def test_shipped_weights_are_small_and_load_without_network():
    folders = embedded_weights()
    assert set(folders) == {'base', 'embedded'}
    for name, folder in folders.items():
        model = DepthSR.from_pretrained(str(folder))
        assert model.config.name == name
        # The card's figures are those of these weights.
        assert f'digest {state_digest(model)}' in (folder / 'README.md').read_text()
    total = sum(path.stat().st_size for folder in folders.values() for path in folder.iterdir())
    assert total <= 14e6
    code = (
        'import socket\n'
        'def refuse(*_): raise AssertionError("network used")\n'
        'socket.socket.connect = refuse\n'
        'from depth_sr_ros.pipeline import DepthSRPipeline\n'
        'print(DepthSRPipeline.from_pretrained(device="cpu").description["digest"])\n'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.strip()) == 12
