# SPDX-License-Identifier: Apache-2.0
"""The guide on its own clock: when it is asked, and that its answer is used."""

import numpy as np
import pytest

from depth_sr_ros.pipeline import DepthSRPipeline, NoValidDepthError
from depth_sr_ros.stream import DepthSRStream


@pytest.fixture(scope='module')
def pipeline():
    return DepthSRPipeline.from_pretrained(
        relative_depth='embedded', device='cpu', execution='eager'
    )


@pytest.fixture
def asked(pipeline, monkeypatch):
    """The mean of every picture that the guide is shown on its own."""
    means = []
    ask = pipeline.relative_depth

    def noted(rgb):
        relative = ask(rgb)
        means.append(rgb.mean().round(3))
        return relative

    monkeypatch.setattr(pipeline, 'relative_depth', noted)
    return means


def frame(seed, width=96, height=64):
    generator = np.random.default_rng(seed)
    small = generator.integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    rgb = small.repeat(8, axis=0).repeat(8, axis=1)
    return rgb, generator.uniform(1, 4, (height // 8, width // 8)).astype(np.float32)


def test_guide_sees_every_third_frame_and_serves_for_three(pipeline, asked):
    stream = pipeline.stream(guide_interval=3)
    frames = [frame(seed) for seed in range(7)]
    for index, (rgb, depth) in enumerate(frames):
        result = stream(rgb, depth)
        own = pipeline(rgb, depth)
        assert np.array_equal(result.depth, own.depth) == (index % 3 == 0)
    assert asked == [frames[index][0].mean().round(3) for index in (0, 3, 6)]


@pytest.mark.parametrize('speed', [6, 24])
def test_what_is_kept_follows_the_picture(speed):
    """A map that shows where the bright square is, asked for once, stays on the square.

    In the end the faster one is farther from where it was asked for than motion is found at once.
    """

    class Pipeline:
        def relative_depth(self, rgb):
            return (rgb[::2, ::2, 0] > 150).astype(np.float32)

        def __call__(self, rgb, depth, *, out=None, relative=None, **_camera):
            return relative

    noise = np.random.default_rng(0).integers(0, 60, (240, 320, 3), np.uint8)
    stream = DepthSRStream(Pipeline(), guide_interval=5)
    for number in range(5):
        rgb = noise.copy()
        left = 60 + speed * number
        rgb[80:160, left : left + 80] += 180
        moved = stream(rgb, np.ones((60, 80), np.float32))
        now = Pipeline().relative_depth(rgb)
        agreement = np.mean((moved > 0.5) == (now > 0.5))
        assert agreement > 0.99, number
    held = np.roll(now, -12, axis=1)
    assert np.mean(held == now) < 0.98  # which is what staying in place would give


def test_interval_of_one_is_the_pipeline_itself(pipeline, asked):
    stream = pipeline.stream()
    rgb, depth = frame(0)
    out = np.empty(rgb.shape[:2], np.float32)
    assert stream(rgb, depth, out=out).depth is out
    assert np.array_equal(out, pipeline(rgb, depth).depth)
    assert not asked


def test_reset_and_another_size_ask_the_guide_again(pipeline, asked):
    stream = pipeline.stream(guide_interval=10)
    stream(*frame(0))
    stream(*frame(1))
    assert len(asked) == 1
    stream.reset()
    stream(*frame(2))
    assert len(asked) == 2
    stream(*frame(3, width=64))
    assert len(asked) == 3
    stream(*frame(4, width=64))
    assert len(asked) == 3


def test_refused_frames_are_not_served(pipeline, asked):
    stream = pipeline.stream(guide_interval=2)
    rgb, depth = frame(0)
    stream(rgb, depth)
    with pytest.raises(NoValidDepthError):
        stream(rgb, np.zeros_like(depth))
    with pytest.raises(ValueError, match='uint8'):
        stream(rgb[..., 0], depth)
    with pytest.raises(ValueError, match='str'):
        stream('picture', depth)
    stream(*frame(1))
    stream(*frame(2))
    stream(*frame(3))
    assert len(asked) >= 2


def test_without_a_guide_it_costs_nothing():
    pipeline = DepthSRPipeline.from_pretrained(
        relative_depth='off', device='cpu', execution='eager'
    )
    stream = pipeline.stream(guide_interval=3)
    for seed in range(4):
        rgb, depth = frame(seed)
        assert np.array_equal(stream(rgb, depth).depth, pipeline(rgb, depth).depth)


@pytest.mark.parametrize('interval', [0, -1, 101])
def test_wrong_interval_is_quoted(pipeline, interval):
    with pytest.raises(ValueError, match=f'guide_interval is {interval}: allowed are 1 to 100'):
        pipeline.stream(guide_interval=interval)


def test_stream_says_what_it_is():
    pipeline = DepthSRPipeline.from_pretrained('interpolation', device='cpu')
    stream = pipeline.stream(guide_interval=4)
    assert stream.description == {**pipeline.description, 'guide_interval': 4}
    assert stream.memory() == {}
    stream.warm_up((96, 64), (12, 8))
    marks = []
    stream.mark = marks.append
    stream(*frame(0))
    assert marks[0] == 'start'
    stream.close()
