"""What the page about a run says, section by section."""

import dataclasses
from typing import Any

import numpy as np

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS
from lrn_tf.modules import cost as costs
from lrn_tf.results import curves, page, pictures
from lrn_tf.results.evaluation import Evaluation
from lrn_tf.results.page import text
from lrn_tf.results.path_graph import MOST, called, top_paths
from lrn_tf.settings.resolve import defaults
from lrn_tf.settings.table import Settings, behind_results
from lrn_tf.storage.metrics import SPLITS
from lrn_tf.storage.runs import Group, Run

# Networks in the graph, and of each task in the table.
OF_TASK = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """A run, and what its method does on the examples that it is evaluated on, after a step.

    Its method is a `lrn_tf.methods.method.Method`.
    """

    run: Run
    settings: Settings
    benchmark: Benchmark
    method: Any
    step: int
    evaluation: Evaluation

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.benchmark.problem.task_names


def page_of(shown: Shown) -> str:
    """The whole page."""
    sections = {
        "curves": ("Training", training),
        "tasks": ("Tasks", tasks),
        "modules": ("Modules and paths", modules),
        "examples": ("Examples", examples),
        "compute": ("Compute", cost),
        "settings": ("Settings", settings),
    }
    title = f"{shown.benchmark.name}, {shown.settings.method}"
    links = "".join(f'<li><a href="#{name}">{text(t)}</a></li>' for name, (t, _) in sections.items())
    return page.document(
        title,
        [
            f"<header>\n<h1>{text(title)}</h1>\n{summary(shown)}\n</header>",
            f'<nav aria-label="Sections"><ul>{links}</ul></nav>',
            "<main>",
            *(page.section(name, t, *write(shown)) for name, (t, write) in sections.items()),
            "</main>",
        ],
    )


def summary(shown: Shown) -> str:
    """The numbers that tell how it went."""
    e, line = shown.evaluation, shown.run.lines[-1]
    rows = [] if e.accuracy is None else [("Accuracy", page.exact(e.accuracy, f"{e.accuracy:.2%}"))]
    for k in e.tasks_of(NUMBERS):
        r2 = float(e.errors(k)[1].mean())
        rows.append((f"R2 of {called(shown.tasks[k])}", page.exact(r2, f"{r2:.3f}")))
    name, unit = ("Cross-entropy", " nats") if shown.benchmark.problem.only_classes else ("Loss", "")
    rows += [
        (name, page.exact(e.mean_loss, f"{e.mean_loss:.3f}{unit}")),
        ("Measured on", f"{len(e.task):,} {SPLITS[line.split]}"),
        ("After", f"step {shown.step:,}; the run's last evaluated epoch is {line.epoch}"),
        ("Weights", f"{sum(w.shape.num_elements() for w in shown.method.weights):,}"),
    ]
    if e.num_modules:
        rows += [
            ("Networks", f"{len(e.networks[0]):,} different ones, {e.mean_length:.2f} modules each"),
            ("Unused", f"{e.unused_modules} of {e.num_modules} modules are in nobody's network"),
        ]
    return page.terms(rows)


def training(shown: Shown):
    """Curves over the epochs."""
    group, last = Group("", [shown.run]), shown.run.lines[-1].epoch
    panels = ([] if shown.evaluation.accuracy is None else [curves.ACCURACY]) + [curves.LOSS]
    if shown.evaluation.num_modules:
        panels += [curves.UNUSED, curves.LENGTH]
    drawn = []
    for name, of_run in panels:
        values = of_run(shown.run)
        name = curves.named(name, [group])
        alt = f"Curve of {name} by epoch, from {values[0]:.4g} to {values[-1]:.4g} in epoch {last}"
        figure = curves.figure([group], panels=((curves.EPOCHS, (name, of_run)),))
        drawn.append(page.picture(figure, alt))
    yield f'<div class="grid">{"".join(drawn)}</div>'


