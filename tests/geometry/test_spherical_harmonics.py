"""Spherical harmonics: the basis against its definition, rotations against what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.rotations import nearest_rotation, quaternion_to_matrix
from worldexplorer.geometry.spherical_harmonics import (
    basis,
    coefficient_count,
    degree_of,
    rotate_coefficients,
    rotation_matrices,
)

exactly = settings(derandomize=True, deadline=None)


def unit_vectors(count, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@st.composite
def rotations(draw):
    axis = np.array(draw(st.tuples(*[st.floats(-1.0, 1.0)] * 3)))
    assume(np.linalg.norm(axis) > 0.01)
    angle = draw(st.one_of(st.floats(-np.pi, np.pi), st.sampled_from([0.0, 1e-9, np.pi])))
    x, y, z = axis / np.linalg.norm(axis)
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1.0 - np.cos(angle)) * K @ K


def test_the_basis_along_the_axes_is_that_of_the_viewers():
    # The decimal constants that INRIA viewers carry, in their order and with their signs.
    values = basis(np.eye(3), 3)
    assert np.allclose(values[:, 0], 0.28209479177387814, atol=1e-16)
    along_x, along_y, along_z = values
    assert np.allclose(along_x[1:4], [0, 0, -0.4886025119029199])
    assert np.allclose(along_y[1:4], [-0.4886025119029199, 0, 0])
    assert np.allclose(along_z[1:4], [0, 0.4886025119029199, 0])
    assert np.allclose(along_x[4:9], [0, 0, -0.31539156525252005, 0, 0.5462742152960396])
    assert np.allclose(along_y[4:9], [0, 0, -0.31539156525252005, 0, -0.5462742152960396])
    assert np.allclose(along_z[4:9], [0, 0, 2 * 0.31539156525252005, 0, 0])
    assert np.allclose(along_x[9:], [0, 0, 0, 0, 0.4570457994644658, 0, -0.5900435899266435])
    assert np.allclose(along_y[9:], [0.5900435899266435, 0, 0.4570457994644658, 0, 0, 0, 0])
    assert np.allclose(along_z[9:], [0, 0, 0, 2 * 0.3731763325901154, 0, 0, 0])


def test_the_mixed_terms_are_those_of_the_viewers():
    x, y, z = 1 / 3, 2 / 3, 2 / 3
    values = basis([[x, y, z]], 3)[0]
    assert values[4] == pytest.approx(1.0925484305920792 * x * y)
    assert values[5] == pytest.approx(-1.0925484305920792 * y * z)
    assert values[7] == pytest.approx(-1.0925484305920792 * x * z)
    assert values[10] == pytest.approx(2.890611442640554 * x * y * z)
    assert values[14] == pytest.approx(1.445305721320277 * z * (x * x - y * y))


def test_the_basis_is_the_real_part_of_the_complex_harmonics():
    special = pytest.importorskip("scipy.special")
    directions = unit_vectors(50)
    values = basis(directions, 3)
    polar = np.arccos(directions[:, 2])
    azimuth = np.arctan2(directions[:, 1], directions[:, 0])
    for degree in range(4):
        for order in range(-degree, degree + 1):
            complex_value = special.sph_harm_y(degree, abs(order), polar, azimuth)
            part = complex_value.imag if order < 0 else complex_value.real
            expected = part * (np.sqrt(2.0) if order else 1.0)  # the phase (-1)^m is in scipy's definition
            assert np.allclose(values[:, degree * degree + degree + order], expected, atol=1e-14)


def test_the_basis_is_orthonormal_over_the_sphere():
    heights, weights = np.polynomial.legendre.leggauss(12)
    turns = np.arange(24) * np.pi / 12
    z, t = np.meshgrid(heights, turns, indexing="ij")
    r = np.sqrt(1 - z * z)
    directions = np.stack([r * np.cos(t), r * np.sin(t), z], axis=-1).reshape(-1, 3)
    values = basis(directions, 3)
    gram = values.T @ (values * np.repeat(weights * np.pi / 12, 24)[:, None])
    assert np.allclose(gram, np.eye(16), atol=1e-14)


@pytest.mark.parametrize("degree", range(4))
def test_a_lower_degree_is_the_beginning_of_a_higher_one(degree):
    directions = unit_vectors(10)
    assert np.array_equal(basis(directions, degree), basis(directions, 3)[:, : coefficient_count(degree)])


def test_the_matrices_of_the_turn_between_y_up_and_y_down_viewers():
    # (x, y, z) -> (-x, -z, -y); the entries are the closed forms.
    turn = np.array([[-1.0, 0, 0], [0, 0, -1], [0, -1, 0]])
    zero, one, two, three = rotation_matrices(turn)
    h = np.sqrt(3.0) / 2.0
    a, b, c = np.sqrt(10.0) / 4.0, np.sqrt(6.0) / 4.0, np.sqrt(15.0) / 4.0
    assert np.array_equal(zero, [[1.0]])
    assert np.allclose(one, [[0, 1, 0], [1, 0, 0], [0, 0, -1]], atol=1e-15)
    expected_two = [[0, 0, 0, -1, 0], [0, 1, 0, 0, 0], [0, 0, -0.5, 0, -h], [-1, 0, 0, 0, 0], [0, 0, -h, 0, 0.5]]
    assert np.allclose(two, expected_two, atol=1e-15)
    expected_three = [
        [0, 0, 0, -a, 0, b, 0],
        [0, -1, 0, 0, 0, 0, 0],
        [0, 0, 0, -b, 0, -a, 0],
        [-a, 0, -b, 0, 0, 0, 0],
        [0, 0, 0, 0, 0.25, 0, c],
        [b, 0, -a, 0, 0, 0, 0],
        [0, 0, 0, 0, c, 0, -0.25],
    ]
    assert np.allclose(three, expected_three, atol=1e-15)


@exactly
@given(rotations())
def test_the_matrices_are_orthogonal_and_turn_the_basis(R):
    matrices = rotation_matrices(R)
    directions = unit_vectors(20, seed=1)
    before, after = basis(directions, 3), basis(directions @ R.T, 3)
    for degree, D in enumerate(matrices):
        assert D.shape == (2 * degree + 1, 2 * degree + 1)
        assert np.allclose(D @ D.T, np.eye(2 * degree + 1), atol=5e-15)
        band = slice(degree * degree, (degree + 1) ** 2)
        assert np.allclose(after[:, band] @ D, before[:, band], atol=5e-15)


@exactly
@given(rotations(), rotations())
def test_turning_twice_is_turning_by_the_product(first, second):
    for one, two, both in zip(
        rotation_matrices(first), rotation_matrices(second), rotation_matrices(second @ first), strict=True
    ):
        assert np.allclose(two @ one, both, atol=1e-14)


@exactly
@given(rotations(), st.sampled_from([1, 4, 9, 16]), st.integers(0, 2**32 - 1))
def test_each_direction_keeps_its_colour(R, count, seed):
    sh = np.random.default_rng(seed).normal(size=(5, count, 3)).astype(np.float32)
    turned = rotate_coefficients(sh, R)
    directions = unit_vectors(30, seed=2)
    degree = degree_of(count)
    before = np.einsum("dk,nkc->ndc", basis(directions, degree), sh.astype(np.float64))
    after = np.einsum("dk,nkc->ndc", basis(directions @ R.T, degree), turned.astype(np.float64))
    # What remains is the rounding of the float32 coefficients: 16 of them, of size 3, 6e-8 each.
    assert np.abs(after - before).max() < 1e-6
    assert turned.dtype == np.float32
    assert turned.shape == sh.shape
    assert turned.flags.c_contiguous
    assert np.array_equal(turned[:, 0], sh[:, 0])


def test_many_coefficients_are_turned_as_few_are():
    rng = np.random.default_rng(5)
    R = quaternion_to_matrix(rng.normal(size=4))
    sh = rng.normal(size=(70_001, 4, 3)).astype(np.float32)  # more than one block
    turned = rotate_coefficients(sh, R)
    for part in (slice(0, 3), slice(65_534, 65_539), slice(69_998, 70_001)):
        assert np.allclose(turned[part], rotate_coefficients(sh[part], R), atol=1e-6)


def test_no_coefficients_stay_no_coefficients():
    assert rotate_coefficients(np.empty((0, 9, 3), dtype=np.float32), np.eye(3)).shape == (0, 9, 3)


def test_turned_gaussians_look_the_same_from_turned_cameras():
    rng = np.random.default_rng(6)
    count = 20
    quaternions = rng.normal(size=(count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    world = Gaussians(
        means=rng.normal(size=(count, 3)).astype(np.float32),
        log_scales=rng.normal(size=(count, 3)).astype(np.float32),
        quaternions=quaternions.astype(np.float32),
        opacity_logits=rng.normal(size=count).astype(np.float32),
        sh=rng.normal(size=(count, 16, 3)).astype(np.float32),
    )
    R = nearest_rotation(rng.normal(size=(3, 3)))
    turned = world.rotated(R)

    def covariances(gaussians):
        axes = quaternion_to_matrix(gaussians.quaternions) * np.exp(gaussians.log_scales.astype(np.float64))[:, None]
        return axes @ axes.transpose(0, 2, 1)

    def colours(gaussians, camera):
        away = gaussians.means.astype(np.float64) - camera
        directions = away / np.linalg.norm(away, axis=1, keepdims=True)
        return np.einsum("nk,nkc->nc", basis(directions, 3), gaussians.sh.astype(np.float64))

    expected = R @ covariances(world) @ R.T
    assert np.allclose(covariances(turned), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    camera = np.array([3.0, -2.0, 1.0])
    assert np.allclose(colours(turned, R @ camera), colours(world, camera), atol=1e-5)


@pytest.mark.parametrize("count", [0, 2, 3, 5, 15, 17, 25])
def test_other_counts_of_coefficients_are_refused(count):
    with pytest.raises(DefectError, match=rf"1, 4, 9 or 16 .* it has {count}"):
        rotate_coefficients(np.zeros((2, count, 3), dtype=np.float32), np.eye(3))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: degree_of(-1), "it has -1"),
        (lambda: coefficient_count(4), "0, 1, 2 or 3"),
        (lambda: basis(np.eye(3), -1), "0, 1, 2 or 3"),
        (lambda: basis(np.ones(3), 1), r"\[N, 3\]"),
        (lambda: basis(np.ones((2, 4)), 1), r"\[N, 3\]"),
        (lambda: rotation_matrices(np.diag([1.0, 1.0, -1.0])), "proper rotation"),
        (lambda: rotation_matrices(np.stack([np.eye(3)] * 2)), "one rotation"),
        (lambda: rotate_coefficients(np.zeros((2, 4), dtype=np.float32), np.eye(3)), r"\[N, K, 3\]"),
        (lambda: rotate_coefficients(np.zeros((2, 4, 4), dtype=np.float32), np.eye(3)), r"\[N, K, 3\]"),
        (lambda: rotate_coefficients(np.zeros((2, 4, 3), dtype=np.float32), 2 * np.eye(3)), "proper rotation"),
    ],
)
def test_what_makes_no_sense_is_refused(call, text):
    with pytest.raises(DefectError, match=text):
        call()
