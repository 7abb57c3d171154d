# SPDX-License-Identifier: Apache-2.0
"""Which pixel of its cell a depth value is of, and that it gets there."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros import point_samples
from depth_sr_ros.data.degradation import parse_degradation
from depth_sr_ros.export import export
from depth_sr_ros.inference.onnx_graph import GraphSizes
from depth_sr_ros.model.config import FusionUNetConfig
from depth_sr_ros.model.interpolation import interpolate_depth
from depth_sr_ros.pipeline import DepthSRPipeline
from depth_sr_ros.point_samples import (
    CENTRED,
    Sampling,
    SamplingMemory,
    _averaged_share,
    _for_the_first,
    cell_factor,
    find_sampling,
    place_points,
)


def scene(width, height, seed=0, objects=60):
    """Boxes before a slanted wall, and an image of them in which nothing else is as plain.

    Returns:
        uint8 (H, W, 3) and float32 (H, W), metres.
    """
    rng = np.random.default_rng(seed)
    depth = np.linspace(3, 4, width, dtype=np.float32)[None].repeat(height, 0)
    rgb = np.full((height, width, 3), 90.0, np.float32)
    # Outlines in the image that are none of depth, and the other way round.
    for number in range(2 * objects):
        left, top = rng.integers(0, (width - 20, height - 20))
        box = (slice(top, top + rng.integers(9, 60)), slice(left, left + rng.integers(9, 60)))
        if number % 2:
            depth[box] = rng.uniform(1, 2.5)
        rgb[box] = rng.uniform(20, 235, 3)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 0.6) + rng.normal(0, 4, rgb.shape)
    return rgb.clip(0, 255).astype(np.uint8), depth


def points(depth, factor, place):
    return np.ascontiguousarray(depth[place::factor, place::factor])


def middle_of(factor):
    """Of larger cells, that is where values are taken to be."""
    return Sampling((1, 1)) if factor == 2 else CENTRED


@pytest.mark.parametrize('factor', [2, 3, 4, 5, 8])
def test_the_image_tells_which_pixel_it_was(factor):
    for seed in range(4):
        rgb, depth = scene(160 * factor, 120 * factor, seed, objects=40 * factor)
        assert find_sampling(rgb, points(depth, factor, 0)) == Sampling((0, 0))
        assert find_sampling(rgb, points(depth, factor, factor // 2)) == middle_of(factor)


@pytest.mark.parametrize('factor', [2, 4, 8])
def test_opencv_takes_the_first_pixel_and_pillow_the_middle(factor):
    rgb, depth = scene(160 * factor, 120 * factor, objects=40 * factor)
    for method, place in ((cv2.INTER_NEAREST, 0), (cv2.INTER_NEAREST_EXACT, factor // 2)):
        low = cv2.resize(depth, (160, 120), interpolation=method)
        np.testing.assert_array_equal(low, points(depth, factor, place))
        assert find_sampling(rgb, low) == (middle_of(factor) if place else Sampling((0, 0)))


@pytest.mark.parametrize('degradation', ['scale=4', 'scale=8', 'scale=8,noise=0.01'])
def test_means_are_no_points(degradation):
    for seed in range(4):
        rgb, depth = scene(640, 480, seed)
        low = parse_degradation(degradation)(rgb, depth, np.random.default_rng(seed))
        factor = int(degradation[6])
        width, height = (low.shape[1] * factor, low.shape[0] * factor)
        assert find_sampling(np.ascontiguousarray(rgb[:height, :width]), low) == CENTRED


def test_low_relief_says_nothing_of_means():
    """Steps too small for `averaged`, which has no outlines to look at then, and says 'means'."""
    rgb, depth = scene(640, 480)
    depth = 3 + 0.4 * (depth < 2.75).astype(np.float32)
    assert find_sampling(rgb, points(depth, 4, 0)) is None


@pytest.mark.parametrize('factor', [2, 3, 4, 5, 8])
def test_a_change_counts_for_the_pixel_whose_interval_it_is_in(factor):
    """By hand: one straight outline, three channels that change by 10, in each of its places."""
    middle = (factor - 1) / 2
    for place in range(1, factor + 1):
        for start in (0, 3 * factor):  # the first and the last two cells that there are
            rgb = np.full((40 * factor, 5 * factor, 3), 100, np.uint8)
            rgb[:, start + place :] = 110
            depth = np.full((40, 5), 4.0, np.float32)
            depth[:, start // factor + 1 :] = 2.0
            # Between the first pixels of both cells it lies in any case; between their middles
            # where it is not before the first one's.
            share = min(max(middle - place + 1, 0), 1)
            found = _for_the_first(rgb, depth, factor)
            # Three pieces of 16 cells and less: what is sure has their root as standard errors.
            pieces = np.bincount(np.arange(40) // 16)
            expected = share and 40 / np.sqrt(np.square(pieces).sum())
            assert found == pytest.approx(expected), (place, start)
            turned = _for_the_first(rgb.transpose(1, 0, 2), depth.T, factor)
            assert turned is None  # nothing changes from row to row


def test_both_directions_are_looked_at():
    """Bars that are all vertical, or all horizontal, in an image that is not square."""
    for turned in (False, True):
        rgb, depth = scene(640, 480)
        rng = np.random.default_rng(5)
        grey = np.full((480, 640), 90.0)
        depth = np.full((480, 640), 3.0, np.float32)
        for _ in range(40):
            along, across = rng.integers(0, 440), rng.integers(0, 440)
            box = (slice(across, across + rng.integers(9, 30)), slice(along, along + 100))
            box = box[::-1] if turned else box
            # No more than one side of each shows.
            depth[box], grey[box] = rng.uniform(1, 2), rng.uniform(20, 235)
        rgb = (grey[..., None] + rng.normal(0, 2, (480, 640, 3))).clip(0, 255).astype(np.uint8)
        assert find_sampling(rgb, points(depth, 4, 0)) == Sampling((0, 0))
        assert find_sampling(rgb, points(depth, 2, 1)) == Sampling((1, 1))


@pytest.mark.parametrize(
    ('evidence', 'expected'),
    [
        ((9.0, -4.5), None),  # rows and columns disagree: a calibration that is off
        ((-4.5, 9.0), None),
        ((9.0, -1.0), Sampling((0, 0))),
        ((9.0, None), Sampling((0, 0))),
        ((-4.0, -4.0), CENTRED),
        ((1.5, 1.5), None),
    ],
)
def test_both_directions_count(monkeypatch, evidence, expected):
    rgb, depth = scene(640, 480)
    low = points(depth, 4, 0)
    each = iter(evidence)
    monkeypatch.setattr(point_samples, '_for_the_first', lambda *_: next(each))
    assert find_sampling(rgb, low) == expected


@pytest.mark.parametrize('share', [0.5, np.nan])
def test_what_is_neither_points_nor_means_tells_nothing(monkeypatch, share):
    rgb, depth = scene(640, 480)
    low = points(depth, 4, 0)
    assert find_sampling(rgb, low) == Sampling((0, 0))
    monkeypatch.setattr(point_samples, '_averaged_share', lambda _: share)
    assert find_sampling(rgb, low) is None


def test_a_value_beyond_everything_is_no_error():
    rgb, depth = scene(640, 480)
    low = points(depth, 4, 0)
    low[60, 80] = np.finfo(np.float32).max
    assert find_sampling(rgb, low) in (None, Sampling((0, 0)))


def test_means_are_looked_for_in_the_middle_of_large_maps():
    depth = np.full((300, 420), 4.0, np.float32)
    for corner in (depth[:, :50], depth[:, -50:], depth[:30], depth[-30:]):
        corner[:: 2 if len(corner) == 30 else 7, ::7] = 2.0
    assert _averaged_share(depth) is None
    assert _averaged_share(depth[:, :100]) is not None
    depth[30:-30, 200:] = 2.0
    assert _averaged_share(depth) == 0


def test_of_many_outlines_some_are_looked_at_everywhere(monkeypatch):
    rgb = np.full((80 * 4, 5 * 4, 3), 100, np.uint8)
    depth = np.full((80, 5), 4.0, np.float32)
    depth[:, 1:] = 2.0
    # In the upper half before the first middle, in the lower one after the second first pixel.
    rgb[: 40 * 4, 1:] = 110
    rgb[40 * 4 :, 5:] = 110
    for most in (3000, 40):
        monkeypatch.setattr(point_samples, '_MOST_OUTLINES', most)
        assert abs(_for_the_first(rgb, depth, 4)) < 0.5


def test_an_image_of_something_else_tells_nothing():
    told = 0
    for seed in range(12):
        rgb, _ = scene(640, 480, seed)
        _, depth = scene(640, 480, 100 + seed)
        told += find_sampling(rgb, points(depth, 4, 0)) is not None
    # By chance, one in a hundred; boxes with straight sides that many of them share are more alike.
    assert told <= 2


def test_holes_and_noise_leave_it_to_be_seen():
    rgb, depth = scene(640, 480)
    low = points(depth, 4, 0)
    rng = np.random.default_rng(3)
    low = low * (1 + 0.003 * rng.standard_normal(low.shape, dtype=np.float32))
    low[30:50, 20:60] = [0, np.nan, np.inf, -1] * 10
    before = low.copy()
    assert find_sampling(rgb, low) == Sampling((0, 0))
    np.testing.assert_array_equal(low, before)


@pytest.mark.parametrize(
    ('rgb', 'depth', 'factor'),
    [
        ((480, 640), (240, 320), 2),
        ((480, 640), (30, 40), 16),
        ((480, 640), (480, 640), None),
        ((480, 640), (24, 32), None),  # 20
        ((480, 640), (192, 256), None),  # 2.5
        ((480, 640), (240, 160), None),  # 2 and 4
        ((481, 640), (240, 320), None),
    ],
)
def test_cells_are_of_2_to_16_whole_pixels(rgb, depth, factor):
    assert cell_factor(rgb, depth) == factor
    if factor is None:
        assert find_sampling(np.zeros((*rgb, 3), np.uint8), np.ones(depth, np.float32)) is None


def test_points_are_put_at_their_pixels():
    low = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    placed = place_points(low, 4, (1, 3))
    assert placed.shape == (8, 12)
    np.testing.assert_array_equal(placed[1::4, 3::4], low)
    assert np.count_nonzero(placed) == 6


def test_a_camera_stays_what_it_is(monkeypatch):
    told, asked = [], []

    def find(rgb, depth):
        asked.append(rgb.shape)
        return told.pop(0) if told else None

    monkeypatch.setattr(point_samples, 'find_sampling', find)
    first, middle = Sampling((0, 0)), Sampling((2, 2))
    memory = SamplingMemory()
    rgb, depth = np.zeros((64, 64, 3), np.uint8), np.ones((16, 16), np.float32)
    assert memory(rgb, depth) is None
    # One frame that errs changes nothing, nor do those that do not tell.
    told[:] = [first, first, middle, None, CENTRED, first]
    assert [memory(rgb, depth) for _ in range(6)] == [first] * 6
    # What most of the last ones say, does.
    told[:] = [middle] * 20
    answers = [memory(rgb, depth) for _ in range(20)]
    assert answers[0] == first
    assert answers[-1] == middle
    # Once they agree, one in 300 is looked at; and the others are not.
    told[:] = [middle] * 100
    for _ in range(20):
        memory(rgb, depth)
    asked.clear()
    assert {memory(rgb, depth) for _ in range(900)} == {middle}
    assert len(asked) == 3
    # Where that one has another answer, all are, until they agree again.
    told[:] = [first] * 100
    asked.clear()
    answers = [memory(rgb, depth) for _ in range(330)]
    assert (answers[0], answers[-1]) == (middle, first)
    assert 10 <= len(asked) <= 20
    # Another size is another camera, or another mode of it.
    told.clear()
    assert memory(rgb[:32, :32], depth[:8, :8]) is None
    # Nor is one looked at for ever that tells nothing, but sooner: it may show something then.
    for _ in range(20):
        memory(rgb, depth)
    asked.clear()
    assert {memory(rgb, depth) for _ in range(90)} == {None}
    assert len(asked) == 3


def test_two_answers_that_are_as_frequent_do_not_take_turns(monkeypatch):
    votes = itertools.cycle([Sampling((0, 0)), CENTRED])
    monkeypatch.setattr(point_samples, 'find_sampling', lambda *_: next(votes))
    memory = SamplingMemory()
    rgb, depth = np.zeros((64, 64, 3), np.uint8), np.ones((16, 16), np.float32)
    answers = [memory(rgb, depth) for _ in range(200)]
    assert set(answers) == {Sampling((0, 0))}


@pytest.fixture(scope='module')
def pipeline():
    return DepthSRPipeline.from_pretrained(device='cpu', backend='torch')


def test_the_pipeline_takes_points_for_what_they_are(pipeline, caplog):
    rgb, depth = scene(320, 240, objects=40)
    low = points(depth, 4, 0)
    result = pipeline(rgb, low)
    np.testing.assert_array_equal(result.depth, pipeline(rgb, place_points(low, 4, (0, 0))).depth)
    pipeline(rgb, low)
    messages = [r.getMessage() for r in caplog.records if 'INTER_NEAREST' in r.getMessage()]
    assert messages == [
        'depth of 80x60 holds one pixel of each 4x4 (row 0, column 0), as resizing by '
        'INTER_NEAREST leaves it, and is taken so; publish the mean of the valid pixels where you '
        'can: it tells more'
    ]

    def error(result):
        return float(np.sqrt(np.mean((result.depth - depth) ** 2)))

    # Not told where they are, it draws outlines one and a half pixels beside.
    as_it_was = pipeline(rgb, low, sampling_of=lambda *_: None)
    assert error(result) < 0.95 * error(as_it_was)
    assert error(pipeline(rgb, low, sampling_of=lambda *_: CENTRED)) == error(as_it_was)


@pytest.mark.parametrize('interval', [1, 2])
def test_a_stream_remembers_what_its_camera_does(pipeline, interval):
    rgb, depth = scene(320, 240, objects=40)
    low = points(depth, 4, 0)
    stream = pipeline.stream(guide_interval=interval)
    np.testing.assert_array_equal(stream(rgb, low).depth, pipeline(rgb, low).depth)
    # An image in which nothing shows does not tell, but the camera is the same.
    grey = np.full_like(rgb, 128)
    expected = pipeline(grey, place_points(low, 4, (0, 0))).depth
    np.testing.assert_array_equal(stream(grey, low).depth, expected)
    # A gap between frames makes no other camera of it.
    stream.reset()
    np.testing.assert_array_equal(stream(grey, low).depth, expected)
    alone = pipeline(grey, low).depth
    assert not np.array_equal(alone, expected)


def test_who_asks_for_the_interpolated_input_gets_it():
    rgb, depth = scene(320, 240, objects=40)
    low = points(depth, 4, 0)
    assert find_sampling(rgb, low) == Sampling((0, 0))
    result = DepthSRPipeline.from_pretrained('interpolation', device='cpu')(rgb, low)
    np.testing.assert_allclose(result.depth, interpolate_depth(low, depth.shape), rtol=1e-5)
    assert result.confidence.min() == 1


def test_a_file_of_fixed_sizes_gets_what_it_was_made_for(randomised, tmp_path):
    pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    model = randomised(FusionUNetConfig(stem=4, widths=(8, 8, 8, 8), training_size=64))
    names = {'weights': 'small', 'digest': 'abc', 'relative_depth': 'none'}
    path = tmp_path / 'small.onnx'
    path.write_bytes(export(model, None, GraphSizes((320, 240), (80, 60)), names))
    rgb, depth = scene(320, 240, objects=40)
    low = points(depth, 4, 0)
    assert find_sampling(rgb, low) == Sampling((0, 0))
    result = DepthSRPipeline.from_pretrained(path, device='cpu')(rgb, low)
    assert np.isfinite(result.depth).all()


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(8, 40),
    columns=st.integers(8, 40),
    factor=st.integers(1, 17),
    values=st.lists(st.floats(width=32), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_comes_there_is_an_answer(rows, columns, factor, values, seed):
    rng = np.random.default_rng(seed)
    depth = rng.choice(np.float32(values), (rows, columns))
    rgb = rng.integers(0, 256, (rows * factor, columns * factor, 3), np.uint8)
    found = find_sampling(rgb, depth)
    assert found is None or found.phase is None or max(found.phase) < factor
