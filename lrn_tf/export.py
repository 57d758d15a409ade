"""Exports a run as a SavedModel: `python -m lrn_tf.export --workdir=RUN --output=DIR`.

The model takes raw images and needs neither lrn_tf nor Keras where it is loaded. README.md in it says what
it was trained on, how well it does, and how to call it.
"""

import ctypes
import dataclasses
import json
import os
import pathlib
import sys
from typing import Any

from lrn_tf import program
from lrn_tf.errors import UserError, reason
from lrn_tf.restore import restore, settings_of
from lrn_tf.settings import behind_results, check_text, defaults
from lrn_tf.storage import files
from lrn_tf.storage.metrics import ROUTES, SPLITS
from lrn_tf.storage.runs import Run, read

# What a model says of itself, for programs; README.md says it for people.
CARD = "lrn_tf.json"
# renameat2(2), where there is one: swaps two names in one step.
EXCHANGE, HERE = 2, -100


def export(workdir: str, output: str) -> None:
    """Writes a run's network as a SavedModel.

    An output that holds a model already is replaced in one step: whoever kills this, or looks at it
    meanwhile, finds the old model or the new one.

    Raises:
        UserError: there is no run, or the output cannot be written or holds something else.
    """
    check_output(output, workdir)
    # Not a link to it, which would be what is replaced.
    folder, run = _real(output), read(workdir)
    served, step = restore(run)
    import tensorflow as tf

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with files.beside(folder) as partial:
            tf.saved_model.save(served, str(partial), signatures=served.functions)
            card = describe(run, step)
            # Not of README.md, which people may well change.
            card = files.seal({**card, "files": files.checksums(partial)})
            files.replace(partial / CARD, json.dumps(card, indent=2) + "\n")
            files.replace(partial / "README.md", readme(card, served))
            _put(partial, folder)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"cannot export to {output} ({reason(error)}); give another folder") from error
    print(f"{output}: a SavedModel; README.md in it says how to use it", file=sys.stderr)


def check_output(output: str, workdir: str) -> None:
    """Sees that the model of a run may be written there. Raises UserError if not."""
    folder, run = _real(output), _real(workdir)
    check_text("output", str(folder))
    # A model is replaced as a whole, and a run's folder holds nothing else.
    if folder.is_relative_to(run) or run.is_relative_to(folder):
        raise UserError(
            f"{output} and the folder of the run, {workdir}, lie one in the other; give another folder to"
            f" export to"
        )
    if folder.exists() and not (folder / CARD).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{output} exists and is no exported model; give another folder to export to")


def _real(path):
    """Where a path leads; `Path.resolve` fails where links lead in a circle."""
    return pathlib.Path(os.path.realpath(path))


def _put(partial, folder):
    """Gives a folder its final name; what had it before goes away with the place where it was written."""
    if not (folder / CARD).exists():  # nothing, or an empty folder
        try:
            return os.rename(partial, folder)
        except OSError:
            if not (folder / CARD).exists():  # another export came first
                raise
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap is None or swap(HERE, os.fsencode(partial), HERE, os.fsencode(folder), EXCHANGE):
        raise UserError(
            f"{folder} holds a model, and this system cannot replace it in one step; delete it first"
        )


def describe(run: Run, step: int) -> dict[str, Any]:
    """What the card says of a run's network as it was after a step: settings, data and results."""
    # A run that was stopped within an epoch has weights that were never evaluated.
    last = next((line for line in run.lines if line.step == step), run.lines[-1])
    results = ("epoch", "step", "split", "eval_accuracy", "eval_accuracy_per_task", *ROUTES)
    return {
        "settings": dataclasses.asdict(settings_of(run)),
        "about": run.about,
        "step": step,
        "results": {name: last.value(name) for name in results},
        "versions": run.config.versions,
        "git_revision": run.config.git_revision,
    }


def readme(card: dict[str, Any], served) -> str:
    """The model card, in Markdown."""
    problem, results, settings = card["about"]["problem"], card["results"], card["settings"]
    accuracy = results["eval_accuracy_per_task"]
    preset = defaults(problem["name"], settings["method"])
    lines = [
        f"# {problem['name']}, {settings['method']}",
        "",
        f"One network for {len(problem['tasks'])} tasks of {len(problem['classes'][0])} classes each,"
        f" trained by lrn_tf for {card['step']:,} steps."
        f" {card['about']['parameters']:,} parameters.",
        "",
        f"**Accuracy {results['eval_accuracy']:.2%}** on {card['about']['eval_examples']:,} examples"
        f" ({SPLITS[results['split']]}), measured after {results['step']:,} steps, epoch"
        f" {results['epoch']}; trained on {card['about']['training_examples']:,}.",
        "",
        "| task | name | accuracy | classes |",
        "|---|---|---|---|",
        *(
            f"| {k} | {task} | {accuracy[task]:.1%} | {', '.join(classes)} |"
            for k, (task, classes) in enumerate(zip(problem["tasks"], problem["classes"], strict=True))
        ),
        "",
        "## Use",
        "",
        "```python",
        "import tensorflow as tf",
        "",
        'model = tf.saved_model.load("this folder")',
        'answer = model.signatures["serving_default"](images=images, tasks=tasks)',
        "```",
        "",
        f"Images are uint8 of any size with {problem['image_shape'][2]} channels, 0 to 255; they are"
        f" resized to {problem['image_shape'][0]}x{problem['image_shape'][1]} and standardised inside.",
        "",
        "| signature | takes | returns |",
        "|---|---|---|",
        *(
            f"| `{name}` | {_specs(inputs)} | {_specs(outputs)} |"
            for name, (inputs, outputs) in served.interface.items()
        ),
        "",
        "B is the number of examples; a path lists modules, and a number past the last one adds none.",
        "",
        "## Settings",
        "",
        "In bold is what differs from what the benchmark and the method preset.",
        "",
        *(
            f"- **{name} {value}**" if value != preset.get(name) else f"- {name} {value}"
            for name, value in behind_results(settings).items()
        ),
        "",
        f"Versions: {', '.join(f'{name} {v}' for name, v in card['versions'].items() if v)}.",
    ]
    return "\n".join(lines) + "\n"


def _specs(tensors):
    """Names, types and shapes of a signature's tensors."""
    found = []
    for name, tensor in tensors.items():
        shape = ", ".join(["B", *(str(size or "any") for size in tensor.shape[1:])])
        found.append(f"{name} {tensor.dtype.name} [{shape}]")
    return ", ".join(found)


if __name__ == "__main__":
    program.run_on_a_run(export, "Folder of the model; a model that is there is replaced")
