"""Tasks in arrays: what is put together of them, example by example in NumPy, and all that is refused."""

import collections
import dataclasses
import itertools
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from lrn_tf.data import benchmarks, data_sets
from lrn_tf.data.benchmarks import Choice, moments, own
from lrn_tf.data.examples import DeviceExamples, Examples, prepare_all, shuffled_rows
from lrn_tf.data.problem import InputSpec, LabelSpace, Problem, TaskSpec
from lrn_tf.data.tasks import Task
from lrn_tf.data.together import draw_lots, stratified, together
from lrn_tf.errors import UserError

LETTERS = "abcdefgh"


def load(tasks, **choice):
    return benchmarks.load(own("mine", tasks), Choice(**choice))


def rows(n, *shape, seed=0):
    """Numbers, no two alike, of a type that is not what is kept."""
    return np.random.default_rng(seed).normal(size=(n, *(shape or (3,))))


def classes(*counts):
    """So many of class 0, of class 1 and so on, mixed."""
    y = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).permutation(y)


# Every example is found again


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


def examples_of(drawn, part, k):
    """Inputs and targets of a task's examples, those without what fills up."""
    mine = part.task == k
    i = drawn.inputs.index(drawn.tasks[k].input)
    target = part.target[mine]
    if target.ndim == 2:
        width = 1 if drawn.tasks[k].form == "classes" else drawn.tasks[k].width
        assert not target[:, width:].any()
        target = target[:, :width]
    return part.inputs[i][part.row[mine]], target


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
            assert train == asked
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
            # Held out of: or trained on as a whole, by those with a test of their own.
            if same and (one.test is None) == (other.test is None) and (not split or one.test is None):
                assert rows_of[a] == rows_of[b]
            elif drawn.tasks[a].input == drawn.tasks[b].input:
                assert not set(rows_of[a]) & set(rows_of[b])
        for k, task in enumerate(tasks):
            if task.test is None:
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


# What is held out


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


def test_tasks_from_tf_data():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3
    examples = tf.data.Dataset.from_tensor_slices((x, y))
    task = Task.of("thirds", examples, answers=("a", "b", "c"), weight=2.0)
    np.testing.assert_array_equal(task.x, x)
    np.testing.assert_array_equal(task.y, y)
    assert (task.test, task.answers, task.weight) == (None, ("a", "b", "c"), 2.0)
    assert load([task]).problem.tasks[0].answers == ("a", "b", "c")
    tested = Task.of("thirds", examples.take(20), test=examples.skip(20)).test
    np.testing.assert_array_equal(tested[0], x[20:])


@pytest.mark.parametrize("count, of_one_shape", [(2500, True), (30, False)])
def test_tf_data_of_a_shape_that_is_known_and_of_any(count, of_one_shape):
    x, y = np.random.default_rng(0).normal(size=(count, 3)), np.arange(count) / 2
    examples = tf.data.Dataset.from_tensor_slices((x, y))
    if not of_one_shape:
        given = (tf.TensorSpec([None], tf.float64), tf.TensorSpec([], tf.float64))
        examples = tf.data.Dataset.from_generator(lambda: zip(x, y, strict=True), output_signature=given)
    task = Task.of("all", examples)
    np.testing.assert_array_equal(task.x, x)
    np.testing.assert_array_equal(task.y, y)


@pytest.mark.parametrize(
    "examples, said",
    [
        (np.zeros(3), "t: array.* is no tf.data set of pairs"),
        (tf.data.Dataset.range(3), "t: <.* is no tf.data set of pairs"),
        (
            tf.data.Dataset.from_tensor_slices((np.zeros(3), np.zeros(3))).repeat(),
            "never ends; take a part",
        ),
        (tf.data.Dataset.from_tensor_slices((np.zeros(0), np.zeros(0))), "the data set is empty"),
        (
            tf.data.Dataset.from_tensor_slices((np.zeros((9, 2)), np.zeros(9))).batch(4),
            r"x \(None, 2\) and y \(None,\) look like a batch; give .unbatch\(\)",
        ),
        (
            tf.data.Dataset.from_tensor_slices((np.zeros((9, 2)), np.zeros(9))).batch(
                4, drop_remainder=True
            ),
            r"x \(4, 2\) and y \(4,\) look like a batch",
        ),
        (
            tf.data.Dataset.range(1, 4).map(lambda n: (tf.zeros(n), 0)),
            r"x has the shapes \(1,\) and \(2,\); make them one",
        ),
    ],
)
def test_what_is_no_data_set_of_pairs(examples, said):
    with pytest.raises(UserError, match=said) as caught:
        Task.of("t", examples)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_tasks_by_names_of_tfds():
    try:
        _, train, test = data_sets.splits("mnist", data_sets.folder(""))
    except UserError as error:
        pytest.skip(str(error))
    task = Task.of("digit", "mnist")
    assert task.answers == tuple("0123456789")
    for (x, y), split in (((task.x, task.y), train), (task.test, test)):
        assert sorted(zip(x.sum((1, 2, 3)).tolist(), y.tolist(), strict=True)) == sorted(
            zip(split["image"].sum((1, 2, 3)).tolist(), split["label"].tolist(), strict=True)
        )


