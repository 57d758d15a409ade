"""Tasks in arrays: what is put together of them, example by example in NumPy."""

import collections
import dataclasses
import itertools

import numpy as np
import pytest
from given_tasks import classes, examples_of, load, rows

from lrn_tf.data.tasks import Task
from lrn_tf.data.together import together
from lrn_tf.errors import UserError

LETTERS = "abcdefgh"


def drawn_x(rng, n):
    """What n examples may bring, and how it is kept."""
    kind = rng.integers(6)
    if kind == 0:
        return rng.integers(0, 256, (n, 5, 4, 1), np.uint8), np.uint8
    if kind == 1:
        return rng.integers(0, 256, (n, 5, 4, 1)).tolist(), np.uint8
    if kind == 2:
        return rng.normal(size=(n, 5, 4, 1)), np.float32
    if kind == 3:
        return rng.normal(size=(n, 4, 3)).astype(np.float16), np.float32
    if kind == 4:
        return rng.normal(size=(n, rng.integers(6, 8))), np.float32
    return rng.integers(0, 50, (n, 9), np.uint16), np.int32


def drawn_y(rng, n):
    """Targets, their form and number of answers, and how they are kept: `[n]`, or `[n, C]`."""
    kind = rng.integers(6)
    if kind == 0:
        y = rng.integers(0, 4, n, np.uint8)
        y[:4] = range(4)
        return y, "classes", 4, y
    if kind == 1:
        y = np.arange(n) % 2 == 0
        return y, "classes", 2, y
    if kind == 2:
        y = rng.normal(size=n)
        return y, "numbers", 1, y[:, None]
    if kind == 3:
        y = rng.integers(-5, 5, (n, 2))
        y[0] = 7
        return y, "numbers", 2, y
    if kind == 4:
        y = rng.normal(size=(n, 3))
        return y.tolist(), "numbers", 3, y
    y = rng.integers(0, 2, (n, 5))
    return y, "labels", 5, y


