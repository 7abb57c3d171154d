# SPDX-License-Identifier: Apache-2.0
"""Rendered frames: reproducible, disjoint, of every range, in step with their RGB."""

import pickle

import cv2
import numpy as np
import pytest

from depth_sr_ros.data import camera_effects
from depth_sr_ros.data.rendered_scenes import RenderedScenes

SIZE = (96, 72)


def frames(seed, split='train', count=2, **options):
    options = {'textures': [], 'views': 2, **options}
    source = RenderedScenes(seed, SIZE, split=split, count=max(count, 1), **options)
    try:
        return list(source)
    finally:
        source.close()


@pytest.mark.usefixtures('opengl')
class TestRendering:
    def test_a_frame_depends_on_seed_and_index_alone(self):
        source = RenderedScenes(5, SIZE, count=4, textures=[], views=2)
        forwards = [source[i] for i in range(4)]
        backwards = [pickle.loads(pickle.dumps(source))[i] for i in reversed(range(4))][::-1]
        for first, again in zip(forwards, backwards, strict=True):
            np.testing.assert_array_equal(first.rgb, again.rgb)
            np.testing.assert_array_equal(first.depth, again.depth)
            np.testing.assert_array_equal(first.intrinsics, again.intrinsics)
            assert first.name == again.name
        source.close()
        np.testing.assert_array_equal(source[-1].depth, forwards[-1].depth)
        source.close()

    def test_frames_are_as_promised(self):
        for frame in frames(1, count=6):
            assert frame.rgb.dtype == np.uint8
            assert frame.rgb.shape == (72, 96, 3)
            assert frame.depth.dtype == np.float32
            assert frame.depth.shape == (72, 96)
            assert np.isfinite(frame.depth).all()
            assert 0 <= frame.depth.min() <= frame.depth.max() <= 120
            assert (frame.depth > 0).mean() > 0.3
            assert frame.rgb.std() > 1
            field = 2 * np.degrees(np.arctan(96 / 2 / frame.intrinsics[0, 0]))
            assert 50 <= field <= 95

    def test_splits_and_seeds_share_nothing(self):
        depths = [
            frame.depth
            for seed, split in ((1, 'train'), (1, 'validation'), (2, 'train'))
            for frame in frames(seed, split)
        ]
        for i, first in enumerate(depths):
            for second in depths[:i]:
                assert (first == second).mean() < 0.5

    def test_near_and_far_scenes_are_among_them(self):
        depths = [frame.depth for frame in frames(3, count=20, views=1)]
        medians = [np.median(depth[depth > 0]) for depth in depths]
        assert min(np.percentile(depth[depth > 0], 10) for depth in depths) < 0.7
        assert min(medians) < 1.3
        assert max(medians) > 3.0
        assert max(depth.max() for depth in depths) > 20

    def test_texture_copying_scenes_are_smooth_in_depth_only(self):
        slopes = []
        for frame in frames(0, 'texture_copying', count=10, views=1, clean=True):
            inverse = 1 / frame.depth
            assert (frame.depth > 0).all()
            for axis in (0, 1):
                bend = np.abs(np.diff(inverse, n=2, axis=axis)) / inverse.mean()
                assert bend.max() < 0.01
            grey = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
            slopes.append(np.abs(np.diff(grey, axis=1)).mean())
        assert np.median(slopes) > 3
        assert min(slopes) > 0.5

    def test_clean_frames_have_the_same_depth(self):
        noisy, clean = frames(7, count=1), frames(7, count=1, clean=True)
        np.testing.assert_array_equal(noisy[0].depth, clean[0].depth)
        assert (noisy[0].rgb != clean[0].rgb).any()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'seed': -1}, 'seed is -1; allowed is 0'),
        ({'split': 'test'}, "split is 'test'; allowed is one of"),
        ({'size': (8, 480)}, r'size is \(8, 480\)'),
        ({'count': 0}, 'count and views are 0'),
        ({'views': 0}, 'allowed is 1 or larger'),
        ({'glass_share': 1.5}, 'glass_share is 1.5; allowed is 0 to 1'),
    ],
)
def test_bad_arguments_are_quoted(options, message):
    with pytest.raises(ValueError, match=message):
        RenderedScenes(**{'seed': 0, **options})


def test_index_beyond_the_end_is_refused():
    with pytest.raises(IndexError):
        RenderedScenes(0, SIZE, count=3, textures=[])[3]


def test_blur_is_symmetric():
    """A point stays where it is on average, whichever way it is smeared."""
    point = np.zeros((41, 41, 3), np.float32)
    point[20, 20] = 1
    for seed in range(80):
        smeared = camera_effects._blur(point, np.random.default_rng(seed))[..., 0]
        y, x = np.mgrid[-20:21, -20:21]
        assert (smeared * x).sum() == pytest.approx(0, abs=1e-4)
        assert (smeared * y).sum() == pytest.approx(0, abs=1e-4)
        assert smeared.sum() == pytest.approx(1, abs=1e-3)


def test_photographs_stay_where_the_rendering_is(monkeypatch):
    """Effects change brightness, but nothing moves."""
    # The phase of a blurred picture has other peaks besides the true one.
    monkeypatch.setattr(camera_effects, '_blur', lambda image, rng: image)
    coarse = np.random.default_rng(0).uniform(0.1, 0.9, (30, 40, 1)).astype(np.float32)
    scene = cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC)[..., None].repeat(3, 2)
    window = cv2.createHanningWindow((160, 120), cv2.CV_32F)
    for seed in range(40):
        picture = camera_effects.photograph(scene, np.random.default_rng(seed))
        assert picture.dtype == np.uint8
        assert picture.shape == scene.shape
        grey = picture.mean(axis=-1).astype(np.float32)
        shift, _ = cv2.phaseCorrelate(scene[..., 0], grey, window)
        assert np.abs(shift).max() < 0.3
