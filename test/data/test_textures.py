# SPDX-License-Identifier: Apache-2.0
"""Textures: found photographs, how they are shared out, and what stands in for them."""

import cv2
import numpy as np
import pytest

from depth_sr_ros.data import textures
from depth_sr_ros.data.textures import TextureLibrary, texture_folders


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in [f'wood{i}' for i in range(60)] + [f'painting{i}' for i in range(20)]:
        image = rng.integers(0, 255, (80, 96, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'{name}.png'), image)
    return tmp_path


def test_every_file_is_in_exactly_one_split(folder):
    parts = [TextureLibrary(folder, split=split) for split in ('train', 'validation')]
    train, validation = (set(part.surfaces) | set(part.pictures) for part in parts)
    assert not train & validation
    assert len(train) + len(validation) == 80
    assert len(train) > len(validation) > 0
    assert all('painting' in path.name for path in parts[0].pictures)


def test_texture_copying_is_measured_with_photographs_kept_from_training(folder):
    held_out = TextureLibrary(folder, split='texture_copying')
    assert held_out.surfaces == TextureLibrary(folder, split='validation').surfaces


def test_maps_for_shaders_and_interface_parts_are_left_out(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)
    (tmp_path / 'gui').mkdir()
    for name in ('stone_Normal.png', 'stone_gloss.png', 'gui/button.png', 'stone.txt'):
        (tmp_path / name).write_bytes(cv2.imencode('.png', image)[1].tobytes())
    assert not TextureLibrary(tmp_path).photographic


@pytest.mark.parametrize(
    'image',
    [
        np.full((80, 80, 3), 90, np.uint8),
        np.zeros((20, 200, 3), np.uint8),
        np.zeros((80, 80, 4), np.uint8),
    ],
    ids=['flat', 'tiny', 'transparent'],
)
def test_useless_pictures_give_way_to_procedural_ones(tmp_path, image):
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    (tmp_path / 'b.png').write_bytes(b'no picture')
    (tmp_path / 'c.png').write_bytes(b'')
    library = TextureLibrary(tmp_path)
    assert library.photographic
    for seed in range(10):
        drawn = library.surface(np.random.default_rng(seed))
        assert drawn.dtype == np.uint8
        assert drawn.shape == (256, 256, 3)


def test_photographs_are_read_shrunk_and_left_as_they_are(tmp_path):
    image = np.zeros((300, 900, 3), np.uint8)
    image[:, ::2] = (10, 20, 200)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    drawn = textures._read(tmp_path / 'a.png', 512)
    assert drawn.shape == (171, 512, 3)
    assert drawn[..., 0].mean() > 3 * drawn[..., 2].mean()  # RGB, not BGR
    assert not drawn.flags.writeable


def test_a_colour_profile_is_cut_out_of_a_png():
    png = cv2.imencode('.png', np.arange(192, dtype=np.uint8).reshape(8, 8, 3))[1].tobytes()
    chunk = (4).to_bytes(4, 'big') + b'iCCP' + b'junk' + b'....'
    assert textures._without_profile(png[:33] + chunk + png[33:]) == png
    assert textures._without_profile(b'\xff\xd8 a JPEG') == b'\xff\xd8 a JPEG'


@pytest.mark.parametrize('seed', range(12))
def test_without_photographs_textures_are_drawn(seed):
    library = TextureLibrary([])
    assert not library.photographic
    for draw in (library.surface, library.picture, library.plain):
        first, again = (draw(np.random.default_rng(seed)) for _ in range(2))
        assert first.dtype == np.uint8
        assert first.ndim == 3
        np.testing.assert_array_equal(first, again)


def test_fractal_noise_tiles():
    noise = textures.fractal_noise(np.random.default_rng(1), 128)
    seam = np.abs(noise[:, 0] - noise[:, -1]).mean()
    inside = np.abs(np.diff(noise, axis=1)).mean()
    assert seam < 3 * inside
    assert noise.std() == pytest.approx(1, abs=1e-3)


def test_folders_come_from_argument_or_environment(tmp_path, monkeypatch):
    first, second = tmp_path / 'first', tmp_path / 'second'
    first.mkdir()
    second.mkdir()
    monkeypatch.setenv(textures.TEXTURE_FOLDERS_VARIABLE, f'{first}:{second}')
    assert texture_folders() == [first, second]
    assert texture_folders(second) == [second]
    assert texture_folders([]) == []
    with pytest.raises(FileNotFoundError, match='nowhere'):
        texture_folders(tmp_path / 'nowhere')
