"""The learning rate of each step."""

import numpy as np
import pytest

from lrn_tf.learning.schedule import WARM_UP, learning_rate
from lrn_tf.settings.resolve import resolve
from lrn_tf.settings.table import LRNS, SGD_METHODS


def rates(settings, last=1000, steps_per_epoch=10):
    return np.array([learning_rate(settings, step, steps_per_epoch, last) for step in range(last)])


@pytest.mark.parametrize("method", LRNS)
def test_methods_with_a_router_have_the_schedule_of_the_paper(method):
    found = rates(resolve({"benchmark": "cifar_mtl", "method": method}))
    np.testing.assert_allclose(found, 1e-4 * 0.97 ** np.repeat(np.arange(100), 10))


@pytest.mark.parametrize("method", SGD_METHODS)
def test_methods_with_a_trunk_have_the_schedule_of_routing_networks(method):
    found = rates(resolve({"benchmark": "cifar_mtl", "method": method}))
    np.testing.assert_allclose(found, np.repeat([1e-2, 1e-3, 1e-4, 1e-5, 1e-6], 200))


@pytest.mark.parametrize("last", [3, 4, 100, 999])
def test_one_cycle_rises_in_a_line_and_falls_along_a_cosine_to_0(last):
    found = rates(resolve(dict(schedule="one_cycle", learning_rate=0.5)), last)
    top = int(np.argmax(found))
    assert abs((top + 1) / last - WARM_UP) <= 1 / last
    assert 0 < found[0] <= found[top] <= 0.5
    assert found[-1] == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(np.diff(found[:top], 2), 0, atol=1e-12)
    assert (np.diff(found[top:]) < 0).all()
    if last > 50:
        assert found[top] == pytest.approx(0.5, rel=1e-2)
        middle = top + (last - 1 - top) // 2
        assert found[middle] == pytest.approx(0.25, rel=0.05)