@pytest.mark.slow
def test_a_data_set_whose_files_are_damaged(tmp_path):
    folder = pathlib.Path(data_sets.folder("")) / "mnist"
    if not folder.exists():
        pytest.skip(f"no {folder}")
    shutil.copytree(folder, tmp_path / "mnist")
    for file in (tmp_path / "mnist").rglob("*tfrecord*"):
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="mnist in .* cannot be read .*; delete that folder"):
        Task.of("digit", "mnist", data_dir=str(tmp_path))


def test_no_such_name_of_tfds(tmp_path):
    with pytest.raises(UserError, match="TensorFlow Datasets has no data set 'no_such_thing'"):
        Task.of("digit", "no_such_thing", data_dir=str(tmp_path))


def test_a_size_is_for_images():
    rows = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(UserError, match="--image_size=8 has no images to resize; leave it out"):
        load([Task("sign", rows, (rows[:, 0] > 0).astype(int))], image_size=8)


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


# Moments


def test_moments_of_inputs_and_targets_are_those_of_the_training_examples():
    x, y = rows(200, 4, 6) * 3 + 5, rows(200, 2) * 1e4 - 7
    tasks = [
        Task("a", x, y),
        Task("b", np.arange(800, dtype=np.uint8).reshape(50, 2, 4, 2), classes(25, 25)),
        Task("c", np.ones((20, 4), int), np.arange(20.0)),
        Task("d", rows(20, 3), np.eye(20, 2, dtype=int)),
    ]
    benchmark = load(tasks)
    problem, train = benchmark.problem, benchmark.train
    for given, array in zip(problem.inputs, train.inputs, strict=True):
        axes = tuple(range(array.ndim - 1))
        exact = array.astype(np.float64)
        if given.dtype == "int32":
            assert (given.mean, given.std) == ((), ())
            continue
        np.testing.assert_allclose(given.mean, exact.mean(axis=axes), rtol=1e-6)
        np.testing.assert_allclose(given.std, exact.std(axis=axes), rtol=1e-6)
    for k, task in enumerate(problem.tasks):
        exact = train.target[train.task == k, : task.width].astype(np.float64)
        if task.form == "numbers":
            np.testing.assert_allclose(task.mean, exact.mean(axis=0), rtol=1e-6)
            np.testing.assert_allclose(task.std, exact.std(axis=0), rtol=1e-6)
        else:
            assert (task.mean, task.std) == ((), ())


# A third is rounded when it is added up.
@pytest.mark.parametrize("constant", [0.0, 1 / 3, -0.1, 1e30, 1e-42])
@pytest.mark.parametrize("n", [10, 1797, 20000])
def test_what_is_constant_has_a_std_of_one(constant, n):
    x = np.random.default_rng(0).normal(size=(n, 2))
    x[:, 1] = constant
    benchmark = load([Task("a", x, x)])
    (given,), (task,) = benchmark.problem.inputs, benchmark.problem.tasks
    for found in (given, task):
        assert found.std[1] == 1
        assert found.std[0] == pytest.approx(1, rel=0.5)
        assert found.mean[1] == pytest.approx(np.float32(constant), rel=1e-6)


def test_large_and_tiny_numbers_have_moments():
    x = rows(100, 2) * [3e29, 1e-41]
    y = x.clip(-1e30, 1e30)
    benchmark = load([Task("a", y, y)])
    for found in (*benchmark.problem.inputs, *benchmark.problem.tasks):
        assert np.isfinite(found.mean).all() and found.std[0] == pytest.approx(3e29, rel=0.3)
        # What float32 cannot divide by is none.
        assert found.std[1] == 1


