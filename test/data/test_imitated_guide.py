# SPDX-License-Identifier: Apache-2.0
"""Depth Anything as imitated from the truth: what a better one has and what every one keeps."""

import numpy as np
import pytest

from depth_sr_ros.data.imitated_guide import imitate_guide, misplace_guide


def rng(seed=0):
    return np.random.default_rng(seed)


def two_surfaces(height=240, width=320, edge=160):
    truth = np.full((height, width), 4.0, np.float32)
    truth[:, :edge] = 2.0
    return truth


def edge_width(guide):
    """Columns over which the guide goes from a tenth to nine tenths of its step."""
    row = np.median(guide, axis=0)
    row = (row - row[-40:].mean()) / (row[:40].mean() - row[-40:].mean())
    return np.count_nonzero((row[100:220] > 0.1) & (row[100:220] < 0.9))


def test_the_better_the_sharper():
    def widths(quality):
        return [edge_width(imitate_guide(two_surfaces(), rng(seed), quality)) for seed in range(20)]

    poor, middling, best = map(widths, (0.0, 0.5, 1.0))
    assert np.mean(poor) > 1.5 * np.mean(middling) > 2 * np.mean(best)
    # Depth Anything's head ends with eight values per patch of 14 of the 518 pixels of its input;
    # the worst of the best has three in 376, so that an edge takes three columns here.
    assert max(best) <= 4


def test_the_better_the_more_alike():
    """Where the truth is a ramp of inverse depth, the best guide is nearly linear in it."""
    inverse = np.tile(np.linspace(0.2, 1.0, 320, dtype=np.float32), (240, 1))

    def likeness(quality):
        guides = [imitate_guide(1 / inverse, rng(seed), quality) for seed in range(9)]
        return np.mean([np.corrcoef(guide.ravel(), inverse.ravel())[0, 1] for guide in guides])

    assert likeness(0.0) < likeness(1.0)
    assert likeness(1.0) > 0.98


def test_relative_inverse_depth_of_the_truth_s_size_whatever_its_unit():
    truth = two_surfaces(120, 161, 80)
    truth[:10] = 0
    guide = imitate_guide(truth, rng(), 0.9)
    assert guide.shape == truth.shape
    assert guide.dtype == np.float32
    assert np.isfinite(guide).all()
    assert guide[60, 20] > guide[60, 140] > guide[2, 140]
    np.testing.assert_allclose(imitate_guide(truth * 100, rng(), 0.9), guide, atol=1e-4)


@pytest.mark.parametrize('quality', [None, 0.3])
def test_the_same_seed_gives_the_same(quality):
    truth = two_surfaces()
    first = imitate_guide(truth, rng(5), quality)
    np.testing.assert_array_equal(first, imitate_guide(truth, rng(5), quality))
    assert not np.array_equal(first, imitate_guide(truth, rng(6), quality))


def test_misplaced_guide_moves_outlines_by_a_bounded_distance():
    guide = np.zeros((240, 320), np.float32)
    guide[60:180, 80:240] = 1
    moved = [misplace_guide(guide, rng(seed)) for seed in range(40)]
    # At 240 lines the farthest are 5 pixels, and the smooth field adds a third of it at most.
    inner, outer = np.s_[70:170, 90:230], np.ones_like(guide, bool)
    outer[50:190, 70:250] = False
    assert all((image[inner] > 0.99).all() and (image[outer] < 0.01).all() for image in moved)
    changed = [np.abs(image - guide).sum() / (2 * (120 + 160)) for image in moved]
    assert min(changed) < 0.5
    assert 1.5 < max(changed) < 5
    np.testing.assert_array_equal(moved[7], misplace_guide(guide, rng(7)))
