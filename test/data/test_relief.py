# SPDX-License-Identifier: Apache-2.0
"""Bumps on rendered surfaces: how large they are, and what shows them."""

import cv2
import numpy as np
import pytest

from depth_sr_ros.data.relief import random_relief, shade_relief, with_relief


def rng(seed=0):
    return np.random.default_rng(seed)


def test_relief_is_of_a_percent_and_wider_than_a_pixel():
    reliefs = [random_relief((120, 160), rng(seed)) for seed in range(60)]
    sizes = [float(relief.std()) for relief in reliefs]
    assert max(sizes) <= 0.0101
    assert max(sizes) > 10 * min(sizes)
    for relief in reliefs:
        assert relief.shape == (120, 160)
        assert relief.dtype == np.float32
        # Three of the largest standard deviations, with rounding.
        assert np.abs(relief - 1).max() <= 0.0301
        # Neighbours are alike, which those of noise are not.
        assert np.abs(np.diff(relief, axis=1)).mean() < 0.8 * relief.std()


def test_the_largest_relief_can_be_chosen():
    sizes = [float(random_relief((60, 80), rng(seed), 0.05).std()) for seed in range(60)]
    assert 0.02 < max(sizes) <= 0.0501
    rgb, truth = np.zeros((60, 80, 3), np.uint8), np.ones((60, 80), np.float32)
    large = max(
        float(with_relief(rgb, (truth,), rng(seed), 0.05)[1][0].std()) for seed in range(60)
    )
    assert large > 0.02
    for largest in (0.0, 0.2):
        with pytest.raises(ValueError, match=f'largest relief is {largest}; allowed is 0.001 to'):
            random_relief((60, 80), rng(), largest)


def test_some_reliefs_cover_a_part_only():
    flat = [np.mean(np.abs(random_relief((120, 160), rng(seed)) - 1) < 1e-6) for seed in range(60)]
    assert 0.2 < np.mean([share > 0.05 for share in flat]) < 0.6


def test_shading_follows_the_slopes_and_leaves_what_is_flat():
    grey = np.full((40, 60, 3), 128, np.uint8)
    relief = np.ones((40, 60), np.float32)
    np.testing.assert_array_equal(shade_relief(grey, relief, rng()), grey)
    relief[10:30, 20:40] = 1.01
    relief = cv2.GaussianBlur(relief, (0, 0), 3)
    shaded = shade_relief(grey, relief, rng()).astype(int)
    # One side is brighter by what the other is darker.
    assert shaded.max() > 132
    assert shaded.min() < 124
    assert abs(shaded.mean() - 128) < 1
    np.testing.assert_array_equal(shaded[:, :5], 128)


def test_truth_and_what_the_sensor_sees_get_the_same_relief():
    rgb = np.full((96, 128, 3), 128, np.uint8)
    truth = np.full((96, 128), 2.0, np.float32)
    truth[:8] = 0
    shaded = 0
    for seed in range(40):
        image, (one, other) = with_relief(rgb, (truth, 2 * truth), rng(seed))
        np.testing.assert_allclose(2 * one, other)
        assert not one[:8].any()
        assert one[8:].std() > 0
        shaded += bool((image != rgb).any())
    assert 12 < shaded < 36
    np.testing.assert_array_equal(truth[8:], 2)
