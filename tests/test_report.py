"""The page about a run: it stands alone, says what was measured, and is written whole or not at all."""

import collections
import dataclasses
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from made_runs import ONLY_NUMBERS, change_settings, make_run

from lrn_tf.data import benchmarks
from lrn_tf.data.benchmarks import Benchmark, benchmark_of, load
from lrn_tf.data.examples import Examples
from lrn_tf.data.problem import CLASSES, InputSpec, Problem, TaskSpec
from lrn_tf.errors import UserError
from lrn_tf.main import train
from lrn_tf.methods.build import build
from lrn_tf.report import report
from lrn_tf.results import page, report_sections
from lrn_tf.results.evaluation import Evaluation, Evaluator
from lrn_tf.settings.resolve import resolve
from lrn_tf.storage.runs import read

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Reads a page: elements with their attributes, text, and that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._open = [], collections.defaultdict(str), []
        self.tables = []  # of each its caption and its rows, cell by cell
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag in ("tr", "caption"):
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style", "title"} & set(self._open):
            self.text["all"] += data
        self.text[self._open[-1] if self._open else ""] += data
        if "caption" in self._open:
            self.tables[-1][0].append(data)
        elif {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def table(found, caption):
    """The rows of the table with a caption that begins so."""
    (rows,) = [t[2:] for t in found.tables if "".join(t[0]).startswith(caption)]
    return rows


def rows_of(found, name):
    """All rows of tables that begin with a name."""
    return [row for t in found.tables for row in t[2:] if row[0] == name]


@pytest.fixture(scope="session")
def made(digits_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    before = {path: path.stat().st_mtime_ns for path in digits_run.rglob("*")}
    report(str(digits_run), str(folder))
    assert {path: path.stat().st_mtime_ns for path in digits_run.rglob("*")} == before
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    return folder / "index.html"


def last_line(run):
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])


def assert_stands_alone(text):
    found = Page(text)
    assert not found.all("script") and not found.all("link") and not found.all("iframe")
    for _, attributes in found.elements:
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    assert not re.search(r"https?:|@import|url\(", text)
    for image in found.all("img"):
        assert image["alt"].strip()
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in found.all("a"):
        assert link["href"][1:] in ids
    for _, attributes in found.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
    assert found.all("html")[0]["lang"] == "en" and len(found.all("h1")) == 1 and found.all("main")
    assert "width=device-width" in str(found.all("meta"))
    return found


@pytest.mark.slow
def test_it_stands_alone(made):
    found = assert_stands_alone(made.read_text())
    for heading in ("Training", "Tasks", "Modules and paths", "Examples", "Compute", "Settings"):
        assert heading in found.text["h2"]
    # Curves, a confusion matrix per task, heat map, sharing, lengths, paths; two examples per task at most.
    assert 4 + 10 + 4 < len(found.all("img")) <= 4 + 10 + 4 + 20


def test_its_numbers_are_those_of_the_run(made, digits_run):
    line = last_line(digits_run)
    values = [float(data["value"]) for data in Page(made.read_text()).all("data")]
    assert values == [
        line["eval_accuracy"],
        pytest.approx(line["eval_loss"]),
        *line["eval_accuracy_per_task"].values(),
    ]
    said = Page(made.read_text()).text["all"]
    assert f"{line['routes']['unused_modules']} of 30 modules" in said
    assert f"{line['eval_accuracy']:.2%}" in said and "step 20" in said


def test_compute_is_that_of_three_layers(made):
    said = Page(made.read_text()).text["all"]
    layers = (32 * 128 + 128 * 128 + 128 * 2) / 1e6
    assert f"take {layers:,.3f} million multiply-adds on average" in said
    trunk = 9 * (64 * 1 * 32 + 16 * 32 * 32 + 4 * 32 * 32 + 1 * 32 * 32) / 1e6
    assert f"{trunk:,.3f} million more" in said


@pytest.mark.slow
def test_the_same_run_makes_the_same_page(made, digits_run, tmp_path):
    (tmp_path / "index.html").write_text("what was there")
    report(str(digits_run), str(tmp_path))
    assert (tmp_path / "index.html").read_text() == made.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cross_stitch", "shared"])
