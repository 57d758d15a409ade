"""What the page about a run says, section by section."""

import dataclasses

import numpy as np

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.methods.method import Method
from lrn_tf.results import compute, curves, page, pictures
from lrn_tf.results.evaluation import Evaluation
from lrn_tf.results.page import text
from lrn_tf.results.path_graph import called
from lrn_tf.settings import Settings, behind_results, defaults
from lrn_tf.storage.metrics import SPLITS
from lrn_tf.storage.runs import Group, Run

# Networks in the graph, and of each task in the table.
IN_GRAPH, OF_TASK = 12, 3


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """A run, and what its method does on the examples that it is evaluated on, after a step."""

    run: Run
    settings: Settings
    benchmark: Benchmark
    method: Method
    step: int
    evaluation: Evaluation

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.benchmark.tasks


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
    title = f"{shown.settings.benchmark}, {shown.settings.method}"
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
    rows = [
        ("Accuracy", page.exact(e.accuracy, f"{e.accuracy:.2%}")),
        ("Cross-entropy", page.exact(e.ce, f"{e.ce:.3f} nats")),
        ("Measured on", f"{len(e.task):,} examples, {SPLITS[line.split]}"),
        ("After", f"step {shown.step:,}; the run's last finished epoch is {line.epoch}"),
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
    panels = [curves.ACCURACY, curves.LOSS]
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
    """Accuracy task by task, and what is taken for what."""
    e, names = shown.evaluation, [called(task) for task in shown.tasks]
    rows = []
    for k, accuracy in enumerate(e.accuracy_per_task):
        mine = e.task == k
        counts = np.bincount(e.label[mine], minlength=1)
        most = counts.max() / max(mine.sum(), 1)
        shares = (page.exact(accuracy, f"{accuracy:.1%}"), f"{most:.1%}")
        rows.append(
            (text(names[k]), f"{mine.sum():,}", *shares, text(", ".join(shown.benchmark.classes[k])))
        )
    columns = ("task", "examples", "accuracy", "largest class", "classes")
    caption = (
        "Accuracy of each task, and the share of its largest class: what one gets by always naming that."
    )
    yield page.table(caption, columns, rows, numbers=columns[1:4])
    yield "<h3>What is taken for what</h3>"
    yield page.paragraph(
        "Counts of examples by true and predicted class. A darker cell is a larger share of its true class."
    )
    drawn = []
    for k, classes in enumerate(shown.benchmark.classes):
        alt = f"Confusion matrix of {names[k]}: {_confusions(e, k, classes)}"
        caption = f"{names[k]}: {e.accuracy_per_task[k]:.1%} right"
        drawn.append(page.picture(pictures.confusion(e, k, classes), alt, caption))
    yield f'<div class="grid">{"".join(drawn)}</div>'


def _confusions(e, task, classes):
    """In words: the most frequent mistake."""
    wrong = np.flatnonzero((e.task == task) & ~e.right)
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
        yield page.paragraph(
            f"{shown.settings.method} does not route: there are no modules to choose from."
        )
        return
    busiest = int(e.chosen.sum(axis=0).argmax())
    yield page.picture(
        pictures.module_use(e, names),
        f"Heat map, tasks by modules; the module in most networks is {e.names([busiest])[0]}"
        f" with {e.chosen.sum(axis=0)[busiest] / len(e.task):.0%}, and {e.unused_modules} are in none",
        "Module use: the share of each task's networks that hold a module.",
    )
    yield page.picture(
        pictures.path_sharing(e, names),
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
        pictures.top_paths(e, names, shown.benchmark.test, most=IN_GRAPH),
        f"Graph of the {min(IN_GRAPH, count)} most used networks; the table below lists each task's",
        f"The {min(IN_GRAPH, count)} most used of {count:,} networks. A ribbon is a network, as wide as"
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
                accuracy = e.right[mine & (which == u)].mean()
                path = text(_path(e, networks[u]))
                yield text(name), path, f"{counts[u] / mine.sum():.1%}", f"{accuracy:.1%}"


def _path(e, network):
    return " → ".join(e.names(network))


def examples(shown: Shown):
    """Of each task the surest right and the surest wrong answer."""
    e = shown.evaluation
    route = ", and the network that the example took" if e.num_modules else ""
    for title, answers in (("Right", e.right), ("Wrong", ~e.right)):
        rows = [np.flatnonzero((e.task == k) & answers) for k in range(len(shown.tasks))]
        surest = [of[e.probability[of].argmax()] for of in rows if len(of)]
        yield f"<h3>{title}</h3>"
        if not surest:
            yield page.paragraph("There are none.")
            continue
        yield page.paragraph(f"The surest {title.lower()} answer of each task{route}.")
        yield f'<div class="grid">{"".join(_example(shown, row) for row in surest)}</div>'


def _example(shown, row):
    e, test = shown.evaluation, shown.benchmark.test
    task, classes = shown.tasks[e.task[row]], shown.benchmark.classes[e.task[row]]
    true, predicted = classes[e.label[row]], classes[e.predicted[row]]
    said = [("task", text(task)), ("true", text(true))]
    said.append(("predicted", f"{text(predicted)}, {e.probability[row]:.1%}"))
    if e.num_modules:
        said.append(("network", text(_path(e, e.paths[row]))))
    image = page.photograph(test.images[test.image[row]], f"Example {row}: {true}")
    return f'<div class="example {"right" if e.right[row] else "wrong"}">{image}{page.terms(said)}</div>'


def cost(shown: Shown):
    """Multiply-adds of an example's way through its modules."""
    e, method = shown.evaluation, shown.method
    if method.pool is not None:
        of_kinds, parameters = compute.of_kinds(method.pool), method.pool.count_parameters()
        # The number past the last module adds none.
        of_module = np.append(of_kinds[method.pool.kind], 0)
        paths = of_module[np.minimum(e.paths, e.num_modules)].sum(axis=1)
        yield page.paragraph(
            f"The modules of one example's network take {paths.mean() / 1e6:,.3f} million multiply-adds on"
            f" average, {paths.min() / 1e6:,.3f} at the least and {paths.max() / 1e6:,.3f} at the most."
        )
        rows = [
            (text(kind.name), f"{kind.dup}", f"{parameters[kind.name] // kind.dup:,}", f"{count:,}")
            for kind, count in zip(method.pool.kinds, of_kinds, strict=True)
        ]
        columns = ("kind", "modules", "weights of one", "multiply-adds of one")
        yield page.table("Kinds of modules and what one module costs.", columns, rows, numbers=columns[1:])
        rows = []
        for k, name in enumerate(shown.tasks):
            mine = paths[e.task == k]
            if len(mine):
                rows.append(
                    (text(name), *(f"{x / 1e6:,.3f}" for x in (mine.mean(), mine.min(), mine.max())))
                )
        columns = ("task", "mean", "least", "most")
        yield page.table(
            "Millions of multiply-adds in the modules of an example, by task.", columns, rows, columns[1:]
        )
    if method.trunk is not None:
        count = compute.multiply_adds(method.trunk, shown.benchmark.image_shape)
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
