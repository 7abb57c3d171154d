# SPDX-License-Identifier: Apache-2.0
"""Depth that drivers and bringups upsampled by repeating pixels."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros import nearest_upsampling
from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.data.depth_sensors import Kinect
from depth_sr_ros.export import export
from depth_sr_ros.inference.onnx_graph import GraphSizes
from depth_sr_ros.model.config import FusionUNetConfig
from depth_sr_ros.nearest_upsampling import NearestUpsamplingMemory, undo_nearest_upsampling
from depth_sr_ros.pipeline import DepthSRPipeline


def measured(width, height, seed=0):
    """Discs before a slanted wall, noise of a millimetre, a hole and an empty border."""
    rng = np.random.default_rng(seed)
    depth = np.linspace(3, 5, width * height, dtype=np.float32).reshape(height, width)
    for _ in range(40):
        centre = rng.uniform(0, 1, 2) * (width, height)
        radius = rng.uniform(0.02, 0.1) * width
        cv2.circle(depth, centre.astype(int).tolist(), int(radius) + 1, rng.uniform(0.8, 2.5), -1)
    depth += 0.001 * rng.standard_normal(depth.shape, dtype=np.float32)
    depth[height // 3 : height // 2, width // 2 : 2 * width // 3] = 0
    depth[:, : width // 20] = 0
    return depth


def image(width, height, seed=1):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def upsampled(depth, size, method):
    if method == 'torch':
        tensor = torch.from_numpy(depth)[None, None]
        return torch.nn.functional.interpolate(tensor, size[::-1], mode='nearest-exact')[
            0, 0
        ].numpy()
    return cv2.resize(depth, size, interpolation=getattr(cv2, method))


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(40, 330),
    ratio=st.floats(1.15, 16),
    method=st.sampled_from(['INTER_NEAREST', 'INTER_NEAREST_EXACT', 'torch']),
    seed=st.integers(0, 2**32 - 1),
)
def test_equal_pixels_are_found_at_every_ratio(width, ratio, method, seed):
    small = measured(width, width * 3 // 4, seed)
    large = upsampled(small, tuple(round(n * ratio) for n in small.shape[::-1]), method)
    np.testing.assert_array_equal(undo_nearest_upsampling(large), small)


@pytest.mark.parametrize('size', [(640, 480), (848, 480), (1280, 720), (1920, 1080)])
@pytest.mark.parametrize('low', [(256, 192), (320, 240), (424, 240), (512, 424), (80, 60)])
def test_sizes_of_cameras(size, low):
    small = measured(*low)
    for method in ('INTER_NEAREST', 'INTER_NEAREST_EXACT'):
        np.testing.assert_array_equal(
            undo_nearest_upsampling(upsampled(small, size, method)), small
        )


@pytest.mark.parametrize('value', [np.nan, np.inf, -1.0])
def test_what_is_missing_may_be_written_in_any_way(value):
    small = measured(160, 120)
    small[small == 0] = value
    large = upsampled(small, (640, 480), 'INTER_NEAREST')
    np.testing.assert_array_equal(undo_nearest_upsampling(large), small)


def test_one_pixel_that_differs_and_nothing_is_lost():
    large = upsampled(measured(256, 192), (640, 480), 'INTER_NEAREST')
    large[101, 202] = 1.234
    assert undo_nearest_upsampling(large) is large


def test_one_pixel_that_differs_from_many_is_noise():
    small = measured(160, 120)
    large = upsampled(small, (640, 480), 'INTER_NEAREST')
    large[101, 202] = 1.234
    np.testing.assert_array_equal(undo_nearest_upsampling(large), small)


@pytest.mark.parametrize('cell', [2, 3, 4])
def test_cells_with_noise_in_them_become_medians(cell):
    truth = measured(192 * cell, 144 * cell)
    sensor = Kinect(cell=cell, jitter=0.25, edge_holes=0.1, shadow=False)
    noisy = sensor(image(192 * cell, 144 * cell), truth, np.random.default_rng(2))
    low = undo_nearest_upsampling(noisy)
    assert low.shape == (144, 192)
    pixels = noisy.reshape(144, cell, 192, cell).transpose(0, 2, 1, 3).reshape(144, 192, -1)
    for row, column in np.random.default_rng(3).integers(0, 144, (200, 2)):
        known = np.sort(pixels[row, column][pixels[row, column] > 0])
        expected = known[(len(known) - 1) // 2] if len(known) else 0
        assert low[row, column] == expected


@pytest.mark.parametrize(
    'degradation',
    ['clean', 'noise=0.01', 'kinect', 'stereo', 'sparse', 'lidar_lines=64', 'holes=0.5', 'glass',
     'quantise=uint8', 'scale=4', 'misregistration,scale=2'],
)  # fmt: skip
def test_what_was_measured_at_its_size_stays(degradation):
    for seed in range(3):
        depth = measured(640, 480, seed)
        rng = np.random.default_rng(seed)
        depth = parse_degradation(degradation)(image(640, 480), depth, rng)
        assert undo_nearest_upsampling(depth) is depth


def test_a_few_outlines_may_lie_between_cells_by_chance():
    rng = np.random.default_rng(4)
    depth = 3 + 0.01 * rng.standard_normal((480, 640), dtype=np.float32)
    for left in (40, 240, 440):
        depth[120:360, left : left + 120] -= 1.5
    assert undo_nearest_upsampling(depth) is depth


@pytest.mark.parametrize('factor', [2, 3, 4, 5, 8])
def test_points_on_a_grid_repeat_nothing(factor):
    small = measured(640 // factor, 480 // factor)
    depth = np.zeros((480 // factor * factor, 640 // factor * factor), np.float32)
    depth[::factor, ::factor] = small
    assert undo_nearest_upsampling(depth) is depth


@pytest.mark.parametrize('size', [(1, 1), (8, 8), (640, 480)])
def test_maps_without_anything_to_see_stay(size):
    for value in (0.0, 2.0, np.nan):
        depth = np.full(size[::-1], value, np.float32)
        assert undo_nearest_upsampling(depth) is depth
    steps = np.repeat(np.float32([1, 2, 3, 4]), max(1, size[0] // 4))[None].repeat(size[1], 0)
    assert undo_nearest_upsampling(steps) is steps


@pytest.fixture(scope='module')
def pipeline():
    return DepthSRPipeline.from_pretrained(device='cpu', backend='torch')


def test_an_upsampled_map_gives_what_the_measured_one_gives(pipeline, caplog):
    rgb, small = image(320, 240), measured(80, 60)
    large = parse_degradation('upsampled')(rgb, small, None)
    assert large.shape == (240, 320)
    expected = pipeline(rgb, small)
    assert not caplog.records
    for _ in range(3):
        result = pipeline(rgb, large)
        np.testing.assert_array_equal(result.depth, expected.depth)
        np.testing.assert_array_equal(result.confidence, expected.confidence)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        'depth of 320x240 repeats the pixels of one of 80x60, and is taken at that size; '
        'publish that one where you can: it is smaller'
    ]


def test_a_file_of_fixed_sizes_gets_its_own(randomised, tmp_path):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    small_network = FusionUNetConfig(stem=4, widths=(8, 8, 8, 8), training_size=64)
    model = randomised(small_network)
    names = {'weights': 'small', 'digest': 'abc', 'relative_depth': 'none'}

    def pipeline_for(depth_size):
        path = tmp_path / f'{depth_size[0]}.onnx'
        path.write_bytes(export(model, None, GraphSizes((128, 96), depth_size), names))
        return DepthSRPipeline.from_pretrained(path, device='cpu')

    rgb, small = image(128, 96), measured(32, 24)
    large = upsampled(small, (128, 96), 'INTER_NEAREST')
    pipeline = pipeline_for((32, 24))
    np.testing.assert_array_equal(pipeline(rgb, large).depth, pipeline(rgb, small).depth)
    # What the file was made for is given as it is, and what it has to refuse by its own size.
    as_it_is = pipeline_for((128, 96))(rgb, large).depth
    assert not np.allclose(as_it_is, pipeline(rgb, large).depth, rtol=1e-3)
    other = pipeline_for((64, 48))
    with pytest.raises(ValueError, match=r'exported for RGB 128x96 with depth 64x48, .* 128x96'):
        other(rgb, large)


@pytest.mark.parametrize('method', ['INTER_NEAREST', 'INTER_NEAREST_EXACT', 'torch'])
@pytest.mark.parametrize('size', [(320, 240), (212, 137)])
def test_a_camera_is_searched_once(monkeypatch, method, size):
    searched = []
    search = nearest_upsampling._exact_cells

    def counting(depth, axis):
        searched.append(axis)
        return search(depth, axis)

    monkeypatch.setattr(nearest_upsampling, '_exact_cells', counting)
    memory = NearestUpsamplingMemory()
    for seed in range(5):
        small = measured(80, 60, seed)
        np.testing.assert_array_equal(memory(upsampled(small, size, method)), small)
    assert searched == [0, 1]
    # What repeats nothing, or other pixels, is not taken for what was before; and back again.
    whole = measured(*size)
    assert memory(whole) is whole
    other = measured(50, 40, 7)
    for small in (other, measured(80, 60, 9)):
        np.testing.assert_array_equal(memory(upsampled(small, size, method)), small)
    np.testing.assert_array_equal(memory(upsampled(other, (150, 120), method)), other)


def test_rows_that_are_no_longer_repeated_are_seen():
    memory = NearestUpsamplingMemory()
    large = upsampled(measured(80, 60), (160, 120), 'INTER_NEAREST')
    assert memory(large).shape == (60, 80)
    # The columns still are.
    changed = upsampled(measured(80, 120), (160, 120), 'INTER_NEAREST')
    assert memory(changed) is changed


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 80),
    columns=st.integers(1, 80),
    repeated=st.integers(1, 5),
    values=st.lists(st.floats(width=32), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_comes_nothing_is_invented(rows, columns, repeated, values, seed):
    rng = np.random.default_rng(seed)
    depth = rng.choice(np.float32(values), (rows, columns)).repeat(repeated, 0).repeat(repeated, 1)
    before = depth.copy()
    result = undo_nearest_upsampling(depth)
    np.testing.assert_array_equal(depth, before)
    assert result.dtype == np.float32
    assert all(n <= m for n, m in zip(result.shape, depth.shape, strict=True))
    known = [image[np.isfinite(image) & (image > 0)] for image in (result, depth)]
    assert np.isin(known[0], known[1]).all()
    assert bool(known[0].size) == bool(known[1].size)