def test_other_methods(method, tmp_path):
    given = dict(method=method, max_steps=3, pictures_every=1)
    train(resolve({**given, "workdir": str(tmp_path / "run")}))
    report(str(tmp_path / "run"), str(tmp_path / "page"))
    found = assert_stands_alone((tmp_path / "page/index.html").read_text())
    accuracy = float(found.all("data")[0]["value"])
    assert accuracy == last_line(tmp_path / "run")["eval_accuracy"]
    assert ("has no paths" in found.text["all"]) == (method == "cross_stitch")
    assert not (tmp_path / "run/projector_config.pbtxt").exists()


def test_names_are_escaped():
    text = page.document("<t>", [page.table("<c>", ["<a>"], [[page.text("<&>")]]), page.paragraph("<p>")])
    found = Page(text)
    assert not found.all("t") and not found.all("c") and "<&>" in found.text["th"]


@pytest.fixture
def broken(digits_run, tmp_path):
    """A copy of the run that may be spoiled."""
    shutil.copytree(digits_run, tmp_path / "run")
    return tmp_path / "run"


def change_config(run, **settings):
    change_settings(run, lambda held: held.update(settings))


def change_line(run, **values):
    """Changes the last one."""
    *lines, last = (run / "metrics.jsonl").read_text().splitlines()
    lines.append(json.dumps(json.loads(last) | values))
    (run / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))


@pytest.mark.parametrize(
    "spoil, said",
    [
        (lambda run: shutil.rmtree(run), "has no config.json; give the folder of a run"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "holds no checkpoint"),
        (lambda run: (run / "metrics.jsonl").write_text(""), "has not been evaluated yet"),
        (lambda run: change_config(run, benchmark=1), "its settings are none of this version .* is int"),
        (lambda run: change_config(run, wings=2), "its settings are none of this version .* 'wings'"),
        (lambda run: change_line(run, eval_loss=None), "line 2 is damaged .* not a finite number"),
        (lambda run: change_line(run, eval_accuracy_per_task={}), "has other tasks or examples"),
    ],
)
def test_what_is_no_run(broken, tmp_path, spoil, said):
    spoil(broken)
    with pytest.raises(UserError, match=said) as caught:
        report(str(broken), str(tmp_path / "page"))
    assert "\n" not in str(caught.value) and not (tmp_path / "page").exists()


def test_examples_that_are_no_longer_all_there(digits_run, tmp_path, monkeypatch):
    def less(*given):
        data = load(*given)
        return dataclasses.replace(data, test=data.test.some(range(len(data.test) - 1)))

    monkeypatch.setattr(benchmarks, "load", less)
    with pytest.raises(UserError, match=r"no longer those .*: there were (\S+) eval examples, there are"):
        report(str(digits_run), str(tmp_path / "page"))