def tasks(shown: Shown):
    """How well each task is answered, and what is taken for what."""
    e = shown.evaluation
    if of_classes := e.tasks_of(CLASSES):
        yield _classes_table(shown, of_classes)
    if of_labels := e.tasks_of(LABELS):
        yield _labels_table(shown, of_labels)
    if of_numbers := e.tasks_of(NUMBERS):
        yield _numbers_table(shown, of_numbers)
    drawn = []
    for k in of_classes:
        name = called(shown.tasks[k])
        alt = f"Confusion matrix of {name}: {_confusions(e, k)}"
        caption = f"{name}: {e.accuracy_per_task[k]:.1%} right"
        drawn.append(page.picture(pictures.confusion(e, k), alt, caption))
    if drawn:
        yield "<h3>What is taken for what</h3>"
        yield page.paragraph(
            "Counts of examples by true and predicted class. A darker cell is a larger share of its true"
            " class."
        )
        yield f'<div class="grid">{"".join(drawn)}</div>'
    for k in of_numbers:
        name, r2 = called(shown.tasks[k]), e.errors(k)[1]
        first = "" if len(r2) <= pictures.DRAWN else f", the first {pictures.DRAWN} of {len(r2)}"
        said = ", ".join(f"{x:.2f}" for x in r2[: pictures.DRAWN])
        alt = f"Predicted against true numbers of {name}{first}, R2 {said}"
        caption = f"{name}: predicted against true numbers{first}"
        yield page.picture(pictures.predictions(e, k), alt, caption)


def _classes_table(shown, tasks):
    """Of tasks that ask for one of several classes."""

    def largest(given):
        return np.bincount(given[:, 0].astype(int), minlength=1).max() / max(len(given), 1)

    caption = (
        "Accuracy of each task, and the share of its largest class: what one gets by always naming that."
    )
    return _accuracy_table(shown, tasks, largest, ("largest class", "classes"), caption)


def _labels_table(shown, tasks):
    """Of tasks that ask for any of several labels."""

    def plain(given):
        if not len(given):
            return 0.0
        share = given.mean(axis=0)
        return np.maximum(share, 1 - share).mean()

    caption = (
        "The share of labels that are right, and what one gets by always giving each label or never,"
        " whichever is right more often."
    )
    return _accuracy_table(shown, tasks, plain, ("without looking", "labels"), caption)


def _accuracy_table(shown, tasks, plain, called_there, caption):
    """Accuracy beside that of not looking, which `plain` works out of targets `[n, C]`."""
    e, rows = shown.evaluation, []
    targets = e.target.reshape(len(e.target), -1)
    for k in tasks:
        mine, spec = e.task == k, shown.benchmark.problem.tasks[k]
        accuracy = e.accuracy_per_task[k]
        shares = page.exact(accuracy, f"{accuracy:.1%}"), f"{plain(targets[mine, : spec.width]):.1%}"
        rows.append((text(called(spec.name)), f"{mine.sum():,}", *shares, text(", ".join(spec.answers))))
    columns = ("task", "examples", "accuracy", *called_there)
    return page.table(caption, columns, rows, numbers=columns[1:4])


def _numbers_table(shown, tasks):
    e, rows = shown.evaluation, []
    for k in tasks:
        mine, spec = e.task == k, shown.benchmark.problem.tasks[k]
        for d, (name, mae, r2) in enumerate(zip(spec.answers, *e.errors(k), strict=True)):
            spread = e.target[mine, d].std() if mine.any() else 0.0
            numbers = (page.exact(mae, f"{mae:.4g}"), f"{spread:.4g}", page.exact(r2, f"{r2:.3f}"))
            rows.append((text(called(spec.name)), text(name), f"{mine.sum():,}", *numbers))
    columns = ("task", "number", "examples", "mean absolute error", "standard deviation", "R2")
    caption = (
        "How far predicted numbers are from the true ones, in their own units, beside how much those vary."
        " R2 is 1 where all is right, and 0 for what a constant can do."
    )
    return page.table(caption, columns, rows, numbers=columns[2:])


