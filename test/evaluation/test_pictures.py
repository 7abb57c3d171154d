# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from depth_sr_ros.evaluation import pictures


def test_one_scale_gives_one_depth_one_colour():
    near, far = np.full((8, 8), 1.0), np.full((8, 8), 3.0)
    scale = pictures.depth_scale(near, far)
    assert scale.low < 1 < 3 < scale.high
    assert np.array_equal(scale.colour(near)[0, 0], scale.colour(np.array([[1.0]]))[0, 0])
    assert not np.array_equal(scale.colour(near)[0, 0], scale.colour(far)[0, 0])


def test_missing_depth_is_grey_but_zero_error_is_a_value():
    values = np.array([[0.0, np.nan, np.inf, 1.0]])
    depth = pictures.Scale(0, 2).colour(values)
    assert [tuple(c) == pictures.MISSING_COLOUR for c in depth[0]] == [True, True, True, False]
    error = pictures.Scale(0, 2, kind='error').colour(values)
    assert [tuple(c) == pictures.MISSING_COLOUR for c in error[0]] == [False, True, True, False]


def test_scale_of_nothing_measured():
    assert pictures.depth_scale(np.zeros((4, 4))) == pictures.Scale(0.0, 1.0)


def test_sheet_keeps_blocks_of_low_resolution():
    rgb = np.zeros((48, 64, 3), np.uint8)
    low = np.array([[1.0, 2.0], [3.0, 4.0]])
    scale = pictures.Scale(0, 5)
    image = pictures.sheet(
        [[pictures.Panel('rgb', rgb), pictures.Panel('low', low, scale)]], panel_width=64
    )
    top, left = pictures.CAPTION_HEIGHT, 64 + 6
    block = image[top : top + 48, left : left + 64]
    expected = np.repeat(np.repeat(scale.colour(low), 24, axis=0), 32, axis=1)
    assert np.array_equal(block, expected)


def test_sheet_pads_short_rows_and_refuses_float_images():
    rgb = np.zeros((48, 64, 3), np.uint8)
    panel = pictures.Panel('a', rgb)
    wide = pictures.sheet([[panel, panel], [panel]], panel_width=64)
    assert (wide[-40:, 80:] == 255).all()
    with pytest.raises(ValueError, match='float64'):
        pictures.sheet([[pictures.Panel('map', np.zeros((4, 4, 3)))]])
    with pytest.raises(ValueError, match='at least one'):
        pictures.sheet([])


def test_written_as_rgb(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0] = 255
    pictures.write_image(tmp_path / 'sub' / 'red.png', image)
    assert cv2.imread(str(tmp_path / 'sub' / 'red.png'))[0, 0].tolist() == [0, 0, 255]
    with pytest.raises((OSError, cv2.error)):
        pictures.write_image(tmp_path / 'red.unknown', image)


def test_line_chart_puts_values_where_they_belong():
    x = np.linspace(0, 1, 50)
    image = pictures.line_chart({'flat': (x, np.ones(50))}, x_label='x', y_label='y')
    colour = np.array(pictures.CURVE_COLOURS[0])
    rows, columns = np.nonzero((np.abs(image.astype(int) - colour) < 8).all(axis=-1))
    curve = columns < 300  # The rest is the legend.
    assert np.ptp(rows[curve]) <= 2
    assert rows[curve].min() == pytest.approx(30, abs=2)
    half = pictures.line_chart({'half': (x, np.full(50, 0.5))}, x_label='x', y_label='y')
    rows, columns = np.nonzero((np.abs(half.astype(int) - colour) < 8).all(axis=-1))
    assert rows[columns < 300].min() == pytest.approx((30 + 320) / 2, abs=2)
