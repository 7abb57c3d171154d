# SPDX-License-Identifier: Apache-2.0
import json

import cv2
import numpy as np
import pytest

from depth_sr_ros.data.frame import DatasetError
from depth_sr_ros.data.mvs_synth import MVSSynth, read_exr_depth

OpenEXR = pytest.importorskip('OpenEXR')

HEIGHT, WIDTH = 54, 96


def write_exr(path, **channels):
    header = {'compression': OpenEXR.ZIP_COMPRESSION, 'type': OpenEXR.scanlineimage}
    with OpenEXR.File(header, channels) as file:
        file.write(str(path))


def depth_of(sequence, frame):
    """Depth with one of everything: near, beyond the clip, sky, infinite, nothing."""
    depth = np.full((HEIGHT, WIDTH), 2 + sequence + frame / 10, np.float32)
    depth[0], depth[1], depth[2], depth[3] = 450, 20000, np.inf, 0
    depth[4] = np.nan
    depth[5] = -1
    return depth


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for sequence in range(3):
        folder = tmp_path / 'GTAV_540' / f'{sequence:04d}'
        for name in ('images', 'depths', 'poses'):
            (folder / name).mkdir(parents=True)
        for frame in range(4):
            rgb = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            rgb[..., 0] = 10 * sequence + frame
            cv2.imwrite(
                str(folder / 'images' / f'{frame:04d}.png'), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            )
            # Half precision, as published.
            half = depth_of(sequence, frame).astype(np.float16)
            write_exr(folder / 'depths' / f'{frame:04d}.exr', Y=half)
            pose = {
                'f_x': 579.4,
                'f_y': 579.5,
                'c_x': 48,
                'c_y': 27,
                'extrinsic': np.eye(4).tolist(),
            }
            (folder / 'poses' / f'{frame:04d}.json').write_text(json.dumps(pose))
    (tmp_path / 'GTAV_540' / 'num_images.json').write_text('[4, 4, 4]')
    return tmp_path


def test_layout_split_and_values(root):
    train = MVSSynth(root, validation_samples=5)
    validation = MVSSynth(root / 'GTAV_540', 'validation', validation_samples=5)
    assert train.names == [f'0000/{i:04d}' for i in range(4)] + [f'0001/{i:04d}' for i in range(3)]
    assert validation.names == ['0001/0003'] + [f'0002/{i:04d}' for i in range(4)]

    frame = train[5]
    assert frame.name == '0001/0001'
    assert frame.rgb.shape == (HEIGHT, WIDTH, 3)
    assert (frame.rgb[..., 0] == 11).all()
    assert frame.depth.dtype == np.float32
    np.testing.assert_allclose(frame.depth[6:], 3.1, rtol=1e-3)
    assert (frame.depth[0] == 300).all()
    assert (frame.depth[1:6] == 0).all()
    np.testing.assert_array_equal(frame.intrinsics, [[579.4, 0, 48], [0, 579.5, 27], [0, 0, 1]])


def test_the_last_hundred_are_for_validation(root):
    with pytest.raises(DatasetError, match=r'12 frames, of which 100'):
        MVSSynth(root)
    for sequence in range(3, 30):
        folder = root / 'GTAV_540' / f'{sequence:04d}'
        for name, suffix in (('images', 'png'), ('depths', 'exr')):
            (folder / name).mkdir(parents=True)
            for frame in range(4):
                (folder / name / f'{frame:04d}.{suffix}').touch()
    assert len(MVSSynth(root)) == 20
    assert MVSSynth(root).names[-1] == '0004/0003'
    validation = MVSSynth(root, 'validation')
    assert len(validation) == 100
    assert validation.names[0] == '0005/0000'


def test_normalised_depth_is_in_0_1(root):
    metres = MVSSynth(root, validation_samples=1)[2].depth
    unit = MVSSynth(root, validation_samples=1, normalise=True)[2].depth
    np.testing.assert_allclose(unit * 300, metres, rtol=1e-6)
    assert unit.max() == 1


def test_intrinsics_are_optional_but_not_wrong(root):
    pose = root / 'GTAV_540' / '0000' / 'poses' / '0000.json'
    pose.write_text('{"f_x": 1}')
    dataset = MVSSynth(root, validation_samples=1)
    with pytest.raises(DatasetError, match=r'0000\.json.*f_y'):
        dataset[0]
    pose.unlink()
    assert dataset[0].intrinsics is None


def test_float_depth_in_a_z_channel(tmp_path):
    depth = np.random.default_rng(0).uniform(1, 9, (7, 11)).astype(np.float32)
    write_exr(tmp_path / 'z.exr', Z=depth, A=np.zeros_like(depth))
    np.testing.assert_array_equal(read_exr_depth(tmp_path / 'z.exr'), depth)


def test_exr_without_depth_names_the_file_and_its_channels(tmp_path):
    write_exr(tmp_path / 'normals.exr', RGB=np.zeros((4, 4, 3), np.float32))
    with pytest.raises(DatasetError, match=r'normals\.exr: no depth channel; it has B, G, R'):
        read_exr_depth(tmp_path / 'normals.exr')


@pytest.mark.parametrize('keep', [0, 4, 40, 300, -30, -1])
def test_truncated_exr_names_the_file(tmp_path, keep):
    noise = np.random.default_rng(0).uniform(1, 9, (64, 64)).astype(np.float32)
    write_exr(tmp_path / 'whole.exr', Y=noise)
    data = (tmp_path / 'whole.exr').read_bytes()
    (tmp_path / 'cut.exr').write_bytes(data[:keep])
    with pytest.raises(DatasetError, match=r'cut\.exr: (truncated|damaged)'):
        read_exr_depth(tmp_path / 'cut.exr')


def test_other_damage(root):
    folder = root / 'GTAV_540' / '0001'
    depth = folder / 'depths' / '0001.exr'
    write_exr(depth, Y=np.ones((5, 5), np.float32))
    with pytest.raises(DatasetError, match=r'0001\.exr: depth is 5x5, its image 96x54'):
        MVSSynth(root, validation_samples=1)[5]
    depth.write_bytes(b'not an EXR file at all, and long enough to have a header')
    with pytest.raises(DatasetError, match=r'0001\.exr: damaged or not an EXR'):
        MVSSynth(root, validation_samples=1)[5]

    dataset = MVSSynth(root, validation_samples=1, strict=False)
    with pytest.warns(UserWarning, match=r'0001\.exr'):
        assert dataset[5].name == '0001/0002'
    assert list(dataset.bad) == ['0001/0001']

    depth.unlink()
    with pytest.raises(DatasetError, match=r'images/0001\.png: no depths/0001\.exr'):
        MVSSynth(root, validation_samples=1)
    (folder / 'images' / '0001.png').unlink()
    (folder / 'images' / '0002.png').unlink()
    with pytest.raises(DatasetError, match=r'depths/0002\.exr: no images/0002\.png'):
        MVSSynth(root, validation_samples=1)


def test_wrong_arguments(root, tmp_path):
    with pytest.raises(ValueError, match=r"split is 'test'; allowed: train, validation"):
        MVSSynth(root, 'test')
    with pytest.raises(DatasetError, match='nowhere: no such folder'):
        MVSSynth(tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DatasetError, match='empty: no sequences'):
        MVSSynth(tmp_path / 'empty')
    (tmp_path / 'GTAV_720' / '0000' / 'images').mkdir(parents=True)
    with pytest.raises(DatasetError, match='several versions, GTAV_540, GTAV_720'):
        MVSSynth(root)