def test_moments_of_bytes_are_exact():
    values = np.random.default_rng(0).integers(0, 256, (3000, 3, 3, 2), np.uint8)
    mean, std = moments(values)
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(std, values.std(axis=(0, 1, 2), dtype=np.float64), rtol=1e-6)


def test_few_examples_may_leave_an_input_without_any():
    tasks = [Task(name, rows(20, d), np.arange(20.0)) for d, name in enumerate("abc", 1)]
    benchmark = load(tasks, examples=1)
    left = [len(array) for array in benchmark.train.inputs]
    assert sorted(left) == [0, 0, 1]
    problem = benchmark.problem
    assert [given.shape for given in problem.inputs] == [(1,), (2,), (3,)]
    for found, of in zip(left, range(3), strict=True):
        if not found:
            assert problem.inputs[of].mean == (0,) * (of + 1) and problem.inputs[of].std == (1,) * (of + 1)
            assert (problem.tasks[of].mean, problem.tasks[of].std) == ((0,), (1,))
    inputs, task, _ = DeviceExamples(benchmark.train, problem).batch([0])
    assert [x.shape for x in inputs] == [(1, 1), (1, 2), (1, 3)] and left[task[0]] == 1


def test_there_may_be_more_tokens_than_are_seen():
    x, y = np.arange(24).reshape(12, 2), [0, 1] * 6
    for said, known in ((0, 24), (24, 24), (100, 100)):
        assert load([Task("t", x, y, vocabulary=said)]).problem.inputs[0].vocabulary == known


def test_the_vocabulary_holds_the_tokens_of_the_test():
    x = np.arange(40).reshape(20, 2)
    task = Task("a", x, classes(10, 10), test=([[99, 1]], [0]))
    for choice in ({}, {"examples": 1}, {"validation": 0.2}):
        assert load([task], **choice).problem.inputs[0].vocabulary == 100
    assert load([Task("a", x, classes(10, 10))]).problem.inputs[0].vocabulary == 40


# Label spaces

TASKS = (
    TaskSpec("a", "x", "classes", ("0", "1")),
    TaskSpec("b", "x", "labels", ("0", "1")),
    TaskSpec("c", "x", "classes", ("yes", "no")),
    TaskSpec("d", "x", "numbers", ("0", "1"), (0.0, 0.0), (1.0, 1.0)),
    TaskSpec("e", "y", "classes", ("0", "1", "2")),
    TaskSpec("f", "y", "labels", ("l", "m")),
)
INPUTS = InputSpec("x", (3,), "float32", (0.0,) * 3, (1.0,) * 3), InputSpec("y", (5,), "int32", (), (), 9)


def test_tasks_of_one_form_and_number_share_a_label_space():
    problem = Problem("mine", INPUTS, TASKS)
    assert problem.label_spaces == (
        LabelSpace("2 classes", "classes", 2, 2),
        LabelSpace("2 labels", "labels", 2, 2),
        LabelSpace("2 numbers", "numbers", 2, 1),
        LabelSpace("3 classes", "classes", 3, 1),
    )
    assert problem.space_of == [
        *("2 classes", "2 labels", "2 classes", "2 numbers", "3 classes"),
        "2 labels",
    ]


def test_each_task_may_have_a_label_space_of_its_own():
    problem = Problem("mine", INPUTS, TASKS, heads="task")
    assert problem.label_spaces == tuple(LabelSpace(t.name, t.form, t.width, 1) for t in TASKS)
    assert problem.space_of == list("abcdef")


@pytest.mark.parametrize("heads", ["shared", "task"])
def test_heads_are_as_chosen(heads):
    tasks = [Task("a", rows(4), [0, 1, 0, 1]), Task("b", rows(4, 2), [1, 1, 0, 1])]
    assert load(tasks, heads=heads).problem.heads == heads


def test_what_a_problem_says_of_its_tasks():
    problem = Problem("mine", INPUTS, TASKS)
    assert problem.task_names == tuple("abcdef") and problem.num_tasks == 6
    assert problem.answers[2] == ("yes", "no") and problem.width == 3
    assert problem.input_of == [0, 0, 0, 0, 1, 1]
    assert not problem.only_classes
    assert dataclasses.replace(problem, tasks=(TASKS[0], TASKS[4])).only_classes


# Examples


