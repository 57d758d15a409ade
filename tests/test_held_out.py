"""Which examples are held out, for a test or for validation, and what that depends on."""

import dataclasses

import numpy as np
import pytest
from given_tasks import classes, examples_of, load, rows

from lrn_tf.data.tasks import Task
from lrn_tf.data.together import draw_lots, stratified, together
from lrn_tf.errors import UserError


def test_a_fifth_of_each_class_is_held_out():
    counts = [1, 2, 3, 7, 10, 100]
    drawn = together("mine", [Task("a", rows(sum(counts)), classes(*counts))])
    assert np.bincount(drawn.test.target, minlength=6).tolist() == [0, 1, 1, 1, 2, 20]
    assert np.bincount(drawn.train.target).tolist() == [1, 1, 2, 6, 8, 80]


@pytest.mark.parametrize("y", [np.arange(50.0), np.eye(50, 3, dtype=int), rows(50, 2)])
def test_a_fifth_of_other_targets_is_held_out(y):
    drawn = together("mine", [Task("a", rows(50), y)])
    assert (len(drawn.train), len(drawn.test)) == (40, 10)


def test_the_seed_decides_what_is_held_out():
    tasks = [Task("a", rows(50), classes(20, 30)), Task("b", rows(50, seed=1), rows(50, 1))]

    def test(seed):
        return [x.tobytes() for x in together("mine", tasks, seed).test.inputs]

    assert test(3) == test(3) != test(4)
    # The tasks do not go by one draw.
    drawn = together("mine", [dataclasses.replace(task, y=classes(25, 25)) for task in tasks])
    first, second = (examples_of(drawn, drawn.test, k)[1].tolist() for k in range(2))
    assert sorted(first) == sorted(second) == [0] * 5 + [1] * 5
    numbers = np.arange(50.0)
    drawn = together("mine", [dataclasses.replace(task, y=numbers) for task in tasks])
    first, second = (examples_of(drawn, drawn.test, k)[1].tolist() for k in range(2))
    assert first != second


def test_of_shared_examples_a_fifth_of_each_combination_is_held_out():
    digit = classes(*[20] * 10)
    x = rows(200)
    tasks = [Task(f"{k}", x, digit == k) for k in range(10)] + [Task("odd", x, digit % 2)]
    drawn = together("mine", tasks)
    assert len(drawn.train.inputs[0]) == 160 and len(drawn.test.inputs[0]) == 40
    of_x = dict(zip((row.tobytes() for row in x.astype(np.float32)), digit, strict=True))
    held_out = [of_x[row.tobytes()] for row in drawn.test.inputs[0]]
    assert np.bincount(held_out).tolist() == [4] * 10


@pytest.mark.parametrize("seed", range(20))
def test_of_rare_combinations_no_class_is_held_out_as_a_whole(seed):
    rng = np.random.default_rng(seed)
    x, ys = rows(120), [rng.integers(0, 40, 120) for _ in range(3)]
    ys[0][0] = 40  # the only one
    drawn = together("mine", [Task(f"{k}", x, y) for k, y in enumerate(ys)], seed)
    assert 12 <= len(drawn.test.inputs[0]) <= 24
    for k, y in enumerate(ys):
        assert set(drawn.train.target[drawn.train.task == k]) == set(y)


def test_the_validation_is_parted_by_what_is_shown():
    digit, x = classes(*[20] * 10), rows(200)
    tasks = [Task(f"{k}", x, digit == k) for k in range(10)]
    tasks += [Task("other", rows(100, seed=1), classes(60, 40)), Task("rest", rows(50, 2), rows(50, 1))]
    whole, split = load(tasks), load(tasks, validation=0.25)
    for i, count in enumerate((160 + 80, 40)):
        ours = [{row.tobytes() for row in part.inputs[i]} for part in (split.train, split.test)]
        assert not ours[0] & ours[1]
        assert ours[0] | ours[1] == {row.tobytes() for row in whole.train.inputs[i]}
        assert len(ours[1]) == count // 4
    held_out = [int((split.test.target[split.test.task == k, 0] == 1).sum()) for k in range(11)]
    assert held_out == [4] * 10 + [round(0.25 * 32)]
    other = load(tasks, validation=0.25, seed=1)
    assert other.test.inputs[0].tobytes() != split.test.inputs[0].tobytes()


