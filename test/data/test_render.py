# SPDX-License-Identifier: Apache-2.0
"""`depth_sr render`: a folder that RGBDFolder reads, which an interrupted run takes up again."""

import argparse
import json

import numpy as np
import pytest

from depth_sr_ros.data import render
from depth_sr_ros.data.frame import glass_mask
from depth_sr_ros.data.rendered_scenes import RenderedScenes
from depth_sr_ros.data.rgbd_folder import RGBDFolder


def run(*arguments):
    parser = argparse.ArgumentParser()
    render.add_arguments(parser)
    return render.run(parser.parse_args([str(a) for a in arguments]))


@pytest.fixture
def options(tmp_path):
    empty = tmp_path / 'textures'
    empty.mkdir()
    return ['--out', tmp_path / 'out', '--size', '96x72', '--views', 2, '--textures', empty]


@pytest.mark.usefixtures('opengl')
def test_frames_are_written_as_rendered_and_only_once(tmp_path, options, capsys):
    assert run(*options, '--count', 3, '--seed', 4) == 0
    assert '3 frames in' in capsys.readouterr().out
    folder = RGBDFolder(tmp_path / 'out')
    assert len(folder) == 3
    source = RenderedScenes(4, (96, 72), views=2, textures=[])
    for index, frame in enumerate(folder):
        truth = source[index]
        np.testing.assert_allclose(frame.depth, truth.depth, rtol=6e-4)
        assert np.abs(frame.rgb.astype(int) - truth.rgb).mean() < 6
    source.close()

    depth = tmp_path / 'out' / 'depth'
    written = {path.name: path.stat().st_mtime_ns for path in depth.iterdir()}
    lost = (depth / '0000001.npy').read_bytes()
    (depth / '0000001.npy').unlink()
    assert run(*options, '--count', 5, '--seed', 4) == 0
    assert (depth / '0000001.npy').read_bytes() == lost
    assert len(list(depth.iterdir())) == 5
    assert (depth / '0000002.npy').stat().st_mtime_ns == written['0000002.npy']


@pytest.mark.usefixtures('opengl')
def test_what_lies_behind_glass_is_written_where_there_is_some(tmp_path, options):
    assert run(*options, '--count', 8, '--seed', 3, '--glass-share', 1) == 0
    folder = RGBDFolder(tmp_path / 'out')
    source = RenderedScenes(3, (96, 72), views=2, textures=[], glass_share=1.0)
    seen = 0
    for index, frame in enumerate(folder):
        behind = source[index].depth_behind_glass
        assert (frame.depth_behind_glass is None) == (behind is None)
        if behind is not None:
            seen += 1
            np.testing.assert_allclose(frame.depth_behind_glass, behind, rtol=6e-4)
            glass = glass_mask(frame.depth, frame.depth_behind_glass)
            assert 0 < glass.mean() < 0.9
            np.testing.assert_array_equal(
                frame.depth[~glass], frame.depth_behind_glass[~glass], 'glass is not what differs'
            )
    source.close()
    assert seen > 0
    opaque = RenderedScenes(3, (96, 72), views=2, textures=[], glass_share=0.0)
    assert all(opaque[index].depth_behind_glass is None for index in range(8))
    opaque.close()


def test_a_wrong_share_of_glass_leaves_nothing_behind(tmp_path, options):
    with pytest.raises(ValueError, match=r'--glass-share is 2\.0; allowed'):
        run(*options, '--count', 1, '--glass-share', 2)
    assert not (tmp_path / 'out').exists()


@pytest.mark.usefixtures('opengl')
def test_workers_render_the_same(tmp_path, options):
    run(*options, '--count', 4)
    one = [(tmp_path / 'out' / 'depth' / f'{i:07d}.npy').read_bytes() for i in range(4)]
    options[1] = tmp_path / 'again'
    run(*options, '--count', 4, '--workers', 2)
    assert one == [(tmp_path / 'again/depth' / f'{i:07d}.npy').read_bytes() for i in range(4)]


@pytest.mark.usefixtures('opengl')
def test_another_seed_does_not_mix_into_a_folder(tmp_path, options):
    run(*options, '--count', 1)
    with pytest.raises(ValueError, match=r"dataset.json was rendered with .*'seed': 0.*choose"):
        run(*options, '--count', 2, '--seed', 1)
    metadata = json.loads((tmp_path / 'out' / 'dataset.json').read_text())
    assert metadata['photographic_textures'] == 0


@pytest.mark.parametrize('text', ['640', '640x', 'axb', '640x480x3', '-1x5'])
def test_size_is_checked(text):
    with pytest.raises(ValueError, match=f"size is '{text}'; allowed is WIDTHxHEIGHT"):
        render.parse_size(text)


def test_counts_are_checked(tmp_path):
    with pytest.raises(ValueError, match='--workers is 0; allowed is 1'):
        run('--out', tmp_path / 'out', '--workers', 0)
    assert not (tmp_path / 'out').exists()
