"""The page about a run: it stands alone, says what was measured, and is written whole or not at all."""

import collections
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from made_runs import change_settings

from lrn_tf.data.benchmarks import Benchmark, Examples
from lrn_tf.errors import UserError
from lrn_tf.main import train
from lrn_tf.report import report
from lrn_tf.results import page, report_sections
from lrn_tf.results.evaluation import Evaluation
from lrn_tf.settings import resolve

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Reads a page: elements with their attributes, text, and that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._open = [], collections.defaultdict(str), []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style", "title"} & set(self._open):
            self.text["all"] += data
        self.text[self._open[-1] if self._open else ""] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


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


def test_the_same_run_makes_the_same_page(made, digits_run, tmp_path):
    (tmp_path / "index.html").write_text("what was there")
    report(str(digits_run), str(tmp_path))
    assert (tmp_path / "index.html").read_text() == made.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lrn", "cross_stitch", "shared"])
def test_other_methods(method, tmp_path):
    given = dict(method=method, dup=1, depth=3, d_model=8, actor="pointer", max_steps=3, pictures_every=1)
    train(resolve({**given, "workdir": str(tmp_path / "run")}))
    report(str(tmp_path / "run"), str(tmp_path / "page"))
    found = assert_stands_alone((tmp_path / "page/index.html").read_text())
    accuracy = float(found.all("data")[0]["value"])
    assert accuracy == last_line(tmp_path / "run")["eval_accuracy"]
    assert ("does not route" in found.text["all"]) == (method == "cross_stitch")
    assert (tmp_path / "run/projector_config.pbtxt").exists() == (method == "lrn")


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
        (lambda run: (run / "metrics.jsonl").write_text(""), "has not finished an epoch"),
        (lambda run: change_config(run, benchmark=1), "its settings are none of this version .* is int"),
        (lambda run: change_config(run, wings=2), "its settings are none of this version .* 'wings'"),
        (lambda run: change_line(run, eval_loss=None), "line 2 is damaged .* not a finite number"),
        (lambda run: change_line(run, eval_accuracy_per_task={}), "has other tasks or images"),
    ],
)
def test_what_is_no_run(broken, tmp_path, spoil, said):
    spoil(broken)
    with pytest.raises(UserError, match=said) as caught:
        report(str(broken), str(tmp_path / "page"))
    assert "\n" not in str(caught.value) and not (tmp_path / "page").exists()


def test_an_output_that_cannot_be_written(digits_run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder" / "index.html").mkdir(parents=True)
    for output in ("file", "file/in/it", "folder"):
        with pytest.raises(UserError, match="cannot be written") as caught:
            report(str(digits_run), str(tmp_path / output))
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "kept"

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
    data = Examples(
        np.arange(n), np.array([0, 0, 0, 1, 1, 1]), np.zeros(n, int), np.zeros((n, 2, 2, 1), np.uint8)
    )
    benchmark = Benchmark("b", ("x", "y"), (("no", "yes"),) * 2, data, data)
    predicted, p = np.array([0, 0, 1, 0, 0, 0]), np.array([0.6, 0.9, 0.7, 0.8, 0.95, 0.55])
    held = Evaluation(2, {}, data.task, data.label, predicted, p, p, np.zeros((n, 0), int), p)
    shown = report_sections.Shown(None, resolve({}), benchmark, None, 1, held)
    alts = [image["alt"] for image in Page("".join(report_sections.examples(shown))).all("img")]
    # Right of each task: rows 1 and 4; wrong: row 2, and none of the second task.
    assert alts == ["Example 1: no", "Example 4: no", "Example 2: no"]
