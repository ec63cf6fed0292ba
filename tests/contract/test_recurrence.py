"""What layers with a recurrent state have in common: softplus (N7), and the gated norm (N5)."""

import numpy as np
import pytest

F = np.float32


def silu(x):
    return x / (1 + np.exp(-x))


def test_softplus_is_exact_to_a_few_ulp_however_small(part):
    x = np.concatenate([np.linspace(-80, 80, 4001), np.random.default_rng(1).standard_normal(2000)]).astype(F)
    found = part("numerics.recurrence").softplus(x)
    assert found.dtype == F
    exact = np.logaddexp(0, x.astype(np.float64))
    # exp2 of N7 is as exact as its argument: |x| half ulps of it
    assert (np.abs(found - exact) <= (4 + np.abs(np.minimum(x, 0))) * np.spacing(exact.astype(F))).all()


def test_softplus_of_what_is_far_from_zero(part):
    softplus = part("numerics.recurrence").softplus
    assert softplus(F([-200, -88, 0, 30, 1e30])).tolist() == [0, 0, float(F(np.log(2))), 30, float(F(1e30))]


@pytest.mark.parametrize(("num_groups", "size"), [(1, 40), (3, 20), (2, 7)])
def test_a_gated_norm_gates_and_norms_each_group_in_its_order(part, num_groups, size):
    random = np.random.default_rng(2)
    x, gate = (random.standard_normal((5, num_groups * size)).astype(F) for _ in range(2))
    weight = random.standard_normal(num_groups * size).astype(F)

    def norm(rows):
        groups = rows.astype(np.float64).reshape(5, num_groups, size)
        scale = 1 / np.sqrt((groups * groups).mean(axis=2, keepdims=True) + 1e-5)
        return (groups * scale).reshape(5, -1) * weight

    gated_norm = part("numerics.recurrence").gated_norm
    options = {"num_groups": num_groups}
    np.testing.assert_allclose(gated_norm(x, gate, weight, 1e-5, **options), norm(x * silu(gate)), rtol=2e-5, atol=1e-6)
    expected = norm(x) * silu(gate)
    first = gated_norm(x, gate, weight, 1e-5, norms_first=True, **options)
    np.testing.assert_allclose(first, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(gated_norm(x, gate, None, 1e-5, **options), x * silu(gate), rtol=2e-5, atol=1e-6)