@pytest.fixture(scope="module")
def several():
    """A benchmark with three inputs."""
    rng = np.random.default_rng(0)
    return load(
        [
            Task("images", rng.integers(0, 256, (30, 4, 4, 3), np.uint8), classes(10, 10, 10)),
            Task("table", rows(40, 5) * 9, rows(40, 2)),
            Task("words", rng.integers(0, 99, (20, 7)), np.eye(20, 4, dtype=bool)),
        ]
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_batch_of_several_inputs(several, split):
    part, problem = getattr(several, split), several.problem
    chosen = np.random.default_rng(1).permutation(len(part))
    inputs, tasks, targets = DeviceExamples(part, problem).batch(chosen.astype(np.int32))
    np.testing.assert_array_equal(tasks, part.task[chosen])
    np.testing.assert_array_equal(targets, part.target[chosen])
    assert isinstance(inputs, tuple) and len(inputs) == 3
    for i, (given, x) in enumerate(zip(problem.inputs, inputs, strict=True)):
        mine = part.task[chosen] == i
        raw = part.inputs[i][part.row[chosen[mine]]]
        assert mine.any() and x.shape == (len(chosen), *given.shape)
        assert x.dtype == ("int32" if given.vocabulary else "float32")
        expected = raw if given.vocabulary else (raw - np.array(given.mean)) / np.array(given.std)
        np.testing.assert_allclose(x.numpy()[mine], expected, rtol=1e-5, atol=1e-5)
        assert np.isfinite(x.numpy()).all()


def test_a_batch_of_one_input():
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), np.uint8)
    benchmark = load([Task("a", images, classes(15, 15)), Task("b", images, classes(20, 10))])
    (given,), part = benchmark.problem.inputs, benchmark.train
    x, tasks, targets = DeviceExamples(part, benchmark.problem).batch([1, 40, 3, 3])
    raw = part.inputs[0][part.row[[1, 40, 3, 3]]].astype(float)
    np.testing.assert_allclose(x, (raw - np.array(given.mean)) / np.array(given.std), rtol=1e-4, atol=1e-5)
    assert tasks.numpy().tolist() == [0, 1, 0, 0] and targets.dtype == "int32"
    np.testing.assert_array_equal(targets, part.target[[1, 40, 3, 3]])


def test_what_a_user_brings_becomes_what_is_trained_on(several):
    part, problem = several.train, several.problem
    every = np.arange(len(part), dtype=np.int32)
    inputs, tasks, _ = DeviceExamples(part, problem).batch(every)
    given = {
        spec.name: array[np.where(part.task == i, part.row, 0)]
        for i, (spec, array) in enumerate(zip(problem.inputs, part.inputs, strict=True))
    }
    for i, (ours, theirs) in enumerate(zip(prepare_all(given, tasks, problem), inputs, strict=True)):
        mine = part.task == i
        np.testing.assert_array_equal(ours[mine], theirs[mine])
        assert mine.any() and not np.any(ours[~mine])


def test_some_examples(several):
    some = several.train.some([5, 2, 2])
    assert len(some) == 3 and all(a is b for a, b in zip(some.inputs, several.train.inputs, strict=True))
    np.testing.assert_array_equal(some.row, several.train.row[[5, 2, 2]])
    np.testing.assert_array_equal(some.target, several.train.target[[5, 2, 2]])


@pytest.mark.parametrize("channels, drawn", [(1, 1), (2, 1), (3, 3), (4, 1)])
def test_what_an_example_shows(channels, drawn):
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 5, channels), np.uint8)
    tasks = [Task("a", rows(4), [0, 1, 0, 1]), Task("b", images, [0, 1, 0, 1])]
    benchmark = load([*tasks, Task("c", rows(4, 5, 5, 1), [0, 1, 0, 1])])
    part = benchmark.train
    for example in range(len(part)):
        shown = part.shown(benchmark.problem, example)
        if part.task[example] != 1:
            assert shown is None
        else:
            expected = part.inputs[1][part.row[example]][..., :drawn]
            np.testing.assert_array_equal(shown, expected)


def test_bytes_of_examples(several):
    assert several.train.nbytes == 24 * 48 + 32 * 5 * 4 + 16 * 7 * 4


# In which order they are learned

SIZES = [(100, 30, 7), (50,), (3, 3, 3), (1, 200), (40, 41, 42, 43)]


def tasks_of(sizes):
    """The task of each example, of tasks with so many; their numbers have gaps."""
    return (
        np.random.default_rng(0).permutation(np.repeat(3 * np.arange(len(sizes)), sizes)).astype(np.int32)
    )


