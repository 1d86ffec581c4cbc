"""Rotations: conversions, angles, means, checks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError
from worldexplorer.geometry.rotations import (
    chordal_mean,
    is_rotation,
    matrix_to_quaternion,
    multiply_quaternions,
    nearest_rotation,
    quaternion_to_matrix,
    require_rotation,
    rotation_angle_deg,
)

exactly = settings(derandomize=True, deadline=None)
angles = st.one_of(st.floats(-np.pi, np.pi), st.sampled_from([0.0, 1e-12, 1e-8, np.pi - 1e-8, np.pi, np.pi / 2]))


def about(axis, angle):
    """Rodrigues' formula: the independent way to a rotation."""
    x, y, z = np.asarray(axis, dtype=np.float64) / np.linalg.norm(axis)
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * K + (1.0 - np.cos(angle)) * K @ K


@st.composite
def rotations(draw):
    axis = draw(st.tuples(*[st.floats(-1.0, 1.0)] * 3))
    assume(np.linalg.norm(axis) > 0.01)
    return about(axis, draw(angles))


@exactly
@given(rotations())
@example(np.eye(3))
@example(np.diag([1.0, -1.0, -1.0]))
@example(np.diag([-1.0, 1.0, -1.0]))
@example(np.diag([-1.0, -1.0, 1.0]))
def test_matrix_to_quaternion_and_back(R):
    q = matrix_to_quaternion(R)
    assert np.linalg.norm(q) == pytest.approx(1.0, abs=1e-15)
    assert q[np.flatnonzero(q)[0]] > 0.0
    assert np.allclose(quaternion_to_matrix(q), R, atol=4e-15)


@exactly
@given(rotations(), st.floats(-3.0, 3.0).filter(lambda s: abs(s) > 1e-3))
def test_the_length_and_sign_of_a_quaternion_do_not_matter(R, factor):
    assert np.allclose(quaternion_to_matrix(factor * matrix_to_quaternion(R)), R, atol=4e-15)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e160, 1e300])
def test_tiny_and_huge_quaternions_keep_their_rotation(size):
    q = np.array([0.5, -0.5, 0.1, 0.7])
    assert np.allclose(quaternion_to_matrix(q * size), quaternion_to_matrix(q), atol=1e-15)


def test_a_quaternion_is_the_half_angle():
    q = matrix_to_quaternion(about([0.0, 0.0, 1.0], np.radians(60.0)))
    assert np.allclose(q, [np.cos(np.pi / 6), 0.0, 0.0, np.sin(np.pi / 6)], atol=1e-15)


@exactly
@given(rotations(), rotations())
def test_the_product_of_quaternions_is_the_product_of_matrices(first, second):
    q = multiply_quaternions(matrix_to_quaternion(first), matrix_to_quaternion(second))
    assert np.allclose(quaternion_to_matrix(q), first @ second, atol=1e-14)


def test_one_quaternion_multiplies_many_in_double_precision():
    rng = np.random.default_rng(0)
    many = rng.normal(size=(5, 7, 4)).astype(np.float32)
    one = rng.normal(size=4)
    products = multiply_quaternions(one, many)
    assert products.shape == (5, 7, 4)
    assert products.dtype == np.float64
    assert np.array_equal(products[3, 2], multiply_quaternions(one, many[3, 2]))


def test_conversions_keep_leading_dimensions():
    rng = np.random.default_rng(1)
    q = rng.normal(size=(2, 3, 4))
    R = quaternion_to_matrix(q)
    assert R.shape == (2, 3, 3, 3)
    assert is_rotation(R).shape == (2, 3)
    back = matrix_to_quaternion(R)
    unit = q / np.linalg.norm(q, axis=-1, keepdims=True)
    assert np.allclose(np.abs((back * unit).sum(axis=-1)), 1.0, atol=1e-14)
    assert matrix_to_quaternion(np.empty((0, 3, 3))).shape == (0, 4)


@exactly
@given(rotations(), st.tuples(*[st.floats(-1.0, 1.0)] * 3), angles)
def test_the_angle_is_exact_from_nothing_to_half_a_turn(R, axis, angle):
    assume(np.linalg.norm(axis) > 0.01)
    expected = np.degrees(abs(angle))
    # Rounding of the products alone: an arc cosine would be wrong by 1e-6 degrees near 0 and 180.
    assert rotation_angle_deg(R, R @ about(axis, angle)) == pytest.approx(expected, abs=2e-13, rel=0)


def test_angles_broadcast():
    turns = np.stack([about([0, 1, 0], np.radians(a)) for a in (0, 45, 90, 180)])
    table = rotation_angle_deg(turns[:, None], turns[None])
    assert np.allclose(table[1], [45, 0, 45, 135], atol=1e-12)
    assert np.allclose(table, table.T, atol=1e-12)


@exactly
@given(rotations(), st.integers(0, 2**32 - 1))
def test_no_rotation_near_it_is_nearer_than_the_nearest(R, seed):
    rng = np.random.default_rng(seed)
    M = R + rng.normal(scale=0.3, size=(3, 3))
    singular = np.linalg.svd(M, compute_uv=False)
    assume(singular[1] + np.sign(np.linalg.det(M)) * singular[2] > 0.05)
    nearest = nearest_rotation(M)
    assert is_rotation(nearest, tolerance=1e-12)
    least = np.linalg.norm(nearest - M)
    for axis in rng.normal(size=(20, 3)):
        for angle in (1e-3, 0.1, 1.0, 3.0):
            assert np.linalg.norm(nearest @ about(axis, angle) - M) > least