@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_what_is_held_out_of_a_task_does_not_depend_on_others(validation):
    """Who goes on with more tasks must not be tested on what was learned."""
    x = rows(200)
    known, same = Task("known", x, classes(100, 100)), Task("same", x.copy(), classes(*[40] * 5))
    others = Task("other", rows(30, seed=1), classes(15, 15)), Task("wide", rows(30, 9), classes(15, 15))
    asks_less = Task("some", x, [None, *"ab"] * 66 + [None, "a"])

    def shown(*tasks, seed=3):
        loaded = load(tasks, seed=seed, validation=validation)
        k = loaded.problem.task_names.index("known")
        (i,) = (i for i, given in enumerate(loaded.problem.inputs) if given.shape == (3,))
        return [
            {row.tobytes() for row in part.inputs[i][part.row[part.task == k]]}
            for part in (loaded.train, loaded.test)
        ]

    learned, held_out = shown(known)
    assert len(held_out) == (40 if not validation else 32)
    assert held_out & shown(known, seed=4)[0]
    for tasks in ((others[0], known), (others[1], known)):
        assert shown(*tasks)[1] == held_out
    # Where more tasks have these examples, shares are of other classes, and a few examples change sides; by
    # a draw of their own four of five would.
    for tasks in ((known, same), (asks_less, known), (asks_less, same, known)):
        assert len(shown(*tasks)[1] & learned) <= 0.35 * len(held_out)


def test_who_leaves_nothing_to_hold_out_is_named():
    x = rows(40)
    tasks = [Task("a", x, classes(20, 20)), Task("b", x, np.arange(40))]
    tasks.append(Task("c", rows(40, seed=1), rows(40, 1)))
    said = "^a has too few examples to hold some out, as b asks of the same ones for 40 different answers; "
    with pytest.raises(UserError, match=said):
        together("mine", tasks)


def test_equal_examples_are_not_held_out_together():
    x, y = np.ones((100, 3)), classes(50, 50)
    loaded = load([Task("a", x, y), Task("b", rows(100, 3), y)])
    assert np.bincount(loaded.test.task).tolist() == [20, 20]


def test_tasks_with_equal_arrays_hold_one_and_hold_out_the_same():
    x, y = rows(40), classes(20, 20)
    drawn = together("mine", [Task("a", x, y), Task("b", x.copy(), y[::-1]), Task("c", x[:], y)])
    assert len(drawn.train.inputs[0]) + len(drawn.test.inputs[0]) == 40
    for part in (drawn.train, drawn.test):
        assert len({tuple(part.row[part.task == k]) for k in range(3)}) == 1


def test_nothing_to_hold_out_for_validation():
    task = Task("a", rows(3), [0, 1, 2], test=(rows(2), [0, 1]))
    said = "^--validation=0.1 leaves task 'a' no examples to evaluate on; choose a larger share, or 0$"
    with pytest.raises(UserError, match=said):
        load([task], validation=0.1)
    # Of what is held out of two tasks' examples none need be one that the second asks about.
    x, y = rows(200), np.full((200, 1), np.nan)
    y[:12] = 1.0
    tasks = Task("many", x, classes(100, 100)), Task("few", x, y)
    found = []
    for seed in range(12):
        try:
            found.append(np.unique(load(tasks, seed=seed, validation=0.05).test.task).tolist())
        except UserError as error:
            assert "leaves task 'few' no examples" in str(error)
    assert 1 <= len(found) < 12 and all(tasks == [0, 1] for tasks in found)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_stratified(fraction):
    strata = classes(1, 2, 3, 5, 8, 50, 99) * 7 - 3
    marked = stratified(strata, fraction, np.random.default_rng(0).random(len(strata)))
    for stratum, n in zip(np.unique(strata), (1, 2, 3, 5, 8, 50, 99), strict=True):
        count = marked[strata == stratum].sum()
        assert count == (0 if n == 1 else max(1, round(fraction * n))) < n
    # Any member may be marked.
    often = sum(stratified(np.zeros(10), fraction, draw_lots(rows(10), s)) for s in range(300))
    assert often.min() > 0.5 * 300 * fraction and often.max() < 1.6 * 300 * fraction
