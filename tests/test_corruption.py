"""Damage to any file of a run or of an exported model: an older state, or one line; never a wrong one."""

import contextlib
import copy
import dataclasses
import json
import math
import os
import pathlib
import random
import re
import shutil
import sys
import types

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from made_runs import ABOUT, MIXED, ONLY_NUMBERS, PROBLEM, change_config, make_run
from tiny_run import assert_same_run, checkpoint_steps, run
from wild import wild

import lrn_tf
from lrn_tf import predict
from lrn_tf.data.problem import FORMS, NUMBERS, differences
from lrn_tf.errors import UserError
from lrn_tf.learning.objectives import Objectives
from lrn_tf.results import curves
from lrn_tf.serving.card import describe, readme
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage import files
from lrn_tf.storage.runs import group, read, table
from lrn_tf.storage.workdir import Workdir

# As many bits of each file are flipped, one at a time; with a seed of its own each time.
FLIPS = 12
SEED = random.SystemRandom().randrange(10**6)


def damages(size):
    """By name, functions from a file's bytes to what is left of them; None is none."""
    rng = random.Random(f"{SEED} {size}")
    lengths = sorted({0, 1, size // 3, size // 2, size - 1})
    found = {"deleted": lambda raw: None}
    found |= {f"cut to {length} of {size}": lambda raw, n=length: raw[:n] for length in lengths}
    for bit in (rng.randrange(8 * size) for _ in range(FLIPS)):
        found[f"bit {bit} of {8 * size} flipped"] = lambda raw, bit=bit: flipped(raw, bit)
    return found


def flipped(raw, bit):
    raw = bytearray(raw)
    raw[bit // 8] ^= 1 << bit % 8
    return bytes(raw)


@contextlib.contextmanager
def damaged(path):
    """Yields each damage's name after it was done to the file, which is mended afterwards."""

    def each():
        for name, damage in damages(len(whole)).items():
            left = damage(whole)
            path.unlink(missing_ok=True)
            if left is not None:
                path.write_bytes(left)
            yield f"{path.name} {name}, seed {SEED}"

    whole = path.read_bytes()
    try:
        yield each()
    finally:
        path.write_bytes(whole)


def refused(call, *arguments):
    """The one line with which it is refused, or None."""
    try:
        call(*arguments)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return str(error)
    return None


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A run of 3 epochs of 5 steps: its last three checkpoints are of the steps 5, 10 and 15."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    run(folder)
    return folder


@pytest.mark.parametrize("step", [5, 10, 15])
@pytest.mark.parametrize("file", ["index", "data-00000-of-00001"])
def test_a_checkpoint_that_is_damaged_costs_no_more_than_itself(tiny, step, file, record_property, capsys):
    """The state that is restored is exactly that of some checkpoint: of another one, but for padding."""
    from lrn_tf.storage.checkpoints import Checkpoints

    states = {s: weights_of(tiny, s) for s in (5, 10, 15)}
    count = 0
    with damaged(tiny / "checkpoints" / f"step-{step}.{file}") as each:
        for name in each:
            found = {
                "method": {"weights": tf.Variable(tf.zeros((4, 2)))},
                "step": tf.Variable(-1, dtype=tf.int64),
            }
            assert Checkpoints(tiny / "checkpoints", found).restore(clean=False), name
            restored, said = int(found["step"]), capsys.readouterr().err
            assert restored in ((15, 10) if step == 15 else (15,)), name
            np.testing.assert_array_equal(found["method"]["weights"], states[restored], err_msg=name)
            assert said == "" or (said.count("\n") == 1 and f"step-{step} is damaged" in said), name
            assert restored == 15 or said or name.startswith("step-15.index deleted"), name
            count += 1
    record_property("corruptions", count)


def weights_of(folder, step):
    reader = tf.train.load_checkpoint(str(folder / "checkpoints" / f"step-{step}"))
    return reader.get_tensor("method/weights/.ATTRIBUTES/VARIABLE_VALUE")


@pytest.mark.parametrize("file", ["config.json", pytest.param("metrics.jsonl", marks=pytest.mark.slow)])
def test_a_run_with_a_damaged_text_is_continued_or_refused(tiny, file, tmp_path, record_property):
    """Whoever continues it ends as if nothing had been, or is told what to mend.

    What cannot show is a digit that changes in metrics.jsonl: its lines have no checksum.
    """
    count, continued = 0, 0
    with damaged(tiny / file) as each:
        for name in each:
            copy = tmp_path / str(count)
            shutil.copytree(tiny, copy)
            said = refused(lambda folder: run(folder, epochs=3), copy)
            if said is None:
                assert checkpoint_steps(copy) == [5, 10, 15], name
                continued += 1
            else:
                assert file in said or "other settings" in said, name
            refused(read, str(copy))
            count += 1
            shutil.rmtree(copy)
    record_property("corruptions", count)
    # Without config.json the settings are those that are given.
    assert continued >= 1


def test_all_that_is_lost_with_config_json_is_written_again(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text("{}")
    assert "delete it to continue with the settings you give" in refused(run, tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    run(tmp_path / "run")
    assert_same_run(tmp_path / "run", tiny)
    for name in ("settings", "about"):
        ours, theirs = (json.loads((f / "config.json").read_text())[name] for f in (tmp_path / "run", tiny))
        assert {**ours, "workdir": ""} == {**theirs, "workdir": ""}


@pytest.mark.parametrize(
    "old, new",
    [('"vocabulary"', '"vocabulry"'), ('"seed": 0', '"seed": 1'), ('"shape": [', '"shape": [1,')],
)
def test_a_changed_config_is_not_taken_for_a_run(tiny, tmp_path, old, new):
    shutil.copytree(tiny, tmp_path / "run")
    text = (tiny / "config.json").read_text()
    assert text.count(old) == 1
    (tmp_path / "run" / "config.json").write_text(text.replace(old, new))
    assert "cannot be read as a run (its checksum does not fit)" in refused(read, str(tmp_path / "run"))


# Valid JSON that nobody expects; as text, since Python would write some of it otherwise.
ODD = st.sampled_from(
    [
        *("null", "true", "0", "-1", "1.5", "1e400", "-1e400", "1e308", "NaN", "Infinity", '""', '"x"'),
        *("1" + "0" * 400, "9" * 5000, "[]", "{}", "[[]]", "[0, 1]", '{"a": 1}', '{"": {"b": []}}'),
        *(r'"\ud800"', r'"\udcff"', r'"\u0000"', '"$"', r'"$\\foo$"', r'"a\nb"', '"٣"', '"test"'),
        *("[" * 600 + "]" * 600, "[" * 10**5 + "]" * 10**5, '{"a":' * 10**4 + "1" + "}" * 10**4),
    ]
)


def places(value, at=()):
    """Where something may be put instead, or beside, in parsed JSON."""
    yield at
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*at, key))


def put(value, at, odd):
    """Text of the value with something else in a place; the odd text None leaves the place out."""
    if not at:
        return odd or "null"
    inner = {key: v for key, v in value.items()} if isinstance(value, dict) else dict(enumerate(value))
    inner = {k: put(v, at[1:], odd) if k == at[0] else json.dumps(v) for k, v in inner.items()}
    if len(at) == 1 and odd is None:
        del inner[at[0]]
    if isinstance(value, list):
        return f"[{', '.join(inner.values())}]"
    return f"{{{', '.join(f'{json.dumps(k)}: {v}' for k, v in inner.items())}}}"


def sealed(text):
    """The text of an object with the checksum that belongs to it; any other text as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(value, dict) or not value:
        return text
    return f"{text[:-1]}, {json.dumps(files.SEAL)}: {json.dumps(files.seal(value)[files.SEAL])}}}"


def twice(run):
    """A run, and the same as another seed: what is said of several is computed too."""
    (alone,) = group([run])
    return dataclasses.replace(alone, runs=[run, run])


def use(folder, drawn=None):
    """All that reads a run, but for its weights; of labels that are in `drawn`, no curves again."""
    found = use_undrawn(folder)
    groups = [twice(found)]
    if drawn is not None:
        if groups[0].label in drawn:
            return
        drawn.add(groups[0].label)
    curves.png(curves.figure(groups, "", curves.panels_of(groups)))
    curves.write(groups, pathlib.Path(folder, "curves.csv"))


def use_undrawn(folder):
    """The same but for its curves, which show nothing of the problem and take most of the time."""
    found = read(folder)
    table([twice(found)]).encode()
    assert found.asked.benchmark
    problem = found.about["problem"]
    assert len(problem.input_of) == len(problem.space_of) == problem.num_tasks
    assert sum(space.tasks for space in problem.label_spaces) == problem.num_tasks and problem.width
    assert not differences(problem, problem)
    Objectives(problem)
    readme(describe(found, 15), types.SimpleNamespace(interface={})).encode()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("file", ["config.json", "metrics.jsonl"])
@pytest.mark.parametrize("problem", [PROBLEM, MIXED, ONLY_NUMBERS], ids=lambda problem: problem.name)
def test_odd_json_is_used_or_refused(file, problem, tmp_path, record_property):
    """One line, never a traceback; and whoever continues such a run is told as well."""
    folder = make_run(tmp_path / "run", [0.1, 0.2, 0.3], problem=problem)
    path, outcomes = tmp_path / "run" / file, []
    drawn = set() if file == "config.json" else None  # of which curves show the label alone
    whole = path.read_text()
    value = json.loads(whole.splitlines()[1] if file == "metrics.jsonl" else whole)
    value.pop("sha256", None)

    @wild(150)
    @hypothesis.given(st.sampled_from(list(places(value))), st.none() | ODD)
    def try_one(at, odd):
        text = put(value, at, odd)
        path.write_text(sealed(text) if file == "config.json" else whole + text + "\n")
        outcomes.append(refused(use, folder, drawn))
        workdir = Workdir(resolve({"benchmark": "cifar_mtl", "workdir": folder}))
        refused(workdir.check)
        refused(workdir.create, {**ABOUT, "problem": problem})
        refused(workdir.rewind_metrics, 30, 10)
        assert not list(tmp_path.rglob("*.partial"))

    try_one()
    record_property("corruptions", len(outcomes))
    assert len([said for said in outcomes if said]) > 50 and None in outcomes


NAMES = st.sampled_from("images,rows,tokens,left,size,, ,a b,3d,tasks,path,self,class,größe".split(","))
NUMBER = st.sampled_from(
    [0, 1, -1, 0.5, 2, 1e-45, 1e30, 1e38, 1e39, -1e308, 1e400, math.nan, True, None, "1", [], 2**62, 2**64]
)
NUMBER_LISTS = st.lists(st.sampled_from([1.0, 0.5, 2, 1e-30]), max_size=4) | st.lists(NUMBER, max_size=3)
ANSWERS = st.lists(st.sampled_from(["no", "yes", "a", "", "\x1b[2J"]), max_size=4) | st.just(["no", None])
# What may stand in a field, by its name; some of it goes with the rest.
ODD_FIELDS = {
    "name": NAMES,
    "input": NAMES,
    "shape": st.lists(st.sampled_from([1, 2, 3, 4, 0, -1, 2**40, 1.5, None, "4"]), max_size=4),
    "dtype": st.sampled_from(["uint8", "float32", "int32", "float64", "uint16", "object", "", None]),
    "mean": NUMBER_LISTS,
    "std": NUMBER_LISTS,
    "vocabulary": NUMBER,
    "form": st.sampled_from([*FORMS, "", "class", None, 3]),
    "answers": ANSWERS,
    "weight": NUMBER,
    "heads": st.sampled_from(["shared", "task", "", "tasks", None, 0]),
    "tasks": st.just([]),
    "inputs": st.just([]),
}


@st.composite
def changes(draw, problem):
    """One to three fields of a problem's parts, and what is put there: (where, field, value) each."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        of = draw(st.sampled_from(["problem", "inputs", "tasks"]))
        at = () if of == "problem" else (of, draw(st.integers(0, len(problem[of]) - 1)))
        part = problem if of == "problem" else problem[at[0]][at[1]]
        field = draw(st.sampled_from(sorted(part)))
        found.append((at, field, draw(ODD_FIELDS[field])))
    return found


def changed(problem, found):
    """The problem with these changes; what was taken away changes no more."""
    problem = copy.deepcopy(problem)
    for at, field, value in found:
        part = problem
        for key in at:
            part = part[key] if isinstance(part, dict) or key < len(part) else {}
        part[field] = value
    return problem


def sound(problem):
    """Whether what JSON says of a problem goes together, by all rules of `lrn_tf.data.problem` in turn."""

    def numbers(values, most=math.inf):
        whole = all(type(v) in (int, float) and abs(v) <= 3.4028234e38 for v in values)
        return type(values) is list and whole and len(values) <= most

    def moments(part, count):
        mean, std = part["mean"], part["std"]
        return numbers(mean) and numbers(std) and len(mean) == len(std) in count and all(s > 0 for s in std)

    def is_input(i):
        shape, tokens = i["shape"], i["dtype"] == "int32"
        if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", i["name"]):
            return False
        if i["name"] in ("tasks", "path", "self", "class") or i["dtype"] not in (
            "uint8",
            "float32",
            "int32",
        ):
            return False
        if not shape or not all(type(side) is int and side > 0 for side in shape):
            return False
        if type(i["vocabulary"]) is not int or not 0 <= i["vocabulary"] < 2**63:
            return False
        return (i["vocabulary"] > 0) == tokens and moments(i, (0,) if tokens else (shape[-1],))

    def is_task(t):
        answers, weight = t["answers"], t["weight"]
        if t["form"] not in FORMS or not all(type(a) is str for a in answers) or not answers:
            return False
        if len(set(answers)) != len(answers) or not numbers([weight]) or weight <= 0:
            return False
        return moments(t, (0, len(answers)) if t["form"] == NUMBERS else (0,))

    inputs, tasks = problem["inputs"], problem["tasks"]
    names = [[part["name"] for part in parts] for parts in (inputs, tasks)]
    return (
        bool(tasks)
        and all(len(set(of)) == len(of) for of in names)
        and {task["input"] for task in tasks} == set(names[0])
        and problem["heads"] in ("shared", "task")
        and all(map(is_input, inputs))
        and all(map(is_task, tasks))
    )


@pytest.mark.slow
@pytest.mark.parametrize("problem", [PROBLEM, MIXED, ONLY_NUMBERS], ids=lambda problem: problem.name)
def test_a_problem_that_does_not_go_together_is_refused(problem, tmp_path, record_property):
    """In one line; and one that does is used. Its checksum is right, as a stranger can make it."""
    folder = make_run(tmp_path / "run", [0.1, 0.2], problem=problem)
    path, outcomes = tmp_path / "run" / "config.json", []
    whole, value = path.read_text(), json.loads(json.dumps(dataclasses.asdict(problem)))
    assert sound(value)

    @wild(250)
    @hypothesis.given(changes(value))
    def try_one(found):
        path.write_text(whole)
        odd = changed(value, found)
        change_config(folder, lambda held: held["about"].update(problem=odd))
        said = refused(use_undrawn, folder)
        if not sound(odd):
            assert said and "metrics.jsonl" not in said
        elif said:  # what was measured is of tasks that are called otherwise, or ask for something else
            assert "of metrics.jsonl has other tasks or examples than config.json" in said
            assert any(field in ("name", "form", "tasks") for _, field, _ in found)
        outcomes.append(said)

    try_one()
    record_property("corruptions", len(outcomes))
    assert len([said for said in outcomes if said]) > 50 and None in outcomes


@pytest.mark.slow
def test_a_model_whose_card_does_not_go_together_is_refused(exported, tmp_path, record_property):
    """Or it answers as it did: what its tasks are called is only said."""
    shutil.copytree(exported / "model", tmp_path / "model")
    path, outcomes = tmp_path / "model" / "lrn_tf.json", []
    card = files.unseal(json.loads(path.read_text()))
    value, before = card["about"]["problem"], answer(exported / "model")

    @wild(60)
    @hypothesis.given(changes(value))
    def try_one(found):
        odd = changed(value, found)
        about = {**card["about"], "problem": odd}
        path.write_text(json.dumps(files.seal({**card, "about": about})))
        said = refused(lambda: outcomes.append(answer(tmp_path / "model")))
        if said is None:
            np.testing.assert_array_equal(outcomes[-1], before)
        else:
            assert "cannot be read as an exported model" in said
            outcomes.append(None)
        assert sound(odd) or said

    try_one()
    record_property("corruptions", len(outcomes))
    assert len([found for found in outcomes if found is None]) > 20


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda p: p["tasks"].pop(), "the pool is not what has made .* there was .* 10 modules"),
        (lambda p: p["tasks"][3].update(answers=["a", "b", "c"]), "the pool is not what has made"),
        (
            lambda p: p["inputs"][0].update(shape=[8, 8, 2], mean=[1, 2], std=[1, 2]),
            "other variables",
        ),
        (lambda p: p["tasks"][3].update(form="numbers", mean=[0, 0], std=[1, 1]), "has other tasks or"),
    ],
)
def test_a_run_on_another_problem_is_not_loaded(exported, tmp_path, change, said):
    """Where the weights do not fit; a stranger's word for what they are of is not taken."""
    shutil.copytree(exported / "run", tmp_path / "run")
    change_config(tmp_path / "run", lambda held: change(held["about"]["problem"]))
    lines = tmp_path / "run" / "metrics.jsonl"
    if "pop" in change.__code__.co_names:
        text = lines.read_text().splitlines()[-1]
        line = json.loads(text)
        line["eval_accuracy_per_task"].popitem()
        lines.write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=said) as caught:
        lrn_tf.load(str(tmp_path / "run"))
    assert "\n" not in str(caught.value)


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype(np.uint8)


