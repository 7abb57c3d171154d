# SPDX-License-Identifier: Apache-2.0
import json
import warnings

import cv2
import numpy as np
import pytest

from depth_sr_ros.data.frame import DatasetError, RGBDFrame
from depth_sr_ros.data.rgbd_folder import RGBDFolder

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
DEPTH = np.random.default_rng(1).uniform(0.5, 6, (12, 16)).astype(np.float32)
INTRINSICS = {'fx': 525.0, 'fy': 524, 'cx': 319.5, 'cy': 239.5}


def write_metadata(path, **values):
    metadata = {'depth_scale': 5000, 'intrinsics': INTRINSICS, 'sensor': 'test', **values}
    (path / 'dataset.json').write_text(json.dumps(metadata))


@pytest.fixture
def folder(tmp_path):
    """a: PNG and PNG; b: JPEG and float32; c: PNG and float16."""
    for name in ('rgb', 'depth'):
        (tmp_path / name).mkdir()
    write_metadata(tmp_path)
    bgr = cv2.cvtColor(RGB, cv2.COLOR_RGB2BGR)
    for name in ('a.png', 'b.jpg', 'c.png'):
        cv2.imwrite(str(tmp_path / 'rgb' / name), bgr)
    cv2.imwrite(str(tmp_path / 'depth' / 'a.png'), np.rint(DEPTH * 5000).astype(np.uint16))
    np.save(tmp_path / 'depth' / 'b.npy', DEPTH)
    np.save(tmp_path / 'depth' / 'c.npy', DEPTH.astype(np.float16))
    (tmp_path / 'rgb' / 'notes.txt').write_text('not an image')
    return tmp_path


def test_reads_every_format(folder):
    dataset = RGBDFolder(folder)
    assert len(dataset) == 3
    assert [frame.name for frame in dataset] == ['a', 'b', 'c']
    np.testing.assert_array_equal(dataset[0].rgb, RGB)
    assert np.abs(dataset[1].rgb.astype(int).mean((0, 1)) - RGB.mean((0, 1))).max() < 5
    for frame, tolerance in zip(dataset, (1.01e-4, 0, 3e-3), strict=True):
        assert frame.depth.dtype == np.float32
        np.testing.assert_allclose(frame.depth, DEPTH, atol=tolerance)
        np.testing.assert_array_equal(
            frame.intrinsics, [[525, 0, 319.5], [0, 524, 239.5], [0, 0, 1]]
        )
    assert dataset[-1].name == 'c'
    with pytest.raises(IndexError):
        dataset[3]


def test_what_is_no_measurement_becomes_zero(folder):
    bad = DEPTH.copy()
    bad[0, :4] = np.nan, np.inf, -np.inf, -1
    np.save(folder / 'depth' / 'b.npy', bad)
    depth = RGBDFolder(folder)[1].depth
    assert (depth[0, :4] == 0).all()
    np.testing.assert_array_equal(depth[1:], DEPTH[1:])


def test_what_lies_behind_glass_is_read_where_it_is_known(folder):
    assert RGBDFolder(folder)[1].depth_behind_glass is None
    (folder / 'depth_behind_glass').mkdir()
    np.save(folder / 'depth_behind_glass' / 'b.npy', (DEPTH + 1).astype(np.float16))
    np.testing.assert_allclose(RGBDFolder(folder)[1].depth_behind_glass, DEPTH + 1, rtol=1e-3)
    np.save(folder / 'depth_behind_glass' / 'b.npy', DEPTH[:-1])
    with pytest.raises(DatasetError, match=r'glass.b\.npy: is \(11, 16\), but'):
        RGBDFolder(folder)[1]


def test_mask_with_and_without_suffix(folder):
    (folder / 'mask').mkdir()
    mask = np.zeros((24, 32), np.uint8)
    mask[5:9, 6:10] = 255
    cv2.imwrite(str(folder / 'mask' / '07.png'), mask)
    dataset = RGBDFolder(folder)
    np.testing.assert_array_equal(dataset.mask('07'), mask > 0)
    np.testing.assert_array_equal(dataset.mask('07_transparent'), mask > 0)
    assert dataset.mask('a') is None


def test_exif_orientation_does_not_turn_rgb_away_from_depth(folder):
    data = (folder / 'rgb' / 'b.jpg').read_bytes()
    # An EXIF segment whose only entry is Orientation (0x0112) = 6, a quarter turn.
    tiff = (
        b'MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00'
        + b'\0' * 4
    )
    segment = b'Exif\0\0' + tiff
    app1 = b'\xff\xe1' + (len(segment) + 2).to_bytes(2, 'big') + segment
    (folder / 'rgb' / 'b.jpg').write_bytes(data[:2] + app1 + data[2:])
    assert cv2.imread(str(folder / 'rgb' / 'b.jpg')).shape == (32, 24, 3)
    assert RGBDFolder(folder)[1].rgb.shape == (24, 32, 3)


def test_intrinsics_may_be_null_or_absent(folder):
    write_metadata(folder, intrinsics=None)
    assert RGBDFolder(folder)[0].intrinsics is None
    (folder / 'dataset.json').write_text('{"depth_scale": 5000}')
    assert RGBDFolder(folder)[0].intrinsics is None


def damage_depth(folder, data):
    (folder / 'depth' / 'a.png').write_bytes(data)


def damage_npy(folder, array):
    np.save(folder / 'depth' / 'b.npy', array)


def cut(file, keep):
    file.write_bytes(file.read_bytes()[:keep])


