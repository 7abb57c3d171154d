# SPDX-License-Identifier: Apache-2.0
import argparse

import cv2
import numpy as np
import pytest

from depth_sr_ros import infer
from depth_sr_ros.model.interpolation import interpolate_depth


def arguments(*words):
    parser = argparse.ArgumentParser()
    infer.add_arguments(parser)
    common = ['--weights', 'interpolation', '--device', 'cpu']
    return parser.parse_args([*(str(word) for word in words), *common])


def write_rgb(path, size=(72, 96)):
    path.parent.mkdir(exist_ok=True)
    rgb = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    cv2.imwrite(str(path), rgb)


def write_depth(path, depth):
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.round(depth).astype(np.uint16))


def plane(size=(36, 48)):
    return np.fromfunction(lambda v, u: 1500 + 10 * u + 5 * v, size)


@pytest.fixture
def folders(tmp_path):
    for name in ('a', 'b'):
        write_rgb(tmp_path / 'rgb' / f'{name}.png')
        write_depth(tmp_path / 'depth' / f'{name}.png', plane())
    return tmp_path


def run_folders(root, *more):
    return infer.run(
        arguments('--rgb', root / 'rgb', '--depth', root / 'depth', '--out', root / 'out', *more)
    )


def test_one_pair_writes_png_npy_and_picture(folders, capsys):
    out = folders / 'out'
    args = arguments(
        '--rgb', folders / 'rgb' / 'a.png', '--depth', folders / 'depth' / 'b.png', '--out', out
    )
    assert infer.run(args) == 0
    depth = np.load(out / 'a_depth.npy')
    assert depth.dtype == np.float32
    expected = interpolate_depth(plane().astype(np.float32) / 1000, (72, 96))
    assert depth == pytest.approx(expected, abs=1e-5)
    stored = cv2.imread(str(out / 'a_depth.png'), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    assert stored / 1000 == pytest.approx(depth, abs=0.00051)
    assert cv2.imread(str(out / 'a.png')).shape[1] > 2 * 640
    assert '48x36 -> 96x72' in capsys.readouterr().out


def test_confidence_is_saved_as_depth_is(folders):
    holed = plane()
    holed[10:30, 10:40] = 0
    write_depth(folders / 'depth' / 'a.png', holed)
    assert run_folders(folders) == 0
    out = folders / 'out'
    confidence = np.load(out / 'a_confidence.npy')
    assert (confidence.dtype, confidence.shape) == (np.float32, (72, 96))
    assert 0 <= confidence.min() < 0.5 < confidence.max() == 1
    stored = cv2.imread(str(out / 'a_confidence.png'), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint8
    assert stored / 255 == pytest.approx(confidence, abs=0.5 / 255 + 1e-6)


def test_depth_scale_and_npy(folders):
    np.save(folders / 'metres.npy', plane() / 1000)
    from_npy = infer.read_depth(folders / 'metres.npy')
    from_png = infer.read_depth(folders / 'depth' / 'a.png')
    assert from_npy == pytest.approx(from_png, abs=1e-4)
    assert infer.read_depth(folders / 'depth' / 'a.png', 5000) == pytest.approx(from_png / 5)


def test_depth_scale_is_of_float_input_too_where_it_is_given(folders):
    metres = infer.read_depth(folders / 'depth' / 'a.png')
    assert metres.min() == pytest.approx(1.5)
    millimetres = plane().astype(np.float32)
    np.save(folders / 'depth' / 'a.npy', millimetres)
    cv2.imwrite(str(folders / 'float.tiff'), millimetres)
    for path in (folders / 'depth' / 'a.npy', folders / 'float.tiff'):
        assert infer.read_depth(path) == pytest.approx(millimetres)
        assert infer.read_depth(path, 1000) == pytest.approx(metres)
    (folders / 'depth' / 'a.png').unlink()
    assert run_folders(folders, '--depth-scale', 1000) == 0
    outputs = [np.load(folders / 'out' / f'{name}_depth.npy') for name in ('a', 'b')]
    assert outputs[0] == pytest.approx(outputs[1])


def test_a_bad_pair_does_not_stop_the_others(folders, capsys):
    (folders / 'rgb' / 'a.png').write_bytes(b'no image')
    write_rgb(folders / 'rgb' / 'c.png')
    write_depth(folders / 'depth' / 'c.png', np.zeros((36, 48)))
    assert run_folders(folders) == 1
    captured = capsys.readouterr()
    assert 'a.png: not a readable image (8 bytes)' in captured.err
    assert 'c: none of the 1728 depth pixels' in captured.err
    assert '1 of 3 pairs written' in captured.out
    assert (folders / 'out' / 'b_depth.png').exists()
    assert not (folders / 'out' / 'a_depth.png').exists()


def test_files_without_a_partner_are_named(folders, capsys):
    (folders / 'depth' / 'b.png').unlink()
    write_depth(folders / 'depth' / 'd.png', plane())
    assert run_folders(folders) == 1
    error = capsys.readouterr().err
    assert 'b.png: no depth of that name' in error
    assert 'd.png: no RGB of that name' in error
    assert (folders / 'out' / 'a_depth.npy').exists()


def test_all_well_is_exit_code_zero(folders):
    assert run_folders(folders) == 0


@pytest.mark.parametrize('folder', ['rgb', 'depth'])
def test_outputs_never_replace_inputs(folders, folder):
    write_rgb(folders / 'rgb' / 'lonely_depth.png')
    write_depth(folders / 'depth' / 'b_depth.png', plane())
    before = {path: path.read_bytes() for path in folders.rglob('*.png')}
    out = folders / folder
    with pytest.raises(ValueError, match=rf'{out}/a.png is an input .*--out'):
        infer.run(arguments('--rgb', folders / 'rgb', '--depth', folders / 'depth', '--out', out))
    assert {path: path.read_bytes() for path in folders.rglob('*') if path.is_file()} == before


def test_an_output_may_not_be_an_input_by_another_name(folders):
    rgb, depth = folders / 'rgb' / 'a.png', folders / 'rgb' / 'a_depth.png'
    (folders / 'depth' / 'a.png').rename(depth)
    rgb = rgb.rename(rgb.with_suffix('.jpg'))
    before = depth.read_bytes()
    (folders / 'link').symlink_to(folders / 'rgb')
    for out in (folders / 'rgb', folders / 'link'):
        with pytest.raises(ValueError, match=rf'{out}/a_depth.png is an input'):
            infer.run(arguments('--rgb', rgb, '--depth', depth, '--out', out))
    assert depth.read_bytes() == before


def test_an_unpaired_file_of_an_input_folder_is_not_replaced(folders):
    for name in ('a', 'b'):
        path = folders / 'depth' / f'{name}.png'
        np.save(path.with_suffix('.npy'), plane().astype(np.float32))
        path.unlink()
    write_depth(folders / 'depth' / 'b_depth.png', plane())
    before = (folders / 'depth' / 'b_depth.png').read_bytes()
    common = ('--rgb', folders / 'rgb', '--depth', folders / 'depth')
    with pytest.raises(ValueError, match=r'b_depth.png is an input'):
        infer.run(arguments(*common, '--out', folders / 'depth'))
    assert (folders / 'depth' / 'b_depth.png').read_bytes() == before
    # Former outputs may be replaced, beside the inputs too.
    for _ in range(2):
        assert infer.run(arguments(*common, '--out', folders)) == 1  # b_depth.png has no RGB


def test_degraded_first(folders, capsys):
    write_depth(folders / 'depth' / 'a.png', plane((72, 96)))
    write_depth(folders / 'depth' / 'b.png', plane((72, 96)))
    assert run_folders(folders, '--scale', 8, '--noise', 0.02) == 0
    assert '12x9 -> 96x72' in capsys.readouterr().out
    first = np.load(folders / 'out' / 'a_depth.npy')
    assert run_folders(folders, '--scale', 8, '--noise', 0.02) == 0
    assert np.array_equal(first, np.load(folders / 'out' / 'a_depth.npy'))


def test_saturation_is_reported_and_never_wraps(tmp_path):
    depth = np.array([[0.0, np.nan, np.inf, 1.2344, 65.535, 65.536, 100.0, 0.0001]], np.float32)
    assert infer.write_depth_png(tmp_path / 'x.png', depth) == 2
    stored = cv2.imread(str(tmp_path / 'x.png'), cv2.IMREAD_UNCHANGED)
    assert stored[0].tolist() == [0, 0, 0, 1234, 65535, 65535, 65535, 1]


def test_saturation_in_the_report(folders, capsys):
    write_depth(folders / 'depth' / 'a.png', plane())
    assert run_folders(folders, '--depth-scale', 10) == 0
    assert '6912 pixels beyond 65.535 m' in capsys.readouterr().out


def test_refuses(folders):
    with pytest.raises(ValueError, match='both be files or both folders'):
        infer.run(
            arguments('--rgb', folders / 'rgb', '--depth', folders / 'depth' / 'a.png',
                      '--out', folders)
        )  # fmt: skip
    with pytest.raises(FileNotFoundError, match='nowhere'):
        infer.find_pairs(folders / 'nowhere', folders / 'depth')
    with pytest.raises(ValueError, match='--depth-scale is 0'):
        run_folders(folders, '--depth-scale', 0)
    with pytest.raises(ValueError, match='no name in common'):
        infer.find_pairs(folders / 'rgb', folders)
    cv2.imwrite(str(folders / 'colour.png'), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r'uint8 \(8, 8, 3\)'):
        infer.read_depth(folders / 'colour.png', 1000)
    np.save(folders / 'whole.npy', np.zeros((8, 8), int))
    with pytest.raises(ValueError, match='int64'):
        infer.read_depth(folders / 'whole.npy', 1000)