def answer(folder):
    return lrn_tf.load(str(folder))(IMAGES, [0, 3, 5, 9])["probabilities"]


@pytest.mark.parametrize(
    "file",
    [
        "saved_model.pb",
        "lrn_tf.json",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
    ],
)
def test_a_damaged_model_is_refused(exported, file, record_property):
    """Also where TensorFlow would see nothing, as within the graph."""
    card, count = json.loads((exported / "model" / "lrn_tf.json").read_text()), 0
    with damaged(exported / "model" / file) as each:
        for name in each:
            said = refused(lrn_tf.load, str(exported / "model"))
            if name.startswith("lrn_tf.json deleted"):
                assert "has no lrn_tf.json and no config.json" in said
            elif said is None:  # a space between two values
                assert file == "lrn_tf.json" and json.loads((exported / "model" / file).read_text()) == card
            else:
                assert "cannot be read as an exported model" in said, name
            count += 1
    answer(exported / "model")
    record_property("corruptions", count)


def test_a_file_of_no_account_may_change(exported, tmp_path):
    shutil.copytree(exported / "model", tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("mine")
    np.testing.assert_array_equal(answer(tmp_path / "model"), answer(exported / "model"))


def test_a_damaged_run_is_not_loaded(exported, record_property):
    """Its only checkpoint, of a real method: the newest state is refused, or it is the right one."""
    before, count = answer(exported / "run"), 0
    for file in ("index", "data-00000-of-00001"):
        path = exported / "run" / "checkpoints" / f"step-1.{file}"
        whole = path.read_bytes()
        for bit in (random.Random(f"{SEED} {file}").randrange(8 * len(whole)) for _ in range(2)):
            path.write_bytes(flipped(whole, bit))
            with contextlib.suppress(UserError):
                np.testing.assert_array_equal(answer(exported / "run"), before)
            count += 1
        path.write_bytes(whole)
    record_property("corruptions", count)


def test_predict_says_it_in_one_line(exported, tmp_path, monkeypatch, capsys):
    """The program, in this process: it ends as `program.run` makes it end."""
    from absl.testing import flagsaver

    from lrn_tf import program

    shutil.copytree(exported / "model", tmp_path / "copy")
    graph = tmp_path / "copy" / "saved_model.pb"
    graph.write_bytes(flipped(graph.read_bytes(), 1000))
    monkeypatch.setattr(sys, "argv", ["predict", f"--model={tmp_path / 'copy'}", "--task=1", "a.png"])
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
        program.run(predict.main, takes="file")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("lrn_tf: ") and "saved_model.pb missing or not as exported" in line


# What runs code that a file brings, or another program.
AUDITED = (
    "pickle.find_class",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "ctypes.dlopen",
)
seen = []
# With what it needs as defaults: the hook outlives the names of this module.
sys.addaudithook(lambda event, _, to=seen, which=AUDITED: to.append(event) if event in which else None)


def test_loading_runs_nothing_but_a_graph(exported):
    answer(exported / "model"), answer(exported / "run")  # what is imported on the way is ours
    seen.clear()
    answer(exported / "model"), answer(exported / "run")
    assert not seen
    import pickle

    pickle.loads(pickle.dumps(files.seal))
    assert seen == ["pickle.find_class"]  # it would have been seen


def test_a_model_holds_no_python(exported):
    """No op of its graph calls back into Python, and nothing of Keras is saved with it."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString((exported / "model" / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    ops = {node.op for function in graph.library.function for node in function.node_def}
    ops |= {node.op for node in graph.node}
    assert len(ops) > 20
    assert not {op for op in ops if "Py" in op or op in ("ReadFile", "WriteFile", "LoadLibrary")} - {
        "SaveV2"
    }
    names = sorted(
        path.relative_to(exported / "model").as_posix() for path in (exported / "model").rglob("*")
    )
    assert not [
        name for name in names if name.endswith((".pkl", ".py", ".keras", ".h5")) or "keras" in name
    ]


def test_the_package_never_unpickles_or_evaluates():
    import ast

    forbidden = {
        "pickle",
        "marshal",
        "shelve",
        "dill",
        "joblib",
        "eval",
        "exec",
        "Lambda",
        "models",
        "allow_pickle",
    }
    for path in pathlib.Path(lrn_tf.__file__).parent.rglob("*.py"):
        words = set()
        for node in ast.walk(ast.parse(path.read_text())):
            words |= {getattr(node, name, None) for name in ("id", "attr", "arg", "module")}
            words |= {alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)}
        assert not words & forbidden, path
    assert os.path.basename(lrn_tf.__file__) == "__init__.py"
