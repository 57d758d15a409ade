"""What an exported model says of itself: lrn_tf.json for programs, README.md for people."""

import dataclasses
import pathlib
from typing import Any

from lrn_tf.data.problem import CLASSES, NUMBERS
from lrn_tf.errors import printable
from lrn_tf.settings.resolve import defaults
from lrn_tf.settings.table import behind_results
from lrn_tf.storage.metrics import ROUTES, SPLITS
from lrn_tf.storage.runs import Run

CARD = "lrn_tf.json"
# Settings whose values may be paths.
PATHS = ("benchmark", "pool", "init_from")
RESULTS = (
    "epoch",
    "step",
    "split",
    "eval_loss",
    "eval_accuracy",
    "eval_accuracy_per_task",
    "eval_mae_per_task",
    "eval_r2_per_task",
    *ROUTES,
)


def versions(folder: pathlib.Path) -> list[int]:
    """The numbers of the models in a folder, which TensorFlow Serving calls versions."""
    names = [card.parent.name for card in folder.glob(f"*/{CARD}")]
    return sorted(int(name) for name in names if name.isdecimal())


def describe(run: Run, step: int) -> dict[str, Any]:
    """What the card says of a run's network as it was after a step: settings, data and results."""
    # A run that was stopped within an epoch has weights that were never evaluated.
    last = next((line for line in run.lines if line.step == step), run.lines[-1])
    return {
        "settings": _told(behind_results(dataclasses.asdict(run.asked))),
        "about": {**run.about, "problem": dataclasses.asdict(run.about["problem"])},
        "step": step,
        "results": {name: last.value(name) for name in RESULTS},
        "versions": run.config.versions,
        "git_revision": run.config.git_revision,
    }


def readme(card: dict[str, Any], served) -> str:
    """The model card, in Markdown; `served` is the `lrn_tf.serving.served.Served` that is exported."""
    problem, results, settings = card["about"]["problem"], card["results"], card["settings"]
    preset = defaults(settings["benchmark"], settings["method"])
    accuracy = results["eval_accuracy"]
    said = f"Loss {results['eval_loss']:.3f}" if accuracy is None else f"Accuracy {accuracy:.2%}"
    lines = [
        f"# {_cell(problem['name'])}, {settings['method']}",
        "",
        f"One network for {len(problem['tasks'])} tasks, trained by lrn_tf for {card['step']:,} steps."
        f" {card['about']['parameters']:,} parameters.",
        "",
        f"**{said}** on {card['about']['eval_examples']:,} {SPLITS[results['split']]}, measured after"
        f" {results['step']:,} steps, epoch {results['epoch']}; trained on"
        f" {card['about']['training_examples']:,}.",
        "",
        "| task | name | input | result | answers |",
        "|---|---|---|---|---|",
        *(
            f"| {k} | {_cell(task['name'])} | {task['input']} | {_result(task, results)} |"
            f" {_cell(', '.join(task['answers']))} |"
            for k, task in enumerate(problem["tasks"])
        ),
        "",
        "## Use",
        "",
        "```python",
        "import tensorflow as tf",
        "",
        'model = tf.saved_model.load("this folder")',
        *_example(problem),
        "```",
        "",
        "Where lrn_tf is installed, `lrn_tf.load(folder)` in Python and `lrn-tf predict --model=folder ..`"
        " check what they are given.",
        "",
        *(f"- {_input(given)}" for given in problem["inputs"]),
        *(
            ["", "An example brings the input of its task; what stands in its rows of others is ignored."]
            if len(problem["inputs"]) > 1
            else []
        ),
        "",
        "| signature | takes | returns |",
        "|---|---|---|",
        *(
            f"| `{name}` | {_specs(inputs)} | {_specs(outputs)} |"
            for name, (inputs, outputs) in served.interface.items()
        ),
        "",
        _columns(problem, served.interface),
        "",
        "## Settings",
        "",
        "In bold is what differs from what the benchmark and the method preset.",
        "",
        *(
            _cell(f"- **{name} {value}**" if value != preset.get(name) else f"- {name} {value}")
            for name, value in settings.items()
            if value != ""
        ),
        "",
        f"Versions: {', '.join(f'{name} {v}' for name, v in card['versions'].items() if v)}.",
    ]
    return "\n".join(lines) + "\n"


def _input(given):
    """What an input must be."""
    shape = given["shape"]
    if given["vocabulary"]:
        return f"`{given['name']}`: tokens, int32 from 0 to {given['vocabulary'] - 1}, {shape[0]} of them."
    if given["dtype"] == "uint8" and len(shape) == 3:
        return (
            f"`{given['name']}`: images, uint8 of any size with {shape[2]} channel{'s' * (shape[2] > 1)},"
            f" 0 to 255; they are resized to {shape[0]}x{shape[1]} and standardised inside."
        )
    return f"`{given['name']}`: {given['dtype']} {'x'.join(map(str, shape))}, standardised inside."


def _told(settings):
    """Settings by name, of a path its end alone, since the rest is about who trained."""
    ends = {name: pathlib.PurePath(settings[name]).name for name in PATHS}
    return {name: ends.get(name) or value for name, value in settings.items()}


def _cell(said):
    """Text of a stranger's in one line, and in one cell of a table."""
    return printable(said).replace("|", r"\|")


def _result(task, results):
    """How well a task is answered."""
    name = task["name"]
    if task["form"] == NUMBERS:
        mae, r2 = (results[key].get(name, 0.0) for key in ("eval_mae_per_task", "eval_r2_per_task"))
        return f"mean absolute error {mae:.4g}, R2 {r2:.2f}"
    share = results["eval_accuracy_per_task"].get(name, 0.0)
    return f"accuracy {share:.1%}" if task["form"] == CLASSES else f"{share:.1%} of labels right"


def _example(problem):
    """Lines of Python that call the model on two examples."""
    tasks = [task["name"] for task in (problem["tasks"] * 2)[:2]]
    given = {of["name"]: f'tf.zeros({[2, *of["shape"]]}, "{of["dtype"]}")' for of in problem["inputs"]}
    given["task_names"] = f"tf.constant({tasks!r})"
    return [
        'answer = model.signatures["by_task_name"](',
        *(f"    {name}={value}," for name, value in given.items()),
        ")",
    ]


def _columns(problem, interface):
    """What the columns of what is returned mean."""
    said = (
        "B is the number of examples. Columns are a task's answers in the order of the first table, and 0"
        " after them."
    )
    if len({task["form"] for task in problem["tasks"]} | {CLASSES}) > 1:
        said += " A task without classes has class -1, if others have some."
    if "routes" in interface:
        said += (
            " A path lists modules, and a number past the last one adds none; confidence is the router's in"
            " the path, not in the answer."
        )
    return said


def _specs(tensors):
    """Names, types and shapes of a signature's tensors."""
    found = []
    for name, tensor in tensors.items():
        shape = ", ".join(["B", *(str(size or "any") for size in tensor.shape[1:])])
        found.append(f"{name} {tensor.dtype.name} [{shape}]")
    return ", ".join(found)
