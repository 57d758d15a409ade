"""What is wrong with a task, in one line."""

import dataclasses
import re

import numpy as np
import pytest
from given_tasks import rows

from lrn_tf.data.tasks import Task
from lrn_tf.data.together import together
from lrn_tf.errors import UserError

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
    "masked images": (
        dict(x=np.ma.masked_less(np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1), 2)),
        "x has missing values; fill them or drop those",
    ),
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
    "answers without an order": (dict(answers={"b"}), "answers is {'b'}; give a list of names"),
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
