"""Answers tasks for files: `python -m lrn_tf.predict --model=DIR --task=NAME image.png ...`.

Prints the answer and the path of each image; of each row of a CSV file, or entry of an array in a
.npy file, for tasks whose examples are no images. Without --task all tasks answer, if they take the same
input. Files that cannot be read are named and left out; then the exit code is 1.
"""

import json
import os
import sys

from absl import flags

from lrn_tf import program
from lrn_tf.errors import UserError, printable, reason
from lrn_tf.serving.model import load

MODEL = flags.DEFINE_string("model", "", "Folder of an exported model, or of a run")
TASK = flags.DEFINE_string("task", "", "Name or number of the task to solve; empty solves all")
JSON = flags.DEFINE_bool("json", False, "Print a JSON object per example instead of a table")


def find_task(tasks: list[str], given: str) -> str:
    """The task's name.

    Raises:
        UserError: there is no such task.
    """
    names = {str(number): name for number, name in enumerate(tasks)} | {name: name for name in tasks}
    if given in names:
        return names[given]
    raise UserError(f"--task={given} is unknown; choose one of: {', '.join(tasks)}, or its number")


def all_tasks(model) -> list[str]:
    """The names of its tasks.

    Raises:
        UserError: they do not all take the same input.
    """
    if len({model.input_of(task).name for task in model.tasks}) == 1:
        return model.tasks
    raise UserError(
        f"--task is missing, and tasks take different inputs; choose one of: {', '.join(model.tasks)}"
    )


def examples(file: str, spec):
    """The examples in a file, `[n, *shape]` of what an input wants.

    Args:
        file: an image, or a CSV or .npy file of numbers.
        spec: a `lrn_tf.data.problem.InputSpec`.

    Raises:
        UserError: there are none.
    """
    if not os.path.exists(file):
        raise UserError(f"{file}: there is no such file")
    # TensorFlow would wait for the end of a pipe or a device.
    if not os.path.isfile(file):
        raise UserError(
            f"{file}: no file but a folder, a pipe or a device; give an image or a file of numbers"
        )
    if spec.is_image and not file.endswith(".npy"):
        return _picture(file, spec.shape[2])[None]
    try:
        found = _numbers(file)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise UserError(f"{file}: {reason(error)}") from error
    several = found[None] if found.ndim == len(spec.shape) else found
    grey = spec.is_image and several.shape[-1:] != spec.shape[-1:]  # a picture's width is no channel
    if several.ndim != 1 + len(spec.shape) or not len(several) or grey:
        wanted = f"[h, w, {spec.shape[2]}]" if spec.is_image else list(spec.shape)
        raise UserError(f"{file}: it has the shape {list(found.shape)}, an example has {wanted}")
    return _of_type(several, spec.dtype)


def _picture(file, channels):
    from lrn_tf.data.images import decode

    try:
        with open(file, "rb") as content:
            return decode(content.read(), channels)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {reason(error)}") from error


def _numbers(file):
    """The array in a .npy file, or the table in a CSV file."""
    import numpy as np

    if not file.endswith(".npy"):
        # Opened here: NumPy would also fetch what an address stands for.
        with open(file, encoding="utf-8-sig") as lines:  # Excel begins it with a mark
            lines = [line for line in lines if line.strip()]
        if lines and not any(map(_is_number, lines[0].split(","))):  # names of columns
            del lines[0]
        return np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.zeros((0, 0))
    with open(file, "rb") as array:
        return np.lib.format.read_array(array)  # which runs nothing


def _is_number(cell):
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _of_type(found, dtype):
    """The numbers as what a network takes, if they are such numbers; as they are if not."""
    import numpy as np

    if found.dtype.kind not in "iuf":
        return found
    with np.errstate(all="ignore"):
        made = found.astype(dtype)
    return made if dtype == "float32" or (made == found).all() else found


def main(files: list[str]) -> int:
    if not MODEL.value:
        raise UserError("--model is missing; give the folder of an exported model or of a run")
    # Defined where this is the program: lrn_tf.main has a --pool of its own.
    pool = flags.FLAGS.pool if "pool" in flags.FLAGS else None
    model = load(MODEL.value, pool)
    tasks = [find_task(model.tasks, TASK.value)] if TASK.value else all_tasks(model)
    specs = [model.problem.tasks[model.tasks.index(task)] for task in tasks]
    width, longest = max(map(len, files)), max(map(len, tasks))
    unreadable = 0
    for file in files:
        try:
            given = examples(file, model.input_of(tasks[0]))
            answers = [model(given, [task] * len(given)) for task in tasks]
        except ValueError as error:
            said = str(error) if file in str(error) else f"{file}: {error}"
            print("left out", printable(" ".join(said.split())), file=sys.stderr)
            unreadable += 1
            continue
        for row in range(len(given)):
            name = file if len(given) == 1 else f"{file}:{row}"
            for spec, of_task in zip(specs, answers, strict=True):
                answer = {key: value[row].tolist() for key, value in of_task.items()}
                called = f"{printable(spec.name):{longest}s}  " if len(specs) > 1 else ""
                line = f"{printable(name):{width}s}  {called}{printable(_table(spec, answer))}"
                print(_json(name, spec, answer) if JSON.value else line)
    return 1 if unreadable else 0


def _json(name, spec, answer):
    found = {"file": name, "task": spec.name, **_answer(spec, answer)}
    if spec.form == "classes":
        found["probabilities"] = dict(zip(spec.answers, answer["probabilities"], strict=False))
    return json.dumps({**found, "path": _path(answer), "confidence": answer.get("confidence")})


def _answer(spec, answer):
    """What the task asks for, by name."""
    if spec.form == "classes":
        return {"class": answer["class_name"], "probability": answer["probabilities"][answer["class"]]}
    return {spec.form: dict(zip(spec.answers, answer[spec.form], strict=False))}


def _table(spec, answer):
    found = _answer(spec, answer)
    if spec.form == "classes":
        said = f"{found['class']:16s} {found['probability']:6.1%}"
    else:
        shown = "{:.1%}" if spec.form == "labels" else "{:.6g}"
        said = ", ".join(f"{name} {shown.format(value)}" for name, value in found[spec.form].items())
    return f"{said}  {' '.join(_path(answer))}"


def _path(answer):
    return [name for name in answer.get("path_names", []) if name]


if __name__ == "__main__":
    flags.DEFINE_string("pool", "", program.OWN_POOL)
    program.run(main, takes="file")
