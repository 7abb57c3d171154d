# SPDX-License-Identifier: Apache-2.0
"""Meshes: closed, wound outwards, of the right size."""

import numpy as np
import pytest

from depth_sr_ros.data import scene_mesh as m


def volume(mesh):
    """Signed volume by the divergence theorem: positive where faces are wound outwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float(np.einsum('ij,ij->i', a, np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize(
    ('mesh', 'expected', 'tolerance'),
    [
        (m.box((1, 2, 3)), 6, 1e-9),
        (m.box((1, 2, 3), centre=(5, 6, 7)), 6, 1e-9),
        (m.box((1, 2, 3), inside=True), -6, 1e-9),
        (m.cylinder(0.5, 2, sides=200), np.pi / 2, 1e-3),
        (m.cylinder(0.5, 3, sides=200, top=0.0), np.pi / 4, 1e-3),
        (m.ellipsoid((1, 2, 3), sides=120), 8 * np.pi, 0.05),
        (m.rounded_box((2, 4, 6), roundness=1, sides=120), 8 * np.pi, 0.05),
        (m.tube(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2.0]]), 0.1, sides=200), 0.02 * np.pi, 0.02),
    ],
    ids=['box', 'moved', 'inside', 'cylinder', 'cone', 'ellipsoid', 'rounded', 'tube'],
)
def test_volume(mesh, expected, tolerance):
    if mesh.faces.size and mesh.vertices[:, 2].max() == 2 and expected < 0.1:
        # A tube has no ends: its side alone encloses two thirds of the volume about the origin.
        expected *= 2 / 3
    assert volume(mesh) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(
    'mesh',
    [
        m.box((1, 2, 3)),
        m.cylinder(0.3, 1),
        m.ellipsoid((1, 2, 3)),
        m.rounded_box((1, 1, 0.3), roundness=0.2),
        m.tube(np.array([[0, 0, 0], [0.2, 0, 1], [1, 0.3, 1.5], [2, 0, 1.5]]), 0.05),
        m.surface(lambda u, v: np.stack([u, v, 0.1 * np.sin(6 * u)], -1), 20, 20, (1, 1)),
    ],
    ids=['box', 'cylinder', 'ellipsoid', 'rounded', 'tube', 'surface'],
)
def test_normals_point_where_faces_do(mesh):
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    face = np.cross(b - a, c - a)
    area = np.linalg.norm(face, axis=1)
    middle = mesh.normals[mesh.faces].mean(axis=1)
    agreement = np.einsum('ij,ij->i', face, middle)[area > 1e-9]
    assert (agreement > 0).all()
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-9)


@pytest.mark.parametrize('inside', [False, True])
def test_small_boxes_are_as_large_ones(inside):
    whole = m.box((1, 2, 3), centre=(4, 5, 6), cell=3.0, inside=inside)
    divided = m.box((1, 2, 3), centre=(4, 5, 6), cell=2.9, inside=inside)
    assert len(divided.vertices) > len(whole.vertices) == 24
    # Each corner has the same place, normal and texture coordinates in both.
    rows = [np.round(np.hstack([b.vertices, b.normals, b.uv]), 9) + 0.0 for b in (whole, divided)]
    assert {tuple(row) for row in rows[0]} <= {tuple(row) for row in rows[1]}


def test_rounded_box_lies_between_ellipsoid_and_box():
    volumes = [volume(m.rounded_box((1, 1, 1), roundness=r, sides=64)) for r in (1, 0.5, 0.1)]
    assert np.pi / 6 * 0.98 < volumes[0] < volumes[1] < volumes[2] < 1


def test_moved_turns_vertices_and_normals():
    turn = m.rotation_z(np.pi / 2)
    moved = m.quad((0, 0, 0), (1, 0, 0), (0, 0, 1)).moved(turn, np.array([0, 0, 5.0]))
    np.testing.assert_allclose(
        moved.normals, np.tile([1.0, 0, 0], (len(moved.normals), 1)), atol=1e-9
    )
    assert moved.vertices[:, 2].min() == 5
    np.testing.assert_allclose(moved.vertices[:, 0], 0, atol=1e-9)


def test_two_sided_has_no_volume_and_both_normals():
    mesh = m.quad((0, 0, 0), (1, 0, 0), (0, 1, 0)).two_sided()
    assert volume(mesh) == pytest.approx(0)
    assert set(np.round(mesh.normals[:, 2])) == {-1, 1}


def test_random_rotation_is_one():
    turn = m.random_rotation(np.random.default_rng(0))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
