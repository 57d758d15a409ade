"""The programs in tools/ run and print what their documentation says."""

import csv
import importlib
import itertools
import json
import pathlib
import re
import shutil
import subprocess

import conflict
import grid
import numpy as np
import pytest
from made_runs import make_run

import lrn_tf
from lrn_tf.data.benchmarks import benchmark_of
from lrn_tf.errors import UserError
from lrn_tf.settings.resolve import resolve

pytestmark = pytest.mark.slow

TOOLS = pathlib.Path(__file__).parents[1] / "tools"
# Of the settings that a tool works with, those of a step that is compiled fast.
TINY = ("--dup=2", "--depth=3", "--d_model=8", "--actor=pointer")
FEW = ("--batch_size=32", "--minibatch_size=32")


@pytest.fixture
def run(forked, tmp_path):
    """Runs a tool, as `subprocess.run` does."""

    def run_tool(tool, *arguments):
        other = any(argument.startswith("--method=") for argument in arguments)  # without such settings
        said = forked(TOOLS / tool, [*(() if other else TINY), *arguments], tmp_path, longest=600)
        return subprocess.CompletedProcess(tool, *said)

    return run_tool


def test_benchmark_prints_every_part_and_ratio(run):
    done = run("benchmark.py", "--steps=2", "--dup=1", "--depth=2", *FEW)
    assert done.returncode == 0, done.stderr[-2000:]
    # Milliseconds, their floor, the ratio of the two, and the ratio to the fixed network.
    rows = re.findall(r"^ *(\w.*?) {2,}([\d.]+) +([\d.]+) +[\d.]+ +[\d.]+$", done.stdout, re.MULTILINE)
    parts = ["route", "modules forward + backward", "module optimizer", "PPO"]
    wholes = ["LRN step", "fixed network step", "forward + backward"]
    assert {name for name, _, _ in rows} == {*parts, *wholes}
    for name, time, floor in rows:
        # Times on images this small have nothing to do with arithmetic, but none can beat it.
        assert 0 <= float(floor) <= 1.1 * float(time), name
    for pattern in (
        r"first step after [\d.]+ s \(.* compiled before.*\); peak memory [\d.]+ GiB",
        r"mask-all: step [\d.]+ ms",
        r"waiting for data: [\d.]+ x",
        r"evaluation of 3,590 examples \d+ ms: fixed network \d+ ms \+ routing \d+ ms",
    ):
        assert re.search(pattern, done.stdout), done.stdout


def test_early_phase_measures_what_it_says(run):
    done = run("early_phase.py", "--max_steps=20", "--every=20", "--batches=2", *FEW)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = re.findall(r"^step (\d+): (.*)$", done.stdout, re.MULTILINE)
    assert [int(step) for step, _ in rows] == [0, 20]
    for _, row in rows:
        found = dict(re.findall(r"(\D+?) ((?:-?\d+\.\d+ ?)+)", row.replace("; ", ";")))
        found = {name.strip(";"): [float(x) for x in values.split()] for name, values in found.items()}
        assert len(found["entropy"]) == 3 and min(found["entropy"]) > 0
        assert len(found["information"]) == len(found["agreement"]) == 6
        assert all(0 <= bits <= 3.33 for bits in found["information"])
        assert all(-1 <= cosine <= 1 for cosine in found["agreement"])
        assert 0 <= found["share of bonus"][0] <= 1
        assert {"loss", "accuracy", "signal, all", "signal, task"} < set(found)