@pytest.mark.parametrize("seed, epoch", [(0, 0), (3, 7)])
def test_in_proportion_each_example_comes_once(seed, epoch):
    batches = shuffled_rows(tasks_of((100, 30, 7)), 10, seed, epoch, "proportional")
    expected = np.random.default_rng((seed, epoch)).permutation(137)[:130].reshape(13, 10)
    np.testing.assert_array_equal(batches, expected)
    assert batches.dtype == np.int32


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("sampling, power", [("equal", 0.0), ("sqrt", 0.5)])
def test_tasks_are_drawn_in_their_shares_and_in_whole_rounds(sizes, sampling, power):
    task = tasks_of(sizes)
    batches = shuffled_rows(task, 3, 0, 0, sampling)
    steps = len(task) // 3
    assert batches.shape == (steps, 3) and batches.dtype == np.int32
    share = np.array(sizes, float) ** power
    for k, expected in enumerate(share / share.sum() * 3 * steps):
        often = collections.Counter(row for row in batches.ravel().tolist() if task[row] == 3 * k)
        assert abs(often.total() - expected) <= 1
        whole, rest = divmod(often.total(), sizes[k])
        assert sorted(often.values()) == sorted(
            [whole + 1] * rest + [whole] * ((sizes[k] - rest) * (whole > 0))
        )


@pytest.mark.parametrize("sampling", ["proportional", "equal", "sqrt"])
def test_seed_and_epoch_decide_the_order(sampling):
    task = tasks_of((100, 30, 7))

    def order(*key):
        return shuffled_rows(task, 10, *key, sampling).tolist()

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert order(2, 1) == orders[2 * 3 + 1]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    # What comes is not in the order of tasks, nor are the same examples always cut off.
    of_task = task[np.array(orders)]
    assert all((np.diff(of_one.ravel()) != 0).sum() > 20 for of_one in of_task)
    left = [frozenset(range(137)) - set(np.ravel(o).tolist()) for o in orders]
    assert len(set(left)) > 1


@pytest.mark.parametrize("sampling", ["proportional", "equal", "sqrt"])
def test_fewer_examples_than_a_batch_are_none(sampling):
    assert shuffled_rows(tasks_of((3, 2)), 6, 0, 0, sampling).shape == (0, 6)


# What is refused