def _confusions(e, task):
    """In words: the most frequent mistake."""
    wrong, classes = np.flatnonzero((e.task == task) & (e.right < 1)), e.problem.tasks[task].answers
    if not len(wrong):
        return "no mistakes"
    pairs, counts = np.unique(np.stack([e.label[wrong], e.predicted[wrong]], 1), axis=0, return_counts=True)
    true, predicted = pairs[counts.argmax()]
    return (
        f"{len(wrong)} mistakes, most often {classes[true]} is taken for {classes[predicted]},"
        f" {counts.max()} times"
    )


def modules(shown: Shown):
    """Who uses which modules, and along which paths."""
    e, names = shown.evaluation, shown.tasks
    if not e.num_modules:
        yield page.paragraph(f"{shown.settings.method} has no paths: there are no modules to choose from.")
        return
    busiest = int(e.chosen.sum(axis=0).argmax())
    yield page.picture(
        pictures.module_use(e),
        f"Heat map, tasks by modules; the module in most networks is {e.names([busiest])[0]}"
        f" with {e.chosen.sum(axis=0)[busiest] / len(e.task):.0%}, and {e.unused_modules} are in none",
        "Module use: the share of each task's networks that hold a module.",
    )
    yield page.picture(
        pictures.path_sharing(e),
        f"Heat map, tasks by tasks; {_most_alike(e.sharing, names)}",
        "Path sharing: of the modules in the networks of two examples, one of each task, the share in both,"
        " in percent. On the diagonal, 100 means that all examples of the task have the same network.",
    )
    yield page.picture(
        pictures.lengths(e),
        f"Bars: {e.lengths.min()} to {e.lengths.max()} modules in a network, mean {e.mean_length:.2f}",
        "How long networks are.",
    )
    count = len(e.networks[0])
    yield page.picture(
        top_paths(e, shown.benchmark.test),
        f"Graph of the {min(MOST, count)} most used networks; the table below lists each task's",
        f"The {min(MOST, count)} most used of {count:,} networks. A ribbon is a network, as wide as"
        " it is often used; columns are its modules in order, and to the right are some of its examples.",
    )
    yield page.table(
        f"The most used networks of each task, at most {OF_TASK}.",
        ("task", "network", "share of task", "accuracy"),
        _networks_of_tasks(e, names),
        numbers=("share of task", "accuracy"),
    )


def _most_alike(sharing, names):
    names = [called(name) for name in names]
    beside = np.where(np.eye(len(names), dtype=bool) | np.isnan(sharing), -1, sharing)
    a, b = np.unravel_index(beside.argmax(), beside.shape)
    if beside[a, b] <= 0:
        return "no two tasks have a module in common"
    return f"most alike are {names[a]} and {names[b]} with {sharing[a, b]:.0%}"


def _networks_of_tasks(e, names):
    networks, which = e.networks
    for k, name in enumerate(names):
        mine = e.task == k
        counts = np.bincount(which[mine], minlength=len(networks))
        for u in np.argsort(-counts, kind="stable")[:OF_TASK]:
            if counts[u]:
                right = (
                    f"{e.right[mine & (which == u)].mean():.1%}" if k not in e.tasks_of(NUMBERS) else "-"
                )
                path = text(_path(e, networks[u]))
                yield text(called(name)), path, f"{counts[u] / mine.sum():.1%}", right


def _path(e, network):
    return " → ".join(e.names(network))