def test_the_nearest_rotation_of_a_reflection_is_proper():
    nearest = nearest_rotation(np.diag([3.0, 2.0, -1.0]))
    assert np.allclose(nearest, np.eye(3))


def test_the_mean_of_turns_about_one_axis_is_the_turn_in_the_middle():
    turns = np.stack([about([1, 2, 3], np.radians(a)) for a in (10.0, 20.0, 60.0, 70.0)])
    assert rotation_angle_deg(chordal_mean(turns), about([1, 2, 3], np.radians(40.0))) < 1e-12


def test_the_mean_minimises_the_weighted_sum_of_squared_distances():
    rng = np.random.default_rng(2)
    turns = np.stack([about(rng.normal(size=3), rng.uniform(0, 1.5)) for _ in range(9)])
    weights = rng.uniform(0.1, 2.0, size=9)
    mean = chordal_mean(turns, weights)

    def cost(R):
        return float(weights @ ((turns - R) ** 2).sum(axis=(1, 2)))

    for axis in np.eye(3):
        # Gradient by central differences along the three ways to turn.
        slope = (cost(mean @ about(axis, 1e-5)) - cost(mean @ about(axis, -1e-5))) / 2e-5
        assert abs(slope) < 1e-8
        assert cost(mean @ about(axis, 0.1)) > cost(mean)


def test_weights_choose_and_a_zero_weight_leaves_out():
    turns = np.stack([np.eye(3), about([0, 0, 1], 1.0), about([1, 0, 0], 2.0)])
    assert np.allclose(chordal_mean(turns, [0.0, 5.0, 0.0]), turns[1], atol=1e-15)


def test_the_mean_turns_with_the_rotations():
    rng = np.random.default_rng(3)
    turns = np.stack([about(rng.normal(size=3), rng.uniform(0, 1.0)) for _ in range(5)])
    R, S = about([1, 0, 2], 2.0), about([0, 1, 1], -0.7)
    assert np.allclose(chordal_mean(R @ turns @ S), R @ chordal_mean(turns) @ S, atol=1e-14)


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([1.0, 1.0, -1.0]),
        1.001 * np.eye(3),
        np.eye(3) + np.eye(3, k=1) * 1e-4,
        np.zeros((3, 3)),
        np.full((3, 3), np.nan),
        np.diag([1.0, 1.0, np.inf]),
    ],
    ids=["mirror", "scaled", "sheared", "zero", "nan", "infinite"],
)
def test_what_is_no_rotation_is_refused_and_named(matrix):
    assert not is_rotation(matrix)
    stack = np.stack([np.eye(3), matrix])
    assert is_rotation(stack).tolist() == [True, False]
    with pytest.raises(DefectError, match="camera at index 1 is not a proper rotation"):
        require_rotation(stack, "camera")
    with pytest.raises(DefectError, match="not a proper rotation"):
        matrix_to_quaternion(matrix)


def test_single_precision_is_good_enough():
    rng = np.random.default_rng(4)
    R = nearest_rotation(rng.normal(size=(500, 3, 3))).astype(np.float32)
    product = R[:250] @ R[250:]
    assert require_rotation(product).dtype == np.float64


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: is_rotation(np.eye(4)), r"\[\.\.\., 3, 3\]"),
        (lambda: quaternion_to_matrix(np.zeros(4)), "length zero"),
        (lambda: quaternion_to_matrix([[1, 0, 0, 0], [np.nan, 0, 0, 1]]), "not finite"),
        (lambda: quaternion_to_matrix(np.ones(3)), r"\[\.\.\., 4\]"),
        (lambda: multiply_quaternions(np.ones(4), np.ones(3)), r"\[\.\.\., 4\]"),
        (lambda: nearest_rotation(np.full((3, 3), np.inf)), "not finite"),
        (lambda: nearest_rotation(np.zeros((3, 3))), "equally near"),
        (lambda: nearest_rotation(-np.eye(3)), "equally near"),
        (lambda: chordal_mean(np.eye(3)), "N >= 1"),
        (lambda: chordal_mean(np.empty((0, 3, 3))), "N >= 1"),
        (lambda: chordal_mean(np.stack([np.eye(3), np.diag([1.0, -1.0, -1.0])])), "no single mean"),
        (lambda: chordal_mean(np.stack([np.eye(3)] * 2), [1.0]), "weights of 2"),
        (lambda: chordal_mean(np.stack([np.eye(3)] * 2), [1.0, -1.0]), "not negative"),
        (lambda: chordal_mean(np.stack([np.eye(3)] * 2), [0.0, 0.0]), "not all zero"),
        (lambda: chordal_mean(np.stack([np.eye(3)] * 2), [np.nan, 1.0]), "weights of 2"),
    ],
)
def test_what_makes_no_sense_is_refused(call, text):
    with pytest.raises(DefectError, match=text):
        call()
