# SPDX-License-Identifier: Apache-2.0
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_sr_ros.data import camera_effects, depth_holes
from depth_sr_ros.data import degradation as d
from depth_sr_ros.data.depth_sensors import kinect_quantise, projector_shadow
from depth_sr_ros.data.downsampling import METHODS, low_frequency_field

#: One of each name of the grammar, and some compositions.
EXAMPLES = [
    'scale=4', 'scale=5.3', 'bicubic=4', 'nearest=6', 'sliced=6', 'noise=0.05', 'noise_m=0.1',
    'bias', 'jpeg', 'quantise=uint8', 'quantise=log_uint8', 'quantise=inverse_uint8',
    'quantise=bfloat16', 'quantise=mm', 'outliers=0.1', 'misregistration', 'range=1.5:4',
    'kinect', 'stereo', 'tof', 'aligned', 'tof=4', 'phone_lidar', 'lidar_lines=16', 'sparse=50',
    'corners=50', 'holes', 'rectangles', 'depth_band', 'border=5', 'specular', 'edges', 'glass',
    'clean', 'upsampled', 'scale=4,upsampled', 'holes,scale=3,noise=0.02,glass',
]  # fmt: skip
MOVES_OR_GROWS = ('misregistration', 'scale=4,upsampled')


def scene(height=96, width=128, seed=0):
    """A floor, a wall, a box and a thin pole in front; holes; a picture with texture and edges."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    depth = np.minimum(4 - 0.3 * x / width, 6 - 4.5 * y / height)
    depth[height // 3 : 2 * height // 3, width // 2 : 3 * width // 4] = 1.4
    depth[:, width // 4 : width // 4 + 2] = 1.1
    depth += 0.01 * low_frequency_field(depth.shape, 16, rng)
    depth[: height // 8, : width // 8] = 0
    grey = 128 - 60 * (depth - 2.5) / 2 + 20 * rng.standard_normal(depth.shape)
    rgb = np.clip(grey[..., None] + [0, 10, 20], 0, 255).astype(np.uint8)
    return rgb, depth.astype(np.float32)


def constant(height, width, z):
    return np.full((height, width, 3), 128, np.uint8), np.full((height, width), z, np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


images = st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1))


@pytest.mark.parametrize('text', EXAMPLES)
@settings(max_examples=15, deadline=None)
@given(image=images, junk=st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0]))
def test_holds_for_all(text, image, junk):
    height, width, seed = image
    rgb = rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    depth = rng(seed + 1).uniform(0.5, 6, (height, width)).astype(np.float32)
    missing = rng(seed + 2).random((height, width)) < 0.3
    depth[missing] = 0
    dirty = np.where(missing, np.float32(junk), depth)
    dirty_before, rgb_before = dirty.copy(), rgb.copy()
    degrade = d.parse_degradation(text)

    result = degrade(rgb, dirty, rng(seed))

    np.testing.assert_array_equal(dirty, dirty_before)
    np.testing.assert_array_equal(rgb, rgb_before)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert (result >= 0).all()
    np.testing.assert_array_equal(result, degrade(rgb, depth, rng(seed)), 'junk is a hole')
    assert (degrade(rgb, np.zeros_like(depth), rng(seed)) == 0).all(), 'depth out of nothing'
    if text in MOVES_OR_GROWS:
        return
    if result.shape == depth.shape:
        assert not (result[depth == 0] > 0).any(), 'validity invented'
    else:
        size = result.shape[::-1]
        spread = cv2.dilate((depth > 0).astype(np.float32), np.ones((3, 3)))
        if text.startswith('bicubic'):
            spread = cv2.dilate(spread, np.ones((17, 17)))
        covered = cv2.resize(spread, size, interpolation=cv2.INTER_AREA)
        assert not (result[covered == 0] > 0).any(), 'validity invented'


@pytest.mark.parametrize('text', EXAMPLES)
def test_another_seed_another_result_where_chance_is_in_it(text):
    rgb, depth = scene()
    degrade = d.parse_degradation(text)
    first, second = degrade(rgb, depth, rng(1)), degrade(rgb, depth, rng(2))
    fixed = ('scale', 'bicubic', 'nearest', 'sliced', 'jpeg', 'quantise', 'range', 'clean')
    fixed += ('upsampled',)
    assert np.array_equal(first, second) == text.startswith(fixed)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(20, 300), width=st.integers(20, 300), factor=st.floats(1, 16),
    method=st.sampled_from(METHODS),
)  # fmt: skip
def test_downsampling_honours_the_factor_and_keeps_a_plane(height, width, factor, method):
    rgb, depth = constant(height, width, 2.5)
    low = d.Downsample(factor, method)(rgb, depth, rng())
    assert low.shape == (round(height / factor), round(width / factor))
    np.testing.assert_allclose(low, 2.5, rtol=1e-5)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('factor', [4, 5, 6.4])
def test_downsampled_pixels_lie_at_their_cell_s_centre(method, factor):
    ramp = np.broadcast_to(np.arange(320, dtype=np.float32) + 100, (320, 320))
    rgb = np.zeros((320, 320, 3), np.uint8)
    for turn in (lambda a: a, np.transpose):
        low = turn(d.Downsample(factor, method)(rgb, turn(ramp), rng()))
        expected = (np.arange(low.shape[1]) + 0.5) * 320 / low.shape[1] - 0.5 + 100
        # Nearest cannot hit the centre of an even cell: it is half a pixel off.
        tolerance = 0.51 if method == 'nearest' else 0.02
        assert np.abs(low[5] - expected)[3:-3].max() <= tolerance


def test_area_is_the_mean_of_what_is_valid():
    rgb, depth = scene(64, 64)
    expected = [[depth[8 * i : 8 * i + 8, 8 * j : 8 * j + 8] for j in range(8)] for i in range(8)]
    low = d.Downsample(8)(rgb, depth, rng())
    for i in range(8):
        for j in range(8):
            cell = expected[i][j]
            valid = cell[cell > 0]
            want = valid.mean() if valid.size >= 32 else 0
            assert low[i, j] == pytest.approx(want, rel=1e-5)
    half = np.zeros((8, 8), np.float32)
    half[:4] = 3
    assert d.Downsample(8)(rgb, half, rng()) == pytest.approx(3)
    half[3, 0] = 0
    assert d.Downsample(8)(rgb, half, rng()) == 0


@pytest.mark.parametrize('method', ['area', 'bicubic'])
def test_missing_pixels_are_not_mixed_in(method):
    rgb, depth = constant(64, 64, 5.0)
    depth[:, 20:37] = 0
    low = d.Downsample(8, method)(rgb, depth, rng())
    assert (low[:, 3] == 0).all()
    np.testing.assert_allclose(low[low > 0], 5, rtol=1e-5)


def test_nearest_only_takes_what_is_there():
    rgb, depth = scene()
    low = d.Downsample(7.7, 'nearest')(rgb, depth, rng())
    assert np.isin(low, depth).all()


@settings(max_examples=20, deadline=None)
@given(sigma=st.floats(0.002, 0.1), z=st.floats(0.3, 80), seed=st.integers(0, 1000))
def test_relative_noise_has_the_given_sigma(sigma, z, seed):
    rgb, depth = constant(128, 128, z)
    error = d.GaussianNoise(sigma)(rgb, depth, rng(seed)) / np.float32(z) - 1
    # 16384 samples: 4 standard errors of sigma are 2.2%, of the mean 3.1% of sigma.
    assert error.std() == pytest.approx(sigma, rel=0.025)
    assert abs(error.mean()) < 0.035 * sigma


def test_metric_noise_has_the_given_sigma():
    for z in (1.0, 8.0):
        rgb, depth = constant(200, 200, z)
        noisy = d.GaussianNoise(0.05, relative=False)(rgb, depth, rng())
        assert noisy.std() == pytest.approx(0.05, rel=0.02)


def test_noise_does_not_turn_a_measurement_into_a_hole():
    rgb, depth = constant(300, 300, 0.1)
    assert (d.GaussianNoise(0.5)(rgb, depth, rng()) > 0).all()
    assert (d.GaussianNoise(1, relative=False)(rgb, depth, rng()) > 0).all()


def test_bias_is_smooth_and_as_large_as_asked():
    rgb, depth = constant(480, 640, 2.0)
    error = d.LowFrequencyBias(0.02)(rgb, depth, rng()) / 2 - 1
    assert 0.012 < error.std() < 0.03
    assert np.abs(np.diff(error, axis=1)).max() < 0.004


@pytest.mark.parametrize(
    ('kind', 'code'),
    [('uint8', np.asarray), ('log_uint8', np.log), ('inverse_uint8', np.reciprocal)],
)
def test_8_bit_levels_are_even_in_their_code(kind, code):
    rgb, depth = scene()
    depth = np.where(depth > 0, 0.5 + 3 * depth, 0).astype(np.float32)
    rounded = d.Quantise(kind)(rgb, depth, rng())
    valid = depth > 0
    values = np.unique(rounded[valid].astype(np.float64))
    assert 20 < len(values) <= 256
    steps = np.diff(np.sort(code(values)))
    whole = (code(depth[valid].astype(np.float64)).max() - code(depth[valid]).min()) / 255
    np.testing.assert_allclose(steps / whole, np.rint(steps / whole), atol=0.02)
    error = np.abs(code(rounded[valid].astype(np.float64)) - code(depth[valid]))
    assert error.max() <= 0.51 * whole


def test_bfloat16_and_millimetres():
    rgb, depth = scene()
    rounded = d.Quantise('bfloat16')(rgb, depth, rng())
    assert not (rounded.view(np.uint32) & 0xFFFF).any()
    valid = depth > 0
    assert np.abs(rounded / np.where(valid, depth, 1) - 1)[valid].max() <= 2**-8
    # Ties go to even mantissas.
    ties = np.array([[1 + 2**-8, 1 + 3 * 2**-8]], np.float32)
    np.testing.assert_array_equal(
        d.Quantise('bfloat16')(rgb[:1, :2], ties, rng()), [[1, 1 + 2**-6]]
    )
    far = np.array([[1.2344, 65.535, 65.536, 0.0004]], np.float32)
    np.testing.assert_allclose(
        d.Quantise('mm')(rgb[:1, :4], far, rng()), [[1.234, 65.535, 0, 0]], rtol=1e-6
    )


def test_jpeg_spoils_more_at_lower_quality():
    rgb, depth = scene()
    valid = depth > 0
    error = [
        np.abs(d.JPEGArtefacts(quality)(rgb, depth, rng()) - depth)[valid].mean()
        for quality in (95, 50, 10)
    ]
    assert 0 < error[0] < error[1] < error[2] < 0.5


@settings(max_examples=20, deadline=None)
@given(fraction=st.floats(0, 0.5), seed=st.integers(0, 1000))
def test_outliers_are_as_many_as_asked_and_from_the_scene_s_range(fraction, seed):
    rgb, depth = scene()
    result = d.Outliers(fraction)(rgb, depth, rng(seed))
    valid = depth > 0
    assert (result != depth).sum() == pytest.approx(fraction * valid.sum(), abs=3)
    assert result[valid].min() >= depth[valid].min()
    assert result[valid].max() <= depth[valid].max()


@pytest.mark.parametrize('pixels', [1, 2, 3, 8])
@pytest.mark.parametrize('half', [1, 2])
def test_misregistration_shifts_by_as_many_pixels_of_rgb(pixels, half):
    noise = 3 + low_frequency_field((240, 320), 6, rng(5)) / 4
    depth = np.ascontiguousarray(noise[::half, ::half])
    rgb = np.zeros((240, 320, 3), np.uint8)
    directions = set()
    for seed in range(6):
        shifted = d.Misregistration(pixels, max_scale=0)(rgb, depth, rng(seed))
        inner = np.s_[24:-24, 24:-24]
        best = min(
            (np.abs(shifted - np.roll(depth, (y, x), (0, 1)))[inner].mean(), y, x)
            for y in range(-9, 10)
            for x in range(-9, 10)
        )
        assert np.hypot(best[1], best[2]) == pytest.approx(pixels / half, abs=0.75)
        directions.add(best[1:])
    assert len(directions) > 1 or pixels / half < 1
    assert np.isin(shifted, np.append(depth, 0)).all(), 'depths were mixed'


# Kinect


def test_kinect_steps_are_the_published_ones():
    # 35130 cm over whole disparities: z^2 / 351.3 m between neighbouring depths.
    for z, step in ((1, 0.0028), (2, 0.0114), (3, 0.0256), (5, 0.0712)):
        ramp = np.linspace(0.95 * z, 1.05 * z, 100_000, dtype=np.float32)
        values = np.unique(kinect_quantise(ramp))
        assert np.median(np.diff(values)) == pytest.approx(step, rel=0.03)
        disparity = 351.30 / values
        np.testing.assert_allclose(disparity, np.rint(disparity), atol=2e-3)
        # Rounding, not a bias.
        assert abs((kinect_quantise(ramp) - ramp).mean()) < 0.03 * step


@pytest.mark.parametrize('z', [0.8, 1.5, 3.0])
def test_kinect_axial_noise(z):
    rgb, depth = constant(240, 320, z)
    clean = d.Kinect(jitter=0, edge_holes=0, distortion=0)
    error = clean(rgb, depth, rng()) - np.float32(z)
    step = z * z / 351.3
    axial = 0.0012 + 0.0019 * (z - 0.4) ** 2
    expected = np.sqrt(axial**2 + step**2 * (1 / 12 + 1 / 36))
    assert error.std() == pytest.approx(expected, rel=0.15)
    assert abs(error.mean()) < 0.25 * step
    assert (clean(rgb, depth, rng()) > 0).all()


@pytest.mark.parametrize('mirrored', [False, True])
def test_kinect_shadow_is_on_the_projector_s_far_side_and_of_the_right_width(mirrored):
    rgb, depth = constant(100, 320, 3.0)
    depth[:, 150:200] = 1.0
    expected = d.Kinect.focal_baseline * (1 / 1.0 - 1 / 3.0)
    shadow = projector_shadow(depth, d.Kinect.focal_baseline, mirrored)
    columns = np.flatnonzero(shadow[50])
    assert len(columns) == pytest.approx(expected, abs=1.5)
    assert (np.diff(columns) == 1).all()
    assert (columns[0] == 200) if mirrored else (columns[-1] == 149)

    seen = d.Kinect(jitter=0, edge_holes=0, mirrored=mirrored)(rgb, depth, rng()) > 0
    lost = (~seen).sum(1).mean()
    assert lost == pytest.approx(expected, abs=5)
    sides = [slice(132, 145), slice(206, 219)]
    lit, dark = sides if mirrored else sides[::-1]
    assert seen[:, lit].all()
    assert not seen[:, dark].any()
    assert d.Kinect(jitter=0, edge_holes=0, shadow=False)(rgb, depth, rng()).all()


def test_kinect_on_an_image_of_another_width_has_the_same_shadow_in_rgb_pixels():
    rgb, depth = constant(100, 320, 3.0)
    depth[:, 150:200] = 1.0
    small = projector_shadow(depth[::2, ::2], d.Kinect.focal_baseline / 2).sum(1).mean()
    assert small * 2 == pytest.approx(
        projector_shadow(depth, d.Kinect.focal_baseline).sum(1).mean(), abs=2
    )
    low = d.Kinect(jitter=0, edge_holes=0)(rgb, depth[::2, ::2], rng())
    assert (low == 0).sum(1).mean() == pytest.approx(small, abs=3)


def test_kinect_objects_are_fat_by_half_a_window():
    rgb, depth = np.zeros((60, 80, 3), np.uint8), np.full((60, 80), 2.0, np.float32)
    depth[20:40, 30:50] = 1.0
    for window, rows in ((1, 20), (7, 26)):
        sensor = d.Kinect(jitter=0, window=window, edge_holes=0, shadow=False, distortion=0)
        assert np.count_nonzero(sensor(rgb, depth, rng())[:, 40] < 1.5) == rows


def test_kinect_outlines_are_ragged_in_runs_of_a_patch():
    rgb, depth = constant(120, 120, 2.0)
    depth[:, 60:] = 1.0
    outlines = {}
    for patch in (1, 4):
        sensor = d.Kinect(jitter=2.0, patch=patch, edge_holes=0, shadow=False, distortion=0)
        outlines[patch] = (sensor(rgb, depth, rng()) < 1.5).argmax(1)
    runs = {patch: 120 / (1 + np.count_nonzero(np.diff(o))) for patch, o in outlines.items()}
    assert runs[4] > 2.5 * runs[1]
    assert abs(outlines[4].mean() - 60) < 4


@pytest.mark.parametrize(('share', 'first'), [(0.5, 2), (0.0, 0), (0.99, 3)])
def test_nearest_takes_the_pixel_at_its_offset(share, first):
    rgb, depth = constant(8, 12, 1.0)
    depth += np.arange(12, dtype=np.float32) + 100 * np.arange(8, dtype=np.float32)[:, None]
    low = d.Downsample(4, 'nearest', offset=(0.0, share))(rgb, depth, rng())
    np.testing.assert_array_equal(low, depth[::4, first::4])
    with pytest.raises(ValueError, match=r'offset is \(0, 1\); allowed is 0 to below 1 cell'):
        d.Downsample(4, 'nearest', offset=(0, 1))


def test_kinect_repeats_one_pixel_of_each_cell():
    rgb, depth = constant(60, 90, 2.0)
    depth[:, 45:] = 1.0
    depth[29:] = 3.0
    for cell, phase, column, row in ((2, (0, 0), 46, 30), (2, (1, 1), 44, 28), (3, (1, 2), 45, 30)):
        sensor = d.Kinect(
            jitter=0, cell=cell, phase=phase, edge_holes=0, shadow=False, distortion=0
        )
        result = sensor(rgb, depth, rng())
        assert ((result[:28] < 1.5).argmax(1) == column).all()
        assert ((result > 2.5).argmax(0) == row).all()
    with pytest.raises(ValueError, match=r'phase is \(0, 2\); allowed is 0 to 1 px'):
        d.Kinect(cell=2, phase=(0, 2))


def test_kinect_has_a_range():
    rgb, depth = constant(32, 32, 1.0)
    depth[:8], depth[8:16] = 0.3, 9
    result = d.Kinect(jitter=0, edge_holes=0, shadow=False)(rgb, depth, rng())
    assert not result[:16].any()
    assert result[16:].all()


def test_jitter_makes_edges_ragged():
    rgb, depth = constant(200, 200, 2.0)
    depth[:, 100:] = 1.0
    for jitter, low, high in ((0, 0, 0), (0.5, 0.1, 0.25)):
        result = d.Kinect(jitter=jitter, edge_holes=0, shadow=False)(rgb, depth, rng())
        assert low <= (result[:, 99] < 1.5).mean() <= high


# Other sensors


def test_stereo_fattens_objects_and_leaves_slopes_where_they_are():
    rgb, _ = scene(192, 256)
    ramp = np.broadcast_to(np.linspace(1, 3, 256, dtype=np.float32), (192, 256)).copy()
    error = d.StereoCamera(speckle=0)(rgb, ramp, rng()) / ramp - 1
    assert abs(np.median(error)) < 0.003
    _, wall = constant(192, 256, 3.0)
    wall[:, 120:160] = 1.5
    result = d.StereoCamera(window=9, disparity_sigma=0, speckle=0)(rgb, wall, rng())
    right = result[:, 160:163]
    assert (right[right > 0] < 2).mean() > 0.9


def test_tof_gives_the_nearer_surface_of_a_mixed_cell():
    rgb, depth = constant(96, 96, 3.0)
    depth[:, 1::4] = 1.0
    result = d.TimeOfFlight(4, max_bias=0, flying=0, sigma=0)(rgb, depth, rng())
    assert result.shape == (24, 24)
    np.testing.assert_allclose(result, 1.0, rtol=1e-5)


def test_tof_bias_is_positive_and_bounded():
    rgb, depth = constant(240, 320, 2.0)
    highest = 0.0
    for seed in range(10):
        error = d.TimeOfFlight(2, sigma=0)(rgb, depth, rng(seed)) / 2 - 1
        assert error.min() >= -1e-5
        highest = max(highest, error.max())
    assert 0.01 < highest <= 0.03


def test_tof_flying_pixels_are_between_the_surfaces_and_beside_the_edge():
    rgb, depth = constant(120, 160, 3.0)
    depth[:, :80] = 1.5
    result = d.TimeOfFlight(1, max_bias=0, sigma=0, flying=0.8)(rgb, depth, rng())
    flying = (result > 1.55) & (result < 2.95)
    assert 0.2 < flying[:, 79:81].mean() < 0.9
    assert not flying[:, :78].any()
    assert not flying[:, 82:].any()
    assert result[result > 0].min() >= 1.5 - 1e-4
    assert result.max() <= 3 + 1e-4


def test_tof_loses_dark_and_distant_surfaces():
    rgb, depth = constant(64, 64, 1.0)
    depth[:, 40:] = 8
    rgb[:, 40:] = 5
    result = d.TimeOfFlight(1, flying=0)(rgb, depth, rng())
    assert not result[:, 42:].any()
    assert result[:, :38].all()


def test_phone_lidar_keeps_slopes_and_loses_thin_things():
    rgb, _ = constant(240, 320, 1)
    y = np.arange(240, dtype=np.float32)[:, None]
    slope = np.broadcast_to(1 / (0.6 - 0.0015 * y), (240, 320)).astype(np.float32)
    low = d.PhoneLidar(2.5, sigma=0)(rgb, slope, rng())
    truth = d.Downsample(2.5)(rgb, slope, rng())
    assert low.shape == (96, 128)
    assert np.abs(low / truth - 1).max() < 0.02

    wall = np.full((240, 320), 3, np.float32)
    wall[:, 160:163] = 1.5
    low = d.PhoneLidar(2.5, sigma=0)(rgb, wall, rng())
    pole = low[:, 63:66].min(1)
    assert (pole > 2.5).mean() > 0.3


def test_phone_lidar_follows_the_picture():
    rgb, depth = constant(200, 200, 3.0)
    depth[:, 100:] = 1.5
    plain = d.PhoneLidar(2, sigma=0)(rgb, depth, rng())
    rgb[:, 100:] = 250
    guided = d.PhoneLidar(2, sigma=0)(rgb, depth, rng())
    truth = d.Downsample(2)(rgb, depth, rng())
    assert np.abs(guided - truth).mean() < 0.5 * np.abs(plain - truth).mean()


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 3000), seed=st.integers(0, 1000), corners=st.booleans())
def test_sparse_points_are_as_many_as_asked_and_true(count, seed, corners):
    rgb, depth = scene()
    sparse = d.SparsePoints(count, corners=corners)(rgb, depth, rng(seed))
    assert (sparse > 0).sum() == min(count, (depth > 0).sum())
    kept = sparse > 0
    np.testing.assert_array_equal(sparse[kept], depth[kept])


def test_sparse_points_keep_their_density_on_crops():
    rgb, depth = constant(192, 192, 2.0)
    sparse = d.SparsePoints(500, frame_size=(480, 640))(rgb, depth, rng())
    assert (sparse > 0).sum() == 60  # 500 * 192^2 / (480 * 640)
    tiny = d.SparsePoints(500, frame_size=(480, 640))(rgb[:5, :5], depth[:5, :5], rng())
    assert (tiny > 0).sum() == 1


def test_corners_are_where_texture_is():
    rgb, depth = constant(100, 100, 2.0)
    rgb[:, :20] = rng().integers(0, 256, (100, 20, 3), np.uint8)
    sparse = d.SparsePoints(200, corners=True)(rgb, depth, rng()) > 0
    assert sparse[:, :20].sum() > 150


@pytest.mark.parametrize('lines', [8, 32, 64])
def test_lidar_lines_on_frames_and_crops(lines):
    rgb, depth = constant(480, 640, 5.0)
    whole = d.LidarLines(lines, step=2, dropout=0)(rgb, depth, rng())
    # Half of the columns, as many points in each as there are lines.
    assert (whole > 0).sum() == pytest.approx(lines * 320, rel=0.15)
    crop = d.LidarLines(lines, step=2, dropout=0, frame_size=(480, 640))(
        rgb[:192, :192], depth[:192, :192], rng()
    )
    assert (crop > 0).sum() == pytest.approx(lines * 0.4 * 96, rel=0.35)


def test_parallax_bleed_is_deeper_than_the_truth_and_only_inside_outlines():
    rgb, depth = constant(200, 200, 6.0)
    depth[:, 80:120] = 1.5
    for baseline in (0.0, 30.0):
        lidar = d.LidarLines(64, step=1, baseline=baseline, sigma=0, dropout=0)
        result = lidar(rgb, depth, rng())
        wrong = (result > 0) & (np.abs(result - depth) > 0.1)
        if baseline == 0:
            assert not wrong.any()
            continue
        assert wrong.any()
        np.testing.assert_allclose(result[wrong], 6.0)
        columns = np.flatnonzero(wrong.any(0))
        assert columns.min() >= 80
        assert columns.max() < 120
        assert columns.max() - columns.min() < 10, 'on one side only'


# Holes


@pytest.mark.parametrize(
    'hole', [d.BlobHoles, d.RectangleHoles, d.DepthRangeHoles, d.SpecularHoles]
)
def test_holes_take_about_the_fraction_asked_and_nothing_else(hole):
    rgb, depth = scene(192, 256)
    taken = []
    for seed in range(20):
        result = hole(0.2)(rgb, depth, rng(seed))
        assert np.isin(result, [0]).sum() >= (depth == 0).sum()
        kept = result > 0
        np.testing.assert_array_equal(result[kept], depth[kept])
        taken.append(1 - kept.sum() / (depth > 0).sum())
    assert 0.12 < np.mean(taken) < 0.27


def test_specular_holes_are_on_highlights_and_dark_things():
    rgb, depth = constant(120, 120, 2.0)
    rgb[20:40, 20:40] = 255
    rgb[80:100, 80:100] = 0
    fraction = 400 / 120**2
    result = d.SpecularHoles(fraction, fraction)(rgb, depth, rng())
    assert (result[20:40, 20:40] == 0).mean() > 0.9
    assert (result[80:100, 80:100] == 0).mean() > 0.9
    assert (result == 0).mean() < 2.6 * fraction


def test_border_holes_are_strips_of_at_most_the_width():
    rgb, depth = constant(100, 140, 2.0)
    for seed in range(20):
        hole = d.BorderHoles(12)(rgb, depth, rng(seed)) == 0
        assert hole.any()
        assert not hole[12:-12, 12:-12].any()
        # Whole rows and columns.
        np.testing.assert_array_equal(hole, hole.all(0)[None] | hole.all(1)[:, None])


def test_edge_holes_are_at_edges():
    rgb, depth = constant(120, 120, 3.0)
    depth[:, 60:] = 1.5
    hole = d.EdgeHoles(0.6)(rgb, depth, rng()) == 0
    assert 0.3 < hole[:, 59:61].mean() < 1
    assert not hole[:, :54].any()
    assert not hole[:, 66:].any()


def test_glass_is_an_object_and_not_a_blob():
    rgb, depth = constant(160, 200, 3.0)
    depth[50:110, 60:120] = 1.5
    for seed in range(10):
        result = d.GlassHoles(1, see_through=0)(rgb, depth, rng(seed))
        lost = result == 0
        inside = lost[50:110, 60:120].mean()
        outside = lost.sum() - lost[50:110, 60:120].sum()
        assert inside > 0.85
        assert outside < 0.5 * 60 * 60, 'some raggedness, not a second object'


def test_sensors_see_through_glass_or_nothing_or_the_glass():
    depth, behind = np.full((80, 100), 2.0, np.float32), np.full((80, 100), 2.0, np.float32)
    depth[20:60, 30:70] = 1.0
    behind[20:60, 50:70] = 0.0  # sky
    seen = [depth_holes.seen_through_glass(depth, behind, rng(seed)) for seed in range(30)]
    outside = depth == 2.0
    through = lost = whole = 0
    for image in seen:
        assert image.dtype == np.float32
        assert set(np.unique(image)) <= {0.0, 1.0, 2.0}
        # The hole is a little larger than the glass.
        assert (image[outside] == 2.0).mean() > 0.9
        assert not (image[20:60, 50:70] == 2.0).any()
        through += (image[20:60, 30:50] == 2.0).mean() > 0.3
        lost += (image[20:60, 30:50] == 0.0).mean() > 0.3
        whole += np.array_equal(image, depth)
    assert through > 5
    assert lost > 5
    assert 0 < whole < 10
    assert depth_holes.seen_through_glass(depth, depth, rng()) is depth


def test_glass_bends_and_shines_and_the_rest_stays():
    rows, columns = np.mgrid[0:96, 0:128].astype(np.float32)
    radius = np.hypot(rows - 48, columns - 64)
    depth = np.full((96, 128), 2.0, np.float32)
    depth[radius < 30] = (1.2 - np.sqrt(np.maximum(0.09 - (radius / 100) ** 2, 0)))[radius < 30]
    linear = rng().random((96, 128, 3), np.float32)
    intrinsics = np.array([[100, 0, 63.5], [0, 100, 47.5], [0, 0, 1.0]])
    behind = np.full_like(depth, 2.0)
    image = camera_effects.through_glass(linear, depth, behind, intrinsics, rng())
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    np.testing.assert_array_equal(image[radius >= 30], linear[radius >= 30])
    assert np.abs(image - linear)[radius < 25].mean() > 0.05
    same = camera_effects.through_glass(linear, depth, depth, intrinsics, rng())
    np.testing.assert_array_equal(same, linear)


def test_glass_shows_what_is_behind():
    rgb, depth = constant(160, 200, 3.0)
    depth[50:110, 60:120] = 1.5
    result = np.stack([d.GlassHoles(1, see_through=0.9)(rgb, depth, rng(i)) for i in range(10)])
    inside = result[:, 52:108, 62:118]
    assert (np.abs(inside - 3.0) < 0.05).mean() > 0.4
    outside = result[:, :40]
    assert (outside == 3).all()


def test_range_limit():
    rgb, depth = scene()
    result = d.RangeLimit(1.2, 3)(rgb, depth, rng())
    np.testing.assert_array_equal(result > 0, (depth >= 1.2) & (depth <= 3))


# Composing, naming, drawing


def test_compose_goes_from_left_to_right():
    rgb, depth = scene()
    composed = d.parse_degradation('noise=0.1,scale=8')(rgb, depth, rng(3))
    generator = rng(3)
    noisy = d.GaussianNoise(0.1)(rgb, depth, generator)
    np.testing.assert_array_equal(composed, d.Downsample(8)(rgb, noisy, generator))


@pytest.mark.parametrize('factor', [0.1, 25.0])
def test_at_sensor_scale_follows_the_scene_s_scale(factor):
    rgb, depth = scene()
    kinect = d.AtSensorScale(d.Kinect(), median=2.0)
    here = kinect(rgb, depth, rng(1))
    there = kinect(rgb, depth * np.float32(factor), rng(1))
    same = np.isclose(there, here * factor, rtol=2e-3)
    assert same.mean() > 0.999


def test_grammar_builds_what_it_says():
    parsed = d.parse_degradation(' scale=8 , noise=0.02,')
    assert parsed == d.Compose((d.Downsample(8), d.GaussianNoise(0.02)))
    assert d.parse_degradation('sparse=250').steps == (d.SparsePoints(250),)
    assert d.parse_degradation('sparse').steps == (d.SparsePoints(500),)
    assert d.parse_degradation('kinect').steps == (d.Kinect(),)
    assert d.parse_degradation('range=0.3:5').steps == (d.RangeLimit(0.3, 5),)
    assert d.parse_degradation('').steps == ()
    assert {text.partition('=')[0] for text in EXAMPLES} >= {
        line.split()[0].rstrip(':') for line in d.degradation_help().splitlines()
    }


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('blur=2', r"degradation 'blur' is unknown; allowed: scale, bicubic"),
        ('scale', r"'scale' needs a value: scale=\(factor 1 to 64"),
        ('scale=0.5', r"'scale=0.5': downsampling factor is 0.5; allowed is 1 to 64"),
        ('scale=nan', r"'scale=nan': is not finite; scale takes factor 1 to 64"),
        ('scale=', r"'scale=': could not convert"),
        ('scale=8:2', r"'scale=8:2': has 2 values, at most 1"),
        ('noise=2', r'noise sigma is 2.0; allowed is 0 to 0.5'),
        ('noise=-0.1', r'noise sigma is -0.1'),
        ('quantise=uint4', r"quantisation is 'uint4'; allowed: uint8, log_uint8"),
        ('sparse=0', r'number of sparse points is 0; allowed is 1 or more'),
        ('sparse=1.5', r"'sparse=1.5': is not a whole number"),
        ('sparse=inf', r"'sparse=inf'"),
        ('lidar_lines=9999', r'number of LiDAR lines is 9999; allowed is 1 to 512'),
        ('range=3', r"'range=3': must be NEAR:FAR"),
        ('range=3:1', r'range is 3.0 to 1.0; allowed is 0 <= near < far'),
        ('holes=1', r'fraction of holes is 1.0; allowed is 0 to 0.95'),
        ('outliers=0.9', r'fraction of outliers is 0.9; allowed is 0 to 0.5'),
        ('jpeg=0', r'JPEG quality is 0; allowed is 1 to 100'),
        ('kinect=0', r'focal length times baseline is 0.0; allowed is 1 to 1000'),
        ('tof=99', r'ToF factor is 99.0; allowed is 1 to 64'),
        ('misregistration=99', r'misregistration in pixels is 99.0; allowed is 0 to 32'),
        ('glass=-1', r'number of glass objects is -1; allowed is 0 to 20'),
        ('border=9999', r'border width is 9999; allowed is 0 to 400'),
    ],
)
def test_grammar_quotes_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        d.parse_degradation(text)


def flat(degradation):
    """All transforms in a drawn degradation."""
    for step in getattr(degradation, 'steps', (degradation,)):
        yield from flat(step.inner) if isinstance(step, d.AtSensorScale) else (step,)


def test_training_mixture_has_enough_of_everything():
    draws = [list(flat(d.training_degradation(rng(seed)))) for seed in range(4000)]

    def share(condition):
        return np.mean([condition(steps) for steps in draws])

    def has(kind, **values):
        return lambda steps: any(
            isinstance(s, kind) and all(getattr(s, k) == v for k, v in values.items())
            for s in steps
        )

    def clean(factor):
        # Points may have been put at their pixels.
        return lambda steps: (
            has(d.Downsample, factor=factor)(steps)
            and all(isinstance(step, d.Downsample | d.PlacePoints) for step in steps)
        )

    for factor in (2, 4, 8, 16):
        assert share(has(d.Downsample, factor=factor)) > 0.06
        assert share(clean(factor)) > 0.01
        noisy = has(d.GaussianNoise, sigma=0.02, relative=True)
        assert share(lambda s, f=factor, n=noisy: has(d.Downsample, factor=f)(s) and n(s)) > 0.01
    for offset in ((0.5, 0.5), (0, 0)):
        assert share(has(d.Downsample, method='nearest', offset=offset)) > 0.03
    assert 0.40 < share(has(d.Downsample)) < 0.52
    assert 0.06 < share(has(d.PlacePoints)) < 0.14
    for steps in draws:
        for step in steps:
            if not isinstance(step, d.PlacePoints):
                continue
            # The last thing that happens, and where the points were taken.
            assert step is steps[-1]
            source = next(s for s in steps if isinstance(s, d.Downsample | d.Kinect))
            if isinstance(source, d.Kinect):
                assert (source.cell, source.phase) == (step.factor, step.phase)
            else:
                assert (source.method, source.factor) == ('nearest', step.factor)
                assert step.phase == tuple(int(step.factor * share) for share in source.offset)
    assert 0.1 < share(has(d.SparsePoints)) < 0.25
    assert share(has(d.SparsePoints, count=500, corners=False)) > 0.03
    assert share(has(d.LidarLines)) > 0.05
    assert share(has(d.Kinect)) > 0.15
    assert share(has(d.Kinect, cell=2)) > 0.06
    assert share(has(d.AlignedDepth)) > 0.08
    # What a driver repeats is equal: nothing that tells the copies apart comes after it.
    for steps in draws:
        kinds = [type(step) for step in steps]
        if d.AlignedDepth in kinds:
            behind = kinds[kinds.index(d.AlignedDepth) :]
            assert not {d.LowFrequencyBias, d.GaussianNoise, d.StereoCamera, d.Kinect} & set(behind)
    assert share(has(d.Kinect, jitter=0)) > 0.03
    assert share(has(d.Kinect, jitter=0, cell=1, window=1)) > 0.015
    # As a simulated camera: at full resolution, right but for holes and noise.
    moves = (d.Misregistration, d.Downsample, d.Kinect, d.StereoCamera, d.TimeOfFlight)
    partial = (*moves, d.AlignedDepth, d.PhoneLidar, d.SparsePoints, d.LidarLines)
    exact = share(lambda steps: not any(isinstance(step, partial) for step in steps))
    assert 0.05 < exact < 0.12
    for kind in (d.StereoCamera, d.TimeOfFlight, d.PhoneLidar, d.BlobHoles, d.Misregistration):
        assert share(has(kind)) > 0.025, kind
    assert share(has(d.GlassHoles)) > 0.08
    assert share(has(d.Outliers)) > 0.05
    factors = [s.factor for steps in draws for s in steps if isinstance(s, d.Downsample)]
    assert 1.4 <= min(factors) < 2
    assert max(factors) == 16
    assert np.mean([not float(f).is_integer() for f in factors]) > 0.2


def test_training_kinds_are_what_they_are_called():
    kinds = [d.training_kind(rng(seed)) for seed in range(2000)]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert shares == pytest.approx(
        {'downsampling': 0.40, 'dense sensor': 0.43, 'sparse': 0.17}, abs=0.04
    )
    expected = {
        'downsampling': (d.Downsample,),
        'sparse': (d.SparsePoints, d.LidarLines),
        'dense sensor': (),
    }
    every = [kind for kinds in expected.values() for kind in kinds]
    for kind, steps in expected.items():
        for seed in range(100):
            drawn = [type(s) for s in flat(d.training_degradation(rng(seed), kind=kind))]
            if steps:
                assert set(steps) & set(drawn)
            elif d.Kinect not in drawn and d.StereoCamera not in drawn:
                assert not set(every) & set(drawn)


@pytest.mark.parametrize('factor', [2, 3, 8])
def test_slices_have_the_first_pixel_of_each_cell(factor):
    rgb, depth = scene(96, 144)
    result = d.parse_degradation(f'sliced={factor}')(rgb, depth, rng())
    np.testing.assert_array_equal(result, depth[::factor, ::factor])


def test_points_are_put_where_they_were_taken():
    rgb, depth = scene(64, 96)
    low = d.Downsample(4, 'nearest', offset=(0.5, 0.5))(rgb, depth, rng())
    placed = d.PlacePoints(4, (2, 2))(rgb, low, rng())
    seen = placed > 0
    assert seen.sum() == (low > 0).sum()
    np.testing.assert_array_equal(placed[seen], depth[seen])
    # Repeated with noise, a cell is its median.
    noisy = depth[::2, ::2].repeat(2, 0).repeat(2, 1)
    noisy[::2, ::2] *= np.float32(1.01)
    np.testing.assert_array_equal(
        d.PlacePoints(2)(rgb, noisy, rng()), d.PlacePoints(2)(rgb, depth[::2, ::2], rng())
    )
    # What does not divide the image stays.
    for shape in ((20, 30), (63, 95)):
        other = np.ones(shape, np.float32)
        np.testing.assert_array_equal(d.PlacePoints(4)(rgb, other, rng()), other)


@pytest.mark.parametrize(
    ('factor', 'phase', 'message'),
    [
        (1, (0, 0), 'factor is 1; allowed is 2'),
        (4, (4, 0), r'phase is \(4, 0\); allowed is 0 to 3'),
    ],
)
def test_points_lie_in_their_cells(factor, phase, message):
    with pytest.raises(ValueError, match=message):
        d.PlacePoints(factor, phase)


def test_every_training_draw_leaves_something_to_work_with():
    rgb, depth = scene(128, 128)
    for seed in range(300):
        generator = rng(seed)
        degrade = d.training_degradation(generator)
        for scale in (1.0, 20.0):
            result = degrade(rgb, depth * np.float32(scale), generator)
            assert np.isfinite(result).all(), degrade
            assert (result > 0).any(), degrade
            valid = result[result > 0]
            assert 0.3 * scale < np.median(valid) < 9 * scale, degrade


@pytest.mark.parametrize('name', d.VALIDATION_DEGRADATIONS)
def test_validation_set_is_fixed_and_different_from_the_truth(name):
    rgb, depth = scene(240, 320)
    degrade = d.VALIDATION_DEGRADATIONS[name]
    result = degrade(rgb, depth, rng(7))
    np.testing.assert_array_equal(result, degrade(rgb, depth, rng(7)))
    assert result.shape != depth.shape or not np.array_equal(result, depth)
    assert (result > 0).any()


@pytest.mark.parametrize('factor', [1.0, 1.7, 3.0])
def test_aligned_depth_is_of_measured_values_at_most_a_rectangle_away(factor):
    rgb, depth = scene(240, 320)
    aligned = d.AlignedDepth(factor, focal_baseline=5)(rgb, depth, rng())
    seen = aligned > 0
    assert seen[depth > 0].mean() > 0.85
    reach = 2 * math.ceil(factor) + 1
    low, high = (
        morphology(depth, np.ones((reach, reach), np.uint8))
        for morphology in (cv2.erode, cv2.dilate)
    )
    assert ((aligned >= low) & (aligned <= high))[seen].all()
    assert np.isin(aligned[seen], depth).all(), 'depths are mixed'
    moved = np.mean(aligned[seen] != depth[seen])
    assert moved < 0.01 if factor == 1 else moved > 0.3


@pytest.mark.parametrize('mirrored', [False, True])
def test_aligned_depth_lacks_what_the_other_camera_does_not_see(mirrored):
    rgb, depth = constant(60, 200, 4.0)
    depth[:, 80:120] = 1.0
    hidden = d.AlignedDepth(1, 20, mirrored)(rgb, depth, rng())[30] == 0
    # 20 (1 / 1 - 1 / 4) px
    columns = np.flatnonzero(hidden)
    assert len(columns) in (14, 15, 16)
    assert columns.min() > 119 if mirrored else columns.max() < 80
    assert abs(columns - 100).min() in (20, 21)


@pytest.mark.parametrize(('options', 'quoted'), [((0.5,), '0.5'), ((2, 0.1), '0.1')])
def test_aligned_depth_says_what_is_allowed(options, quoted):
    with pytest.raises(ValueError, match=f'is {quoted}; allowed is 1 to'):
        d.AlignedDepth(*options)


def test_upsampled_depth_has_the_share_of_rgb_s_size():
    rgb, depth = scene(96, 128)
    low = depth[::4, ::4]
    for share, shape in ((1, (96, 128)), (0.5, (48, 64)), (0.1, low.shape)):
        large = d.Upsample(share)(rgb, low, rng())
        assert large.shape == shape
        assert np.isin(large, low).all()
    with pytest.raises(ValueError, match=r'is 0\.05; allowed is 0\.1 to 1'):
        d.Upsample(0.05)