def examples(shown: Shown):
    """Of each task with classes the surest right and the surest wrong answer."""
    e = shown.evaluation
    if not e.tasks_of(CLASSES):
        yield page.paragraph("No task asks for classes.")
        return
    route = ", and the network that the example took" if e.num_modules else ""
    for title, answers in (("Right", e.right == 1), ("Wrong", e.right < 1)):
        rows = [np.flatnonzero((e.task == k) & answers) for k in e.tasks_of(CLASSES)]
        surest = [of[e.probability[of].argmax()] for of in rows if len(of)]
        yield f"<h3>{title}</h3>"
        if not surest:
            yield page.paragraph("There are none.")
            continue
        yield page.paragraph(f"The surest {title.lower()} answer of each task with classes{route}.")
        yield f'<div class="grid">{"".join(_example(shown, row) for row in surest)}</div>'


def _example(shown, row):
    e, problem = shown.evaluation, shown.benchmark.problem
    task, classes = shown.tasks[e.task[row]], problem.answers[e.task[row]]
    true, predicted = classes[e.label[row]], classes[e.predicted[row]]
    said = [("task", text(called(task))), ("true", text(true))]
    said.append(("predicted", f"{text(predicted)}, {e.probability[row]:.1%}"))
    if e.num_modules:
        said.append(("network", text(_path(e, e.paths[row]))))
    shown_to_it = shown.benchmark.test.shown(problem, row)
    image = "" if shown_to_it is None else page.photograph(shown_to_it, f"Example {row}: {true}")
    return f'<div class="example {"right" if e.right[row] else "wrong"}">{image}{page.terms(said)}</div>'


def cost(shown: Shown):
    """Multiply-adds of an example's way through its modules."""
    e, method = shown.evaluation, shown.method
    if method.pool is not None:
        of_kinds, parameters = costs.of_kinds(method.pool), method.pool.count_parameters()
        paths = costs.of_actions(method.pool, of_kinds)[e.paths].sum(axis=1)
        yield page.paragraph(
            f"The modules of one example's network take {paths.mean() / 1e6:,.3f} million multiply-adds on"
            f" average, {paths.min() / 1e6:,.3f} at the least and {paths.max() / 1e6:,.3f} at the most."
        )
        rows = [
            (text(kind.name), f"{kind.count}", f"{parameters[kind.name] // kind.count:,}", f"{count:,}")
            for kind, count in zip(method.pool.kinds, of_kinds, strict=True)
        ]
        columns = ("kind", "modules", "weights of one", "multiply-adds of one")
        yield page.table("Kinds of modules and what one module costs.", columns, rows, numbers=columns[1:])
        rows = []
        for k, name in enumerate(shown.tasks):
            mine = paths[e.task == k]
            if len(mine):
                millions = (f"{x / 1e6:,.3f}" for x in (mine.mean(), mine.min(), mine.max()))
                rows.append((text(called(name)), *millions))
        columns = ("task", "mean", "least", "most")
        yield page.table(
            "Millions of multiply-adds in the modules of an example, by task.", columns, rows, columns[1:]
        )
    if method.trunk is not None:
        count = costs.multiply_adds(method.trunk, shown.benchmark.problem.inputs[0].shape)
        yield page.paragraph(
            f"The trunk that every example passes first takes {count / 1e6:,.3f} million more."
        )
    yield page.paragraph(
        "Counted are multiply-adds of convolutions and matrix products in a forward pass of one example, by"
        " TensorFlow's profiler. Biases, norms and activations are not, nor is what chooses the modules."
        + (
            ""
            if method.pool is not None
            else " What follows the trunk in this method is not counted either."
        )
    )


def settings(shown: Shown):
    """What was asked; what the benchmark and the method do not preset is in bold."""
    asked = dataclasses.asdict(shown.settings)
    expected = defaults(asked["benchmark"], asked["method"])
    rows = []
    for name, value in behind_results(asked).items():
        said = text(value if value != "" else "none")
        rows.append((name, f"<strong>{said}</strong>" if value != expected[name] else said))
    yield page.paragraph("In bold is what differs from what the benchmark and the method preset.")
    yield page.terms(rows)