Y = [0, 1, 0, 1, 0, 1]
WRONG = {
    # x
    "NaN": (
        dict(x=[[1, 2]] * 4 + [[1, np.nan]] * 2),
        "x has NaN, infinite or enormous .* first in row 4; mend",
    ),
    "infinite": (
        dict(x=[[1, -np.inf]] * 6),
        "x has NaN, infinite or enormous numbers, first in row 0; mend",
    ),
    "enormous": (dict(x=[[1.0, 2]] * 5 + [[1, 2e30]]), "x has NaN, .* first in row 5; mend"),
    "enormous in float64": (dict(x=[[1.0, 2]] * 5 + [[1, -1e300]]), "x has NaN, .* first in row 5; mend"),
    "infinite in float16": (dict(x=np.full((6, 2), np.inf, np.float16)), "x has NaN, .* in row 0; mend"),
    "ragged": (dict(x=[[1, 2], [1]] * 3), "x is no array .*; make it one"),
    "text": (dict(x=[["1", "2"]] * 6), "x holds <U1, not numbers; turn it into numbers"),
    "objects": (dict(x=None), "x holds object, not numbers; turn it into numbers"),
    "complex": (dict(x=np.ones((6, 2), complex)), "x holds complex128, not numbers"),
    "times": (dict(x=np.ones((6, 2), "datetime64[s]")), "x holds datetime64.*, not numbers"),
    "a number": (dict(x=3.0), "x is a single number; give an array"),
    "no axis": (dict(x=np.ones(6)), r"x has the shape \[6\]; it must be \[n, d\], .* or \[n, H, W, c\]"),
    "five axes": (dict(x=np.ones((6, 1, 1, 1, 1))), r"x has the shape \[6, 1, 1, 1, 1\]; it must be"),
    "nothing in it": (dict(x=np.ones((6, 0))), r"x has the shape \[6, 0\]; it must be"),
    "token below 0": (dict(x=[[0, -3]] * 6), "x has whole numbers from -3 to 0; tokens are .* is float"),
    "token beyond": (
        dict(x=[[0, 10**6]] * 6),
        "x has whole numbers from 0 to 1000000; tokens are from 0 to 999999",
    ),
    "huge token": (
        dict(x=[[0, 2**31]] * 6),
        "x has whole numbers from 0 to 2147483648, too large .* float",
    ),
    "images without channels": (
        dict(x=np.ones((6, 8, 8), np.uint8)),
        r"whole numbers \[6, 8, 8\]; .*\(x\[\.\.\., None\] for grey\)",
    ),
    "image beyond 255": (
        dict(x=np.full((6, 2, 2, 1), 256)),
        "from 256 to 256; images have 0 to 255, or are float",
    ),
    "image below 0": (
        dict(x=np.full((6, 2, 2, 1), -1)),
        "from -1 to -1; images have 0 to 255, or are float",
    ),
    # y
    "infinite target": (dict(y=[0.5, 1, 2, np.inf, 4, 5]), "y has NaN, .* first in row 3; mend"),
    "all of y missing": (dict(y=[np.nan] * 6), "all of y is missing; give some"),
    "some of an example's answers missing": (
        dict(y=[[0.5, 1], [2, 3], [np.nan, 5], [np.nan] * 2, [1, 2], [3, 4]]),
        "y lacks some answers in row 2; give all of an example or none, or make tasks of them",
    ),
    "one class is left": (dict(y=["a", None, "a", None, "a", "a"]), "has a single class, a; give another"),
    "one hot": (dict(y=np.eye(6, dtype=int)), r"each row of y has a single 1; give y.argmax\(axis=1\)"),
    "one hot in float": (dict(y=np.eye(6)), "each row of y has a single 1; give .* or form='labels'"),
    "text that is no class": (
        dict(y=["0", "1"] * 3, form="numbers"),
        "y is text, .* and not numbers; leave",
    ),
    "text in two dimensions": (dict(y=[["a", "b"]] * 6), r"y has the shape \[6, 2\]; classes are \[n\]"),
    "objects of no type": (
        dict(y=np.array([0, 1, "a", 1, 0, 1], object)),
        "y holds object, not numbers; turn it into",
    ),
    "text that is no answer": (
        dict(y=["a", "b"] * 3, answers=["a", "c"]),
        "'b' is no answer; known are a, c",
    ),
    "numbers with names": (
        dict(y=[185508, 3, 3, 3, 3, 3], answers=["price"]),
        "185508 is no class; number them from 0 to 0, as answers has 1 names, or give form='numbers'",
    ),
    "too close together": (
        dict(x=np.stack([np.arange(6), 1.7e9 + 20 * np.arange(6)], axis=1)),
        r"x has numbers around 1.7e\+09 in column 1 that differ by 100 only, .*; subtract the smallest",
    ),
    "targets too close together": (
        dict(y=1e6 + np.arange(6) / 7),
        "y has numbers around 1e\\+06 in column 0",
    ),
    "masked": (dict(x=np.ma.masked_less(rows(6), 0)), "x has missing values; fill them or drop those"),
    "vocabulary of numbers": (dict(vocabulary=7), "vocabulary=7, and x is no tokens; leave it out"),
    "vocabulary of text": (dict(vocabulary="7"), "vocabulary='7' is no number up to 1000000; give one"),
    "beyond the vocabulary": (
        dict(x=np.arange(12).reshape(6, 2), vocabulary=7),
        "x has the token 11, beyond vocabulary=7; raise that",
    ),
    "enormous target": (dict(y=[0.5, 1, 2, 3, 4, -5e30]), "y has NaN, .* first in row 5; mend"),
    "no targets": (dict(y=None), "y holds object, not numbers; turn it into numbers"),
    "one target": (dict(y=1), "y is a single number; give an array"),
    "more targets": (dict(y=Y + [0]), "has 6 examples and 7 targets; make them as many"),
    "fewer targets": (dict(y=Y[1:]), "has 6 examples and 5 targets; make them as many"),
    "negative class": (dict(y=[0, 1, -1, 1, -2, 1]), "-1 is no class; number them from 0 on"),
    "class beyond": (
        dict(y=[0, 1, 2, 3, 0, 1], answers=["a", "b"]),
        "2 is no class; number them from 0 to 1, as answers has 2",
    ),
    "huge class": (dict(y=[0, 1, 0, 1, 0, 10**6]), "1000000 is no class; number them from 0 on"),
    "single class": (dict(y=[0] * 6), "has a single class, 0; give another, or leave it out"),
    "single class of two": (dict(y=[1] * 6, answers=["a", "b"]), "has a single class, b; give another"),
    "broken class": (
        dict(y=[0.0, 1, 0.5, 1, 0, 1], form="classes"),
        "0.5 is no class; give whole numbers, or form='numbers'",
    ),
    "enormous class": (dict(y=[0.0, 1, 1e20, 1, 0, 1], form="classes"), r"1e\+20 is no class; give whole"),
    "classes of two axes": (
        dict(y=np.eye(6, 2), form="classes"),
        r"y has the shape \[6, 2\]; classes are \[n\]$",
    ),
    "column of classes": (
        dict(y=[[0], [1], [2]] * 2),
        r"y is \[n, 1\]; give \[n\] for classes, or form='numbers'",
    ),
    "numbers of three axes": (
        dict(y=np.ones((6, 2, 2))),
        r"y has the shape \[6, 2, 2\]; numbers are \[n\] or \[n, d\]",
    ),
    "no numbers at all": (dict(y=np.ones((6, 0))), r"y has the shape \[6, 0\]; numbers are"),
    "no label": (
        dict(y=[[0, 1], [2, 1], [1, 1]] * 2, form="labels"),
        "2 is no label; give 0 or 1, or form='numbers'",
    ),
    "half a label": (dict(y=np.full((6, 2), 0.5), form="labels"), "0.5 is no label; give 0 or 1"),
    "huge whole number": (
        dict(y=[[0, 2**40], [1, 1], [2, 2]] * 2),
        "y has whole numbers from 0 to 1099511627776, .* make them float",
    ),
    # test
    "test is no pair": (dict(test=np.ones((2, 2))), r"test is not a pair; give \(x, y\), or drop it"),
    "test of three": (dict(test=(1, 2, 3)), r"test is not a pair; give \(x, y\), or drop it"),
    "test is empty": (dict(test=(np.ones((0, 2)), [])), "has no test examples; give some, or drop test"),
    "test of another shape": (
        dict(test=(np.ones((1, 3)), [0])),
        r"test x is float32 \[n, 3\] and x is float32 \[n, 2\]; make them the same",
    ),
    "test of another type": (
        dict(test=(np.ones((1, 2), int), [0])),
        r"test x is int32 \[n, 2\] and x is float32 \[n, 2\]; make",
    ),
    "test with fewer targets": (
        dict(test=(np.ones((2, 2)), [0])),
        "has 2 test examples and 1 targets; make them as many",
    ),
    "NaN in test": (dict(test=(np.full((1, 2), np.nan), [0])), "test x has NaN, .* first in row 0; mend"),
    "infinity in targets of test": (
        dict(test=(np.ones((1, 2)), [np.inf])),
        "test y has NaN, .* first in row 0; mend",
    ),
    "nothing asked in the test": (
        dict(test=(np.ones((1, 2)), [np.nan])),
        "has no test examples; give some, or drop test to have some held out",
    ),
    "class beyond in test": (
        dict(test=(np.ones((1, 2)), [7]), answers=["a", "b"]),
        "7 is no class; number them from 0 to 1",
    ),
    "negative class in test": (dict(test=(np.ones((1, 2)), [-7])), "-7 is no class; number them from 0 on"),
    "other targets in test": (
        dict(y=np.ones((6, 2)), test=(np.ones((1, 2)), np.ones((1, 3)))),
        r"y has the shape \[6, 2\] and of test \[1, 3\]; numbers are",
    ),
    # numbers of examples
    "no examples": (
        dict(x=np.ones((0, 2)), y=[]),
        "has 0 examples; give two at least, or leave the task out",
    ),
    "one example": (
        dict(x=np.ones((1, 2)), y=[0]),
        "has 1 examples; give two at least, or leave the task out",
    ),
    "none to train on": (
        dict(x=np.ones((0, 2)), y=[], test=(np.ones((1, 2)), [0])),
        "has no examples; give some, or leave the task out",
    ),
    "none to hold out": (
        dict(x=np.ones((3, 2)), y=[0, 1, 2]),
        r"has too few examples to hold some out; give more, or test=\(x, y\)",
    ),
    # the rest
    "form": (dict(form="class"), "form 'class' is unknown; choose one of: classes, numbers, labels"),
    "answers of numbers": (
        dict(y=np.ones((6, 3)), answers=["a", "b"]),
        "2 answers are named and y has 3; name all",
    ),
    "too many answers of labels": (
        dict(y=np.eye(6, 2, dtype=int), answers=["a", "b", "c"]),
        "3 answers are named and y has 2; name all",
    ),
    "same answers": (
        dict(answers=["a", "b", "a"]),
        "two answers are called 'a'; give each a name of its own",
    ),
    "answers as text": (dict(answers="ab"), "answers is 'ab'; give a list of names"),
    "answers as number": (dict(answers=2), "answers is 2; give a list of names"),
    "empty answer": (dict(answers=["a", " "]), "an answer is called ' '; give it one line of text"),
    "answer of two lines": (
        dict(answers=["a", "b\nc"]),
        r"an answer is called 'b\\nc'; give it one line of text",
    ),
    **{
        f"weight {weight}": (dict(weight=weight), "weight .* is no number above 0; give one")
        for weight in (0, -1, np.nan, np.inf, "much", None, [1, 2], 1e300, 1e-300)
    },
    **{
        f"input {name}": (dict(input=name), "no input can be called .*; use letters, digits and _")
        for name in ("tasks", "task_names", "path", "self", "class", "a b", "_a", "1a", "ä", "a\n", 5)
    },
}