DAMAGES = {
    r'a\.png: truncated after \d+ bytes': lambda f: cut(f / 'depth' / 'a.png', -20),
    r'a\.png: neither a PNG nor a JPEG': lambda f: damage_depth(f, b''),
    r'a\.png: damaged': lambda f: damage_depth(f, b'\x89PNG\r\n\x1a\n junk IEND'),
    r'a\.png: depth must be a 16-bit PNG with one channel, not uint8': lambda f: cv2.imwrite(
        str(f / 'depth' / 'a.png'), RGB
    ),
    r'b\.jpg: truncated': lambda f: cut(f / 'rgb' / 'b.jpg', 400),
    r'b\.npy: not a readable \.npy': lambda f: cut(f / 'depth' / 'b.npy', 200),
    r'b\.npy: depth must be float16 or float32 .* not int64': lambda f: damage_npy(
        f, np.ones((3, 3), np.int64)
    ),
    r'b\.npy: depth must be .* \(3, 3, 1\)': lambda f: damage_npy(
        f, np.ones((3, 3, 1), np.float32)
    ),
}


@pytest.mark.parametrize('message', DAMAGES)
def test_unreadable_file_is_named(folder, message):
    DAMAGES[message](folder)
    with pytest.raises(DatasetError, match=message):
        list(RGBDFolder(folder))


def test_a_pickle_in_a_npy_file_is_not_executed(folder):
    np.save(folder / 'depth' / 'b.npy', np.array([{'a': 1}], object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r'b\.npy: not a readable'):
        RGBDFolder(folder)[1]


def test_missing_partner_is_named(folder):
    (folder / 'depth' / 'b.npy').unlink()
    with pytest.raises(DatasetError, match=r'rgb/b\.jpg: no depth/b\.png or depth/b\.npy'):
        RGBDFolder(folder)
    (folder / 'rgb' / 'b.jpg').unlink()
    (folder / 'rgb' / 'c.png').unlink()
    with pytest.raises(DatasetError, match=r'depth/c\.npy: no rgb/c\.png'):
        RGBDFolder(folder)


def test_not_strict_leaves_out_and_warns_once(folder):
    (folder / 'rgb' / 'a.png').unlink()
    cut(folder / 'depth' / 'b.npy', 100)
    with pytest.warns(UserWarning, match=r'a\.png: no rgb'):
        dataset = RGBDFolder(folder, strict=False)
    with pytest.warns(UserWarning, match=r'b\.npy'):
        assert [frame.name for frame in dataset] == ['c']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert [frame.name for frame in dataset] == ['c']
        assert dataset[0].name == 'c'
    assert set(dataset.bad) == {'a', 'b'}
    (folder / 'depth' / 'c.npy').unlink()
    with (
        pytest.warns(UserWarning, match=r'c\.npy'),
        pytest.raises(DatasetError, match='none of the 2 frames'),
    ):
        dataset[1]


def test_missing_dataset_json_is_named(folder):
    (folder / 'dataset.json').unlink()
    for strict in (True, False):
        with pytest.raises(DatasetError, match=r'dataset\.json: missing; it holds depth_scale'):
            RGBDFolder(folder, strict=strict)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"depth_scale": 1000', 'not readable as JSON'),
        ('[1]', 'must hold an object, not list'),
        ('{"depth_scale": 0}', 'depth_scale is 0; allowed is a number above 0'),
        ('{"depth_scale": "1000"}', "depth_scale is '1000'"),
        ('{"depth_scale": NaN}', 'depth_scale is nan'),
        ('{"depth_scale": true}', 'depth_scale is True'),
        ('{"intrinsics": {"fx": 1}}', r"intrinsics is {'fx': 1}; allowed is null or numbers"),
        ('{"intrinsics": {"fx": 0, "fy": 1, "cx": 1, "cy": 1}}', r'fx, fy are 0\.0, 1\.0'),
    ],
)
def test_wrong_dataset_json_is_quoted(folder, text, message):
    (folder / 'dataset.json').write_text(text)
    with pytest.raises(DatasetError, match=r'dataset\.json.*' + message):
        RGBDFolder(folder)


def test_scale_is_needed_for_png_only(folder):
    (folder / 'dataset.json').write_text('{}')
    dataset = RGBDFolder(folder)
    np.testing.assert_array_equal(dataset[1].depth, DEPTH)
    with pytest.raises(DatasetError, match=r'a\.png: dataset\.json names no depth_scale'):
        dataset[0]


def test_folders(folder, tmp_path):
    with pytest.raises(DatasetError, match='nowhere: no such folder'):
        RGBDFolder(tmp_path / 'nowhere')
    cv2.imwrite(str(folder / 'rgb' / 'a.jpg'), RGB)
    with pytest.raises(DatasetError, match=r'a\.png: the same frame as a\.jpg'):
        RGBDFolder(folder)
    for file in [*(folder / 'rgb').iterdir(), *(folder / 'depth').iterdir()]:
        file.unlink()
    with pytest.raises(DatasetError, match='no pair of rgb/STEM and depth/STEM'):
        RGBDFolder(folder)
    (folder / 'depth').rmdir()
    with pytest.raises(DatasetError, match='depth: no such folder'):
        RGBDFolder(folder)


def test_frame_checks_its_arrays():
    with pytest.raises(ValueError, match='x: rgb must be uint8'):
        RGBDFrame(RGB.astype(np.float32), DEPTH, None, 'x')
    with pytest.raises(ValueError, match=r'x: depth must be float32 \(h, w\), not uint16'):
        RGBDFrame(RGB, DEPTH.astype(np.uint16), None, 'x')
    with pytest.raises(ValueError, match='x: intrinsics must be'):
        RGBDFrame(RGB, DEPTH, np.eye(4), 'x')