@pytest.fixture
def early_phase(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("early_phase")


def test_signal_finds_a_difference_between_groups_and_no_other(early_phase):
    """Against known variances; groups of two, where the plain ratio of variances would be far off."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20_000), 2)
    noise = rng.normal(size=len(groups))
    one = np.zeros_like(groups)
    assert early_phase.signal(noise, groups, one) == pytest.approx(0, abs=0.03)
    means = rng.normal(scale=0.5, size=20_000)
    assert early_phase.signal(means[groups] + noise, groups, one) == pytest.approx(0.25, abs=0.03)
    uneven = np.repeat(np.arange(15_000), np.tile([1, 2, 6], 5_000))
    values = means[uneven] + rng.normal(size=len(uneven))
    assert early_phase.signal(values, uneven, np.zeros_like(uneven)) == pytest.approx(0.25, abs=0.03)
    # Within larger groups, of few smaller ones each, which differ from each other much more.
    apart = rng.normal(scale=3, size=5_000)[uneven // 3]
    found = early_phase.signal(values + apart, uneven, uneven // 3)
    assert found == pytest.approx(0.25, abs=0.03)
    found = early_phase.signal(apart + rng.normal(size=len(uneven)), uneven, uneven // 3)
    assert found == pytest.approx(0, abs=0.03)


@pytest.fixture
def transfer(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("transfer")


def test_transfer_gives_new_tasks_few_examples(transfer):
    benchmark = benchmark_of(resolve({}))
    tasks = transfer.with_few(transfer.apart.tasks_of(benchmark), {2, 7}, 20, np.random.default_rng(0))
    for k, task in enumerate(tasks):
        train, test = (np.count_nonzero(part.task == k) for part in (benchmark.train, benchmark.test))
        assert (task.name, tuple(task.answers)) == (f"digit {k}", benchmark.problem.answers[k])
        assert np.bincount(task.y).tolist() == [20, 20] if k in (2, 7) else len(task.y) == train
        assert len(task.test[0]) == len(task.test[1]) == test
    # They are examples of the task, none of them twice.
    train = benchmark.train.some(np.flatnonzero(benchmark.train.task == 7))
    there = {x.tobytes(): y for x, y in zip(train.inputs[0][train.row], train.target, strict=True)}
    assert [there[x.tobytes()] for x in tasks[7].x] == tasks[7].y.tolist()
    assert len({x.tobytes() for x in tasks[7].x}) == 40


def test_scaling_measures_each_method_with_each_number_of_tasks(run, tmp_path):
    small = ("--dup=1", "--depth=2", *FEW)
    done = run("scaling.py", "--counts=2,3", "--steps=3", f"--output={tmp_path}", *small)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = list(csv.DictReader((tmp_path / "scaling.csv").open()))
    methods = ("routing", "lrn", "cross_stitch", "task_fc")
    assert [(row["method"], row["tasks"]) for row in rows] == list(itertools.product(methods, "23"))
    for row in rows:
        # A whole step has the layers in it.
        assert 0 < float(row["layers"]) < 1.5 * float(row["mixed"])
    assert (tmp_path / "scaling.png").read_bytes()[:4] == b"\x89PNG"


def test_price_finds_what_accuracy_costs(forked, tmp_path):
    # A hundredth of a nat for a convolution, 10^-4 GFLOP of it; nothing in three steps.
    common = (
        "--dup=1",
        "--d_model=8",
        "--actor=pointer",
        "--depth=3",
        "--max_steps=3",
        "--seeds=1",
        "--pictures_every=0",
    )
    given = (*common, "--examples=96", *FEW, "--prices=100", "--depths=3", "--output=out")
    end, said, errors = forked(TOOLS / "price.py", list(given), tmp_path, longest=600)
    assert end == 0, errors[-2000:]
    rows = list(csv.DictReader((tmp_path / "out" / "price.csv").open()))
    labels = ["LRN, price 100", "one network, depth 3", "a random path for each task, depth 3"]
    assert [row["label"] for row in rows] == labels
    # conv_in, conv and flat_out on images of 8x8, by hand; two operations each.
    by_hand = 2e-9 * (64 * 9 * 32 + 64 * 9 * 32**2 + 64 * 32 * 2)
    np.testing.assert_allclose([float(row["mean_gflop"]) for row in rows[1:]], by_hand, rtol=1e-6)
    for row in rows:
        assert float(row["gflop_5_percent"]) <= float(row["mean_gflop"]) * (1 + 1e-9)
        assert f"{100 * float(row['accuracy']):.2f}%" in said
    assert (tmp_path / "out" / "price.png").read_bytes()[:4] == b"\x89PNG"
    priced = json.loads((tmp_path / "out" / "price_100_seed_0" / "metrics.jsonl").read_text())
    assert priced["metrics"]["route/gflop"] > 0


def test_worth_compares_ways_by_how_many_examples_there_are(forked, tmp_path):
    ways = {
        "lrn": dict(method="lrn"),
        "one_network": dict(method="unrouted", paths="shared"),
        "a_random_path_for_each_task": dict(method="unrouted", paths="task"),
        "a_network_for_each_task": dict(method="unrouted", paths="own", dup=20),
    }
    folder = tmp_path / "out"
    folder.mkdir()
    for (i, (way, given)), seed in itertools.product(enumerate(ways.items()), (0, 1)):
        # What has not finished, and the smaller number of examples, are not shown.
        finished = (way, seed) != ("lrn", 1)
        run = folder / f"{way}_0_seed_{seed}"
        make_run(run, [0.1, 0.2, 0.5 + 0.1 * i + 0.02 * seed], seed=seed, **given)
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / f"step-{30 if finished else 20}.index").touch()
    given = ("--benchmark=cifar_mtl", "--seeds=2", "--sizes=0,100", "--own_dup=20", "--output=out")
    end, said, errors = forked(TOOLS / "worth.py", [*given, "--max_steps=30", "--plot_only"], tmp_path)
    assert end == 0, errors[-2000:]
    missing = [f"{way}_100_seed_{seed}" for way in ways for seed in (0, 1)]
    assert [re.search(r"out/(\w+)", line)[1] for line in errors.splitlines()] == missing
    table = [[cell.strip() for cell in line.split("|")[1:6]] for line in said.splitlines()[2:]]
    names = [way.replace("_", " ") for way in ways]
    accuracies = ["50.0", *(f"{51 + 10 * i:.1f} ± 1.4" for i in (1, 2, 3))]
    expected = zip(names, "1222", "3333", ["test"] * 4, accuracies, strict=True)
    assert table == [list(row) for row in expected]
    rows = list(csv.DictReader((folder / "worth.csv").open()))
    assert [row["label"] for row in rows] == names[:1] * 3 + [name for name in names[1:] for _ in range(6)]
    assert (folder / "worth.png").read_bytes()[:4] == b"\x89PNG"


PLAN = """
import json, sys
sys.path.insert(0, sys.argv.pop(1))
import worth
rows = lambda: [[label, s.method, s.paths, s.dup, s.examples] for label, (s,) in worth.plan().items()]
worth.lrn_main.run(lambda _: print(json.dumps(rows())))
"""


def test_worth_varies_who_decides_and_how_many_examples_there_are(forked, tmp_path):
    (tmp_path / "plan.py").write_text(PLAN)
    given = ["--benchmark=cifar_mtl", "--dup=5", "--seeds=1", "--sizes=0,100", "--own_dup=20"]
    end, said, errors = forked(tmp_path / "plan.py", [str(TOOLS), *given], tmp_path)
    assert end == 0, errors[-2000:]
    assert json.loads(said) == [
        [label + (", 100 examples" if examples else ""), method, paths, dup, examples]
        for examples in (0, 100)
        for label, method, paths, dup in (
            ("lrn", "lrn", "shared", 5),
            ("one network", "unrouted", "shared", 5),
            ("a random path for each task", "unrouted", "task", 5),
            ("a network for each task", "unrouted", "own", 20),
        )
    ]


def test_every_other_task_has_other_pictures_in_conflict(monkeypatch):
    # Each block of 2x2 pixels has a number of its own.
    block = np.kron(np.arange(6).reshape(2, 3), np.ones((2, 2), int))
    images = (block[None, ..., None] + [[[[10]]], [[[100]]], [[[200]]]]).astype(np.uint8)  # (3, 4, 6, 1)
    answers = np.array([0, 1, 1])
    plain = [lrn_tf.Task(name, images, answers, (images[:2], answers[:2])) for name in "abcd"]
    monkeypatch.setattr(conflict, "cifar_mtl", lambda: list(plain))
    monkeypatch.setattr(conflict, "BLOCK", 2)
    order = conflict.shuffled()[1].x[0, ::2, ::2, 0].ravel() - 10
    assert sorted(order) == list(range(6)) and list(order) != sorted(order)
    other = np.kron(order.reshape(2, 3), np.ones((2, 2), int))[None, ..., None]
    moved = images - block[None, ..., None] + other
    for make, expected in ((conflict.inverted, 255 - images), (conflict.shuffled, moved)):
        for k, (task, given) in enumerate(zip(make(), plain, strict=True)):
            assert task.name == given.name and task.y is answers and task.test[1] is given.test[1]
            np.testing.assert_array_equal(task.x, expected if k % 2 else images)
            np.testing.assert_array_equal(task.test[0], (expected if k % 2 else images)[:2])


def test_hidden_tasks_are_two_in_one_and_told_has_the_parts(monkeypatch):
    images = np.random.default_rng(0).integers(100, 256, (40, 4, 4, 3), np.uint8)
    answers = np.arange(40) % 3
    plain = [
        lrn_tf.Task(name, images, answers, (images[:20], answers[:20]), ("x", "y", "z")) for name in "ab"
    ]
    monkeypatch.setattr(conflict, "cifar_mtl", lambda: list(plain))
    hidden, told = conflict.hidden(), conflict.told()
    assert [task.name for task in told] == ["a bright", "a dark", "b bright", "b dark"]
    for k, task in enumerate(hidden):
        for (x, y), bright, dark in (
            ((task.x, task.y), *((part.x, part.y) for part in told[2 * k : 2 * k + 2])),
            (task.test, *(part.test for part in told[2 * k : 2 * k + 2])),
        ):
            is_dark = x.max(axis=(1, 2, 3)) < 64
            assert 0.2 < is_dark.mean() < 0.8
            np.testing.assert_array_equal(x[~is_dark], images[: len(x)][~is_dark])
            np.testing.assert_array_equal(x[is_dark], images[: len(x)][is_dark] // 4)
            np.testing.assert_array_equal(y, (answers[: len(x)] + is_dark) % 3)
            for part, mine in ((bright, ~is_dark), (dark, is_dark)):
                np.testing.assert_array_equal(part[0], x[mine])
                np.testing.assert_array_equal(part[1], y[mine])
    problem = benchmark_of(resolve({"heads": "task"})).problem  # digits_mtl
    assert [kind.count for kind in conflict.two_heads(problem, 5)] == [5, 5, 5, 20]


def test_table_1_trains_every_run_once_and_tells_what_came_out(run, tmp_path):
    def table(*arguments):
        lists = ("--benchmarks=digits_mtl", "--methods=task_head,shared", "--seeds=2", "--examples=1280")
        done = run("table1.py", *lists, f"--output={tmp_path}", *arguments)
        assert done.returncode == 0, done.stderr[-2000:]
        return done

    def stamps():
        return {path: path.stat().st_mtime_ns for path in tmp_path.glob("digits_mtl/*/metrics.jsonl")}

    first = table("--epochs=1", "--parallel=2")
    assert "4 runs, 0 finished before" in first.stderr
    before = stamps()
    assert sorted(path.parent.name for path in before) == [
        f"{method}_seed_{seed}" for method in ("shared", "task_head") for seed in (0, 1)
    ]
    shutil.rmtree(tmp_path / "digits_mtl" / "shared_seed_1")
    again = table("--epochs=1")
    assert "4 runs, 3 finished before" in again.stderr
    assert {path: time for path, time in stamps().items() if "shared_seed_1" not in str(path)} == {
        path: time for path, time in before.items() if "shared_seed_1" not in str(path)
    }
    assert "finished before" not in table("--epochs=1", "--plot_only").stderr

    rows = list(csv.DictReader((tmp_path / "table1.csv").open()))
    assert [row["method"] for row in rows] == ["task_head", "shared"]
    for row in rows:
        accuracies = [
            json.loads((tmp_path / f"digits_mtl/{row['method']}_seed_{seed}/metrics.jsonl").read_text())
            for seed in (0, 1)
        ]
        accuracies = [100 * line["eval_accuracy"] for line in accuracies]
        assert float(row["accuracy, %"]) == pytest.approx(np.mean(accuracies), abs=0.006)
        assert float(row["deviation"]) == pytest.approx(np.std(accuracies, ddof=1), abs=0.006)
        assert (row["seeds"], row["epochs"]) == ("2", "1")
    lines = (tmp_path / "table1.md").read_text().splitlines()
    assert lines[2].startswith("| digits_mtl | task_head | 2 | 1 | test | ")
    assert (tmp_path / "digits_mtl.png").read_bytes()[:4] == b"\x89PNG"


def test_figure_5_is_with_and_without_the_bonus(forked, tmp_path):
    few = ("--examples=256", "--image_size=8", "--epochs=1", "--seeds=1", "--d_model=4", "--parallel=2")
    # What is asked here is which runs there are, so that nothing needs to be learned, on whatever data.
    flags = ["--figure=5", f"--output={tmp_path}", *few]
    quick = dict(longest=600, stand_in=3, data="digits_mtl")
    code, _, err = forked(TOOLS / "figures.py", flags, tmp_path, **quick)
    assert code == 0, err[-2000:]
    labels = ["dup_5_depth_4", "dup_5_depth_4_no_bonus"]
    rows = list(csv.DictReader((tmp_path / "figure_5.csv").open()))
    assert [(row["label"], row["seed"], row["epoch"], row["step"]) for row in rows] == [
        (label, "0", "1", "2") for label in labels
    ]
    for label, bonus in zip(labels, (resolve({}).bonus, 0), strict=True):
        config = json.loads((tmp_path / "mnist_mtl" / f"{label}_seed_0" / "config.json").read_text())
        assert config["settings"]["bonus"] == bonus
        assert config["about"]["training_examples"] == 256
    assert (tmp_path / "figure_5.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_that_fails_is_named_and_does_not_stop_the_others(tmp_path):
    settings = [
        resolve({"benchmark": "min_mtl", "data_dir": str(tmp_path), "workdir": str(tmp_path / "bad")}),
        resolve({"method": "shared", "max_steps": 2, "examples": 256, "workdir": str(tmp_path / "good")}),
    ]
    assert not any(map(grid.is_finished, settings))
    with pytest.raises(UserError, match="1 of 2 runs failed; see .*bad/log.txt$"):
        grid.train_all(settings, 2)
    assert "lrn_tf: " in (tmp_path / "bad" / "log.txt").read_text()
    assert [grid.is_finished(one) for one in settings] == [False, True]


@pytest.mark.parametrize(
    "tool, argument, said",
    [
        (
            "table1.py",
            "--method=lrn",
            "--method=lrn is set or varied by --benchmarks, --methods or --output; leave it out",
        ),
        ("table1.py", "--benchmarks=mnist", "--benchmark=mnist is unknown; choose one of: digits_mtl, "),
        ("table1.py", "--methods=lrm", "--method=lrm is unknown; choose one of: lrn, random_route, "),
        ("figures.py", "--figure=5", "--dup=2 is set or varied by --figure=5; leave it out"),
        (
            "early_phase.py",
            "--method=task_fc",
            "--method=task_fc has no router; choose one of: lrn, random_route",
        ),
        (
            "benchmark.py",
            "--method=routing",
            "--method=routing is not what is measured here; leave it out",
        ),
        ("benchmark.py", "--mixup=0.5", "--mixup=0.5 is set or varied by this program; leave it out"),
        ("early_phase.py", "--mixup=0.5", "--mixup=0.5 is set or varied by this program; leave it out"),
        (
            "scaling.py",
            "--methods=unrouted",
            "--methods=unrouted has no layers of its own to compare; leave it out",
        ),
        ("scaling.py", "--counts=2,x", "--counts=2,x must be numbers of tasks such as 2,5,10,20"),
        ("worth.py", "--sizes=0,x", "--sizes=0,x must be numbers of examples such as 0,10000,2000"),
        ("worth.py", "--method=lrn", "--method=lrn is set or varied by this program; leave it out"),
        ("price.py", "--price=2", "--price=2.0 is set or varied by this program; leave it out"),
    ],
)
def test_bad_lists_are_one_line(run, tool, argument, said):
    done = run(tool, argument)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(f"lrn_tf: {said}")


@pytest.mark.parametrize(
    "tool",
    ["benchmark.py", "early_phase.py", "price.py", "scaling.py", "table1.py", "transfer.py", "worth.py"],
)
def test_bad_input_is_one_line(run, tool):
    done = run(tool, "--dup=0")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["lrn_tf: --dup=0 is out of range; allowed is 1 to 1000"]