def refused(tasks, name="mine"):
    """The one line with which tasks are refused."""
    with pytest.raises(UserError) as error:
        together(name, tasks)
    said = str(error.value)
    assert "\n" not in said and said.isprintable() and len(said) < 250, said
    return said


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("changed, said", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_task_is_said_in_one_line(changed, said):
    good = Task("fruit", np.ones((6, 2)), Y)
    together("mine", [good])
    line = refused([dataclasses.replace(good, name="good"), dataclasses.replace(good, **changed)])
    assert line.startswith("fruit")
    assert re.search(said, line), line


@pytest.mark.parametrize(
    "tasks, said",
    [
        ([], "mine has no tasks; give one at least"),
        (None, "mine is NoneType, not a list of lrn_tf.Task; make it one"),
        (Task("a", rows(4), [0, 1, 0, 1]), "mine is Task, not a list of lrn_tf.Task; make it one"),
        ([("a", rows(4), [0, 1, 0, 1])], "mine: task 0 is tuple, not lrn_tf.Task; make it one"),
        ([Task("a", rows(4), Y[:4])] * 2, "mine has two tasks 'a'; give each a name of its own"),
        ([Task("", rows(4), Y[:4])], "mine: task 0 is called ''; give it a name, of one line of text"),
        (
            [Task("a\tb", rows(4), Y[:4])],
            r"mine: task 0 is called 'a\tb'; give it a name, of one line of text",
        ),
        (
            [Task("\udcff", rows(4), Y[:4])],
            r"mine: task 0 is called '\udcff'; give it a name, of one line of text",
        ),
        ([Task(3, rows(4), Y[:4])], "mine: task 0 is called 3; give it a name, of one line of text"),
    ],
)
def test_what_is_no_list_of_tasks(tasks, said):
    assert refused(tasks) == said


@pytest.mark.parametrize(
    "x, like",
    [
        (rows(4, 3), "float32 [n, 3]"),
        (np.zeros((4, 2), int), "int32 [n, 2]"),
        (np.zeros((4, 2, 2, 1), np.uint8), "uint8 [n, 2, 2, 1]"),
    ],
)
def test_an_input_has_one_shape_and_type(x, like):
    tasks = [Task("a", rows(4, 2), Y[:4], input="given"), Task("b", x, Y[:4], input="given")]
    assert refused(tasks) == (
        f"b: x is {like}, and the input 'given' is float32 [n, 2]; give it another input"
    )


def test_a_problem_of_tables_is_no_problem_of_images():
    with pytest.raises(ValueError, match=r"^pool needs images of one size .*; mine has x \[3\], y \[5\]$"):
        Problem("mine", INPUTS, TASKS).the_image("pool")
    image = InputSpec("x", (4, 5, 1), "uint8", (0.0,), (1.0,))
    assert Problem("mine", (image,), TASKS[:1]).the_image("pool") is image


def test_columns_of_examples_are_as_long():
    drawn = together("mine", [Task("a", rows(6), Y)])
    for part in (drawn.train, drawn.test):
        assert isinstance(part, Examples) and len(part) == len(part.row) == len(part.task) == len(
            part.target
        )
        assert [len(s) for s in drawn.strata] == [len(x) for x in drawn.train.inputs]