def drawn_tasks(seed):
    """Tasks at random, and of each: its form, answers, x and targets as kept, for `train` and `test`."""
    rng = np.random.default_rng(seed)
    tasks, expected = [], []
    for name in LETTERS[: rng.integers(1, 7)]:
        shared = bool(tasks) and rng.random() < 0.3
        of = tasks[rng.integers(len(tasks))] if shared else None
        n = len(of.x) if shared else int(rng.integers(20, 60))
        given, dtype = (of.x, None) if shared else drawn_x(rng, n)
        dtype = dtype or next(e["x"].dtype for t, e in zip(tasks, expected, strict=True) if t is of)
        y, form, width, kept = drawn_y(rng, n)
        x = np.asarray(given).astype(dtype)
        test, test_kept = None, None
        if rng.random() < 0.4:
            m = int(rng.integers(4, 9))
            some = rng.integers(0, n, m)
            test = np.asarray(given)[some], np.asarray(y)[some]
            test_kept = x[some], kept[some]
        asked = np.ones(n, bool)
        if rng.random() < 0.3:
            asked[4 * np.arange(2, n // 4)] = False
            hidden = np.zeros(np.shape(y), bool)
            hidden[~asked] = True
            y = np.ma.masked_array(y, hidden)
        named = rng.random() < 0.3
        input = f"own_{'_'.join(map(str, x.shape[1:]))}_{x.dtype}" if named else ""
        tasks.append(Task(name, given, y, test, input=input))
        expected.append(dict(form=form, width=width, x=x, y=kept, test=test_kept, asked=asked))
    return tasks, expected


def pairs(x, y):
    """How often each pair of an input and a target occurs, numbers as float32."""
    y = np.asarray(y, np.float32).reshape(len(y), -1)
    return collections.Counter((a.tobytes(), tuple(b)) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("seed", range(60))
def test_every_example_is_found_again(seed):
    tasks, expected = drawn_tasks(seed)
    drawn = together("mine", tasks, seed)
    assert [task.name for task in drawn.tasks] == [task.name for task in tasks]
    for k, known in enumerate(expected):
        assert (drawn.tasks[k].form, drawn.tasks[k].width) == (known["form"], known["width"])
        train, test = (pairs(*examples_of(drawn, part, k)) for part in (drawn.train, drawn.test))
        asked = pairs(known["x"][known["asked"]], known["y"][known["asked"]])
        if known["test"] is None:
            assert train + test == asked
        else:
            sharing = [j for j, task in enumerate(tasks) if task.x is tasks[k].x and task.test is None]
            held = {x.tobytes() for j in sharing for x in examples_of(drawn, drawn.test, j)[0]}
            learned = collections.Counter({pair: n for pair, n in asked.items() if pair[0] not in held})
            # Of what is held out some is nobody's test: who shares it is not asked.
            assert not train - learned
            assert train == learned or not all(expected[j]["asked"].all() for j in sharing)
            assert test == pairs(*known["test"])
    only_classes = all(known["form"] == "classes" for known in expected)
    for part in (drawn.train, drawn.test):
        assert part.row.dtype == part.task.dtype == np.int32
        assert part.target.dtype == (np.int32 if only_classes else np.float32)
        assert part.target.ndim == (1 if only_classes else 2)
        for i, name in enumerate(drawn.inputs):
            tasks_of = [k for k, task in enumerate(drawn.tasks) if task.input == name]
            used = set(part.row[np.isin(part.task, tasks_of)].tolist())
            rows_of = set(range(len(part.inputs[i])))
            # Rows that nobody asks about are for nothing; they are left out later.
            assert used <= rows_of
            assert used == rows_of or not all(expected[k]["asked"].all() for k in tasks_of)
            assert part.inputs[i].dtype == expected[tasks_of[0]]["x"].dtype


@pytest.mark.parametrize("seed", range(60))
def test_tasks_that_share_an_array_hold_it_once_and_hold_out_the_same(seed):
    tasks = [dataclasses.replace(task, y=np.ma.getdata(task.y)) for task in drawn_tasks(seed)[0]]
    drawn = together("mine", tasks, seed)
    used = collections.defaultdict(set)
    for part, split in ((drawn.train, 0), (drawn.test, 1)):
        rows_of = [part.row[part.task == k].tolist() for k in range(len(tasks))]
        for (a, one), (b, other) in itertools.combinations(enumerate(tasks), 2):
            same = one.x is other.x and drawn.tasks[a].input == drawn.tasks[b].input
            if same and (not split or (one.test is None and other.test is None)):
                assert rows_of[a] == rows_of[b]
            elif drawn.tasks[a].input == drawn.tasks[b].input:
                assert not set(rows_of[a]) & set(rows_of[b])
        for k, task in enumerate(tasks):
            if task.test is None or not split:  # who has a test of its own learns nobody else's
                x, _ = examples_of(drawn, part, k)
                used[split, id(task.x)] |= {row.tobytes() for row in x}
    for key in {key for _, key in used}:
        assert not used[0, key] & used[1, key]


def test_what_it_is_given_is_not_copied():
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    table = rows(20).astype(np.float32)
    test = images[:2].copy()
    tasks = [
        Task("a", images, classes(10, 10), (test, [0, 1])),
        Task("b", images, classes(5, 15), (test, [1, 1])),
        Task("c", table, classes(10, 10), (table[:2], [0, 1])),
    ]
    drawn = together("mine", tasks)
    assert drawn.train.inputs[0] is images and drawn.test.inputs[0] is test
    assert drawn.train.inputs[1] is table


def test_names_of_answers():
    both = rows(6), [0, 1, 2, 0, 1, 2]
    tasks = [
        Task("numbered", *both),
        Task("named", *both, answers=["red", "green", "blue", "never"]),
        Task("of NumPy", *both, answers=np.array(["a", "b", "c"])),
        Task("labels", rows(6), np.eye(6, 2, dtype=bool), answers=("x", "y")),
        Task("number", rows(6), rows(6)[:, 0], answers=("euro",)),
        Task("by form", rows(6), np.array([0.0, 1, 1, 1, 0, 1]), form="classes"),
        Task("one label", rows(6), [0, 1, 1, 1, 0, 1], form="labels"),
        Task("as numbers", rows(6), [3, 1, 1, 1, 0, 1], form="numbers"),
    ]
    assert [(task.form, task.answers) for task in together("mine", tasks).tasks] == [
        ("classes", ("0", "1", "2")),
        ("classes", ("red", "green", "blue", "never")),
        ("classes", ("a", "b", "c")),
        ("labels", ("x", "y")),
        ("numbers", ("euro",)),
        ("classes", ("0", "1")),
        ("labels", ("0",)),
        ("numbers", ("0",)),
    ]


def test_what_is_not_asked_is_left_out_and_names_of_classes_are_found():
    x, there, tested = rows(12), np.arange(12) % 4 != 2, np.arange(5, 12)
    kinds = np.array(["pear", "apple", None, "apple"] * 3, object)
    price = np.array([0.5, 1.5, np.nan, 2.5] * 3)
    several = np.ma.masked_equal([[0, 1], [1, 1], [7, 7], [1, 0]] * 3, 7)
    given = {"kind": kinds, "price": price, "several": several}
    tasks = [Task(name, x, y, (x[tested], y[tested])) for name, y in given.items()]
    drawn = together("mine", tasks)
    assert drawn.tasks[0].answers == ("apple", "pear")
    for k, y in enumerate([(kinds == "pear")[:, None], price[:, None], np.ma.getdata(several)]):
        for part, rows_of in ((drawn.train, there), (drawn.test, tested[there[tested]])):
            found_x, found_y = examples_of(drawn, part, k)
            np.testing.assert_array_equal(found_x, x[rows_of].astype(np.float32))
            np.testing.assert_array_equal(found_y, y[rows_of][:, : found_y.shape[1]])
    assert drawn.notes == (
        "kind: 3 of 12 examples are not asked",
        "price: 3 of 12 examples are not asked",
        "several: 3 of 12 examples are not asked",
    )


def test_what_is_taken_for_something_is_said():
    x, y = rows(12), [0, 1] * 6
    said = together(
        "mine",
        [
            Task("a", np.arange(24).reshape(12, 2), y),
            Task("b", np.arange(36).reshape(12, 3), y, vocabulary=50),
            Task("c", x, np.array(y, float)),
            Task("d", x, np.array(y) + 1),
            Task("e", x, y, answers=["no", "yes", "both"]),
            Task("f", x, np.array(y, float), form="numbers"),
            Task("g", rows(12, 2), ["1", "2.5", "1e3"] * 4),
            Task("h", rows(12, 2), ["1", "2.5", "none"] * 4),
            Task("i", rows(12, 4), ["1", "2"] * 6, answers=["1", "2"]),
            Task("j", rows(12, 5), [*"abcdefghij", "a", "a"]),
        ],
    ).notes
    assert [note.split(";")[0] for note in said] == [
        "a: x is whole numbers, and taken for tokens",
        "c: y is float, and taken for numbers",
        "d: 1 of 3 classes have no example, such as 0",
        "e: 1 of 3 classes have no example, such as both",
        "g: y is text that reads as numbers, and taken for classes",
        "j: most of its 10 classes have a single example, which cannot be held out",
    ]


def test_weights_are_kept():
    tasks = [Task("a", rows(4), [0, 1, 0, 1], weight=3), Task("b", rows(4), [0, 1, 0, 1])]
    assert [task.weight for task in together("mine", tasks).tasks] == [3.0, 1.0]


def test_names_of_inputs():
    y = [0, 1, 0, 1]
    given = {
        "images": np.zeros((4, 8, 6, 1), np.uint8),
        "images_8x6x1": rows(4, 8, 6, 1),
        "images_9x6x1": np.zeros((4, 9, 6, 1), np.uint8),
        "images_9x6x1_2": rows(4, 9, 6, 1),
        "rows": rows(4, 5),
        "rows_6": rows(4, 6),
        "sequences": rows(4, 5, 2),
        "tokens": np.zeros((4, 5), int),
    }
    tasks = [Task(name, x, y) for name, x in given.items()]
    drawn = together("mine", tasks)
    assert drawn.inputs == tuple(given) == tuple(task.input for task in drawn.tasks)
    # One more of each shape and type shares what there is, wherever it stands.
    more = [Task(f"more {name}", x.copy(), y) for name, x in given.items()]
    drawn = together("mine", [*tasks, *more[::-1]])
    assert [task.input for task in drawn.tasks] == [*given, *reversed(given)]


@pytest.mark.parametrize("first", [True, False])
def test_inputs_with_names_are_kept_apart(first):
    y = [0, 1, 0, 1]
    own_one, plain = Task("a", rows(4, 5), y, input="rows"), Task("b", rows(4, 5), y)
    drawn = together("mine", [own_one, plain] if first else [plain, own_one])
    names = {task.name: task.input for task in drawn.tasks}
    assert names == {"a": "rows", "b": "rows_5"}
    drawn = together("mine", [own_one, Task("b", rows(7, 5), classes(3, 4), input="rows")])
    assert drawn.inputs == ("rows",) and len(drawn.train.inputs[0]) == 2 + 5


def test_a_size_is_for_images():
    rows = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(UserError, match="--image_size=8 has no images to resize; leave it out"):
        load([Task("sign", rows, (rows[:, 0] > 0).astype(int))], image_size=8)