def test_an_output_that_cannot_be_written(digits_run, tmp_path, monkeypatch):
    """It is said before anything is evaluated."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder" / "index.html").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "either")
    with monkeypatch.context() as patch:
        patch.setattr(benchmarks, "load", lambda *_: pytest.fail("too late"))
        for output in ("file", "file/in/it", "folder", "link", "/proc/page", "/dev/full/page"):
            with pytest.raises(UserError, match="cannot be written") as caught:
                report(str(digits_run), str(tmp_path / output))
            assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_sections, "page_of", lambda shown: "a page")
    monkeypatch.setattr(os, "replace", full)
    (tmp_path / "index.html").write_text("kept")
    with pytest.raises(UserError, match="No space left"):
        report(str(digits_run), str(tmp_path))
    assert (tmp_path / "index.html").read_text() == "kept"


def command(*arguments):
    command = [sys.executable, "-m", "lrn_tf.report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ((), "--workdir is missing; see --help"),
        (("--workdir=a",), "--output is missing; see --help"),
        (("--workdir=/nowhere", "--output=b"), "/nowhere has no config.json; give the folder of a run"),
        (("a",), "'a' is no flag"),
        (("--workdir=a\udcff", "--output=b"), "--workdir=a\\udcff is not UTF-8; give one that is"),
    ],
)
def test_bad_input_is_one_line(arguments, said):
    done = command(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(f"lrn_tf: {said}")


def test_surest_answers_are_shown():
    n = 6
    task = np.array([0, 0, 0, 1, 1, 1])
    data = Examples(np.arange(n), task, np.zeros(n, int), (np.zeros((n, 2, 2, 1), np.uint8),))
    image = InputSpec("images", (2, 2, 1), "uint8", (0.0,), (1.0,))
    tasks = [TaskSpec(name, "images", CLASSES, ("no", "yes")) for name in ("x", "y")]
    benchmark = Benchmark(Problem("b", (image,), tuple(tasks)), data, data)
    predicted, p = np.array([0, 0, 1, 0, 0, 0]), np.array([0.6, 0.9, 0.7, 0.8, 0.95, 0.55])
    answers = np.where(np.eye(2)[predicted], p[:, None], 1 - p[:, None])
    right = (predicted == 0).astype(float)
    held = Evaluation(benchmark.problem, {}, task, data.target, answers, right, p, np.zeros((n, 0), int), p)
    shown = report_sections.Shown(None, resolve({}), benchmark, None, 1, held)
    alts = [image["alt"] for image in Page("".join(report_sections.examples(shown))).all("img")]
    # Right of each task: rows 1 and 4; wrong: row 2, and none of the second task.
    assert alts == ["Example 1: no", "Example 4: no", "Example 2: no"]


@pytest.fixture(scope="module")
def of_mixed(mixed_run, tmp_path_factory):
    """The page about a run on tasks of every form, and what its examples are."""
    folder, given = tmp_path_factory.mktemp("of_mixed"), f"{mixed_run}/tasks.py:tasks"
    report(str(mixed_run / "run"), str(folder), benchmark=given)
    benchmark = benchmark_of(resolve({"benchmark": given, "dup": 1}))
    return assert_stands_alone((folder / "index.html").read_text()), benchmark


@pytest.mark.slow
def test_every_form_of_answers_has_a_table(of_mixed, mixed_run):
    found, data = of_mixed
    assert found.text["h1"] == "tasks:tasks, lrn"
    assert (mixed_run / "run" / "projector_config.pbtxt").exists()
    line, test = last_line(mixed_run / "run"), data.test
    captions = found.text["caption"]
    for words in ("largest class", "The share of labels that are right", "How far predicted numbers are"):
        assert words in captions
    for name, share in line["eval_accuracy_per_task"].items():
        assert rows_of(found, name)[0][1:3] == [f"{(test.task == index(data, name)).sum()}", f"{share:.1%}"]
    # Labels: what one gets by always giving each or never.
    given = test.target[test.task == index(data, "words")].mean(axis=0)
    assert rows_of(found, "words")[0][3] == f"{np.maximum(given, 1 - given).mean():.1%}"
    spread = test.target[test.task == index(data, "sums")][:, :2].std(axis=0)
    numbers = rows_of(found, "sums")[:2]
    assert [row[1] for row in numbers] == ["sum", "hundredfold"]
    assert [row[4] for row in numbers] == [f"{std:.4g}" for std in spread]
    errors = np.array([[float(row[3]), float(row[5])] for row in numbers]).mean(axis=0)
    assert errors[0] == pytest.approx(line["eval_mae_per_task"]["sums"], rel=1e-3)
    assert errors[1] == pytest.approx(line["eval_r2_per_task"]["sums"], abs=2e-3)
    assert f"{line['eval_r2_per_task']['sums']:.3f}" in found.text["dd"] + found.text["data"]


@pytest.mark.slow
def test_only_images_are_shown_as_such(of_mixed):
    found, data = of_mixed
    alts = [image["alt"] for image in found.all("img")]
    assert sum(alt.startswith("Predicted against true numbers of sums, R2") for alt in alts) == 1
    assert sum(alt.startswith("Confusion matrix of ") for alt in alts) == 2
    # A picture of an example is one of the only task of images; others are told without.
    shown = [int(re.match(r"Example (\d+):", alt)[1]) for alt in alts if alt.startswith("Example")]
    assert 1 <= len(shown) <= 2 and {data.test.task[row] for row in shown} == {0}
    boxes = [a["class"] for a in found.all("div") if a.get("class", "").startswith("example ")]
    assert len(boxes) > len(shown)


@pytest.mark.slow
def test_compute_counts_every_module(of_mixed):
    """Of a kind that serves several label spaces there are several."""
    found, _ = of_mixed
    by_kind = {row[0]: [int(cell.replace(",", "")) for cell in row[1:]] for row in table(found, "Kinds of")}
    assert by_kind["images_conv"] == [1, 9 * 16 * 16 + 3 * 16, 6 * 5 * 9 * 16 * 16]
    assert by_kind["out_2_own"] == [2, 64 * 2 + 2, 64 * 2]
    assert by_kind["out_3_own"] == [2, 64 * 3 + 3, 64 * 3]
    assert by_kind["tokens_in"][2] == 0 and by_kind["rows_in"] == [1, 3 * 64 + 3 * 64, 3 * 64]
    assert by_kind["tokens_attention"][2] == 4 * 16 * 16 * (4 + 4) + 2 * 4 * 4 * 16


@pytest.mark.slow
def test_a_page_of_rows_and_numbers_alone(tmp_path):
    """There is no accuracy, no picture of an example, and nothing is taken for anything."""
    rng = np.random.default_rng(0)
    target, row = rng.normal(ONLY_NUMBERS.tasks[0].mean, 3, (40, 2)).astype(np.float32), np.arange(40)
    examples = Examples(row, np.zeros(40, np.int32), target, (rng.normal(size=(40, 3)).astype(np.float32),))
    folder = make_run(
        tmp_path / "run", [None] * 3, problem=ONLY_NUMBERS, pool="mixed", dup=1, depth=2, d_model=4
    )
    run = read(folder)
    method = build(ONLY_NUMBERS, run.asked)
    evaluation = Evaluator(method, examples, ONLY_NUMBERS)()
    data = Benchmark(ONLY_NUMBERS, examples, examples)
    text = report_sections.page_of(report_sections.Shown(run, run.asked, data, method, 30, evaluation))
    found = assert_stands_alone(text)
    assert found.text["h1"] == "numbers, lrn" and "No task asks for classes." in found.text["p"]
    alts = [image["alt"] for image in found.all("img")]
    assert alts[0].startswith("Curve of test loss by epoch") and "accuracy" not in "".join(alts)
    assert not [alt for alt in alts if alt.startswith(("Example", "Confusion"))]
    assert sum(alt.startswith("Predicted against true numbers of size, R2 ") for alt in alts) == 1
    assert "Accuracy" not in found.text["dt"] and "R2 of size" in found.text["dt"]
    (height, width), answers = rows_of(found, "size")[:2], evaluation.answers
    for d, cells in enumerate((height, width)):
        assert cells[1:3] == [ONLY_NUMBERS.tasks[0].answers[d], "40"]
        assert cells[3] == f"{np.abs(target[:, d] - answers[:, d]).mean(dtype=float):.4g}"
    assert all(row[-1] == "-" for row in table(found, "The most used networks of each task"))


@pytest.mark.slow
def test_a_run_that_started_from_another(mixed_run, tmp_path):
    """Its inputs are standardised as those of the first, whose training examples are others."""
    given = dict(benchmark=f"{mixed_run}/tasks.py:tasks", pool="mixed", dup=1, depth=3, d_model=8)
    given |= dict(actor="pointer", batch_size=32, seed=1, max_steps=1)
    given |= dict(method="random_route", pictures_every=0)
    first = shutil.copytree(mixed_run / "run", tmp_path / "first")
    asked = resolve({**given, "workdir": str(tmp_path / "run"), "init_from": str(first)})
    train(asked)
    shutil.rmtree(first)
    train(asked)  # what it has learned itself needs the other no more
    report(str(tmp_path / "run"), str(tmp_path / "page"), benchmark=given["benchmark"])
    found = assert_stands_alone((tmp_path / "page" / "index.html").read_text())
    line = last_line(tmp_path / "run")
    values = [float(data["value"]) for data in found.all("data")]
    assert values[:2] == [line["eval_accuracy"], pytest.approx(line["eval_r2_per_task"]["sums"], rel=1e-5)]
    assert values[2] == pytest.approx(line["eval_loss"], rel=1e-5)


@pytest.mark.slow
def test_code_is_started_only_where_it_is_given(mixed_run, tmp_path):
    """Not because a run says so, which may be a stranger's."""
    with pytest.raises(UserError, match="if you trust it, give it with --benchmark=FILE.py:FUNCTION"):
        report(str(mixed_run / "run"), str(tmp_path / "page"))
    other = (mixed_run / "tasks.py").read_text().replace('("dark", "light")', '("dark", "bright")')
    (tmp_path / "other.py").write_text(other)
    with pytest.raises(UserError, match="no longer those that .* has learned: answers of task light was"):
        report(str(mixed_run / "run"), str(tmp_path / "page"), benchmark=f"{tmp_path}/other.py:tasks")
    # Or a folder, if it has moved.
    with pytest.raises(UserError, match="nowhere cannot be read"):
        report(str(mixed_run / "run"), str(tmp_path / "page"), benchmark=f"{tmp_path}/nowhere")
    assert not (tmp_path / "page").exists()


def index(data, name):
    return data.problem.task_names.index(name)
