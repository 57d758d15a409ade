"""Classifies image files: `python -m lrn_tf.predict --model=DIR --task=NAME image.png ...`.

Prints class, probability and path of each. Files that cannot be read are named and left out; then the exit
code is 1.
"""

import json
import os
import sys

from absl import flags

from lrn_tf import program
from lrn_tf.errors import UserError, reason
from lrn_tf.model import load

MODEL = flags.DEFINE_string("model", "", "Folder of an exported model, or of a run")
TASK = flags.DEFINE_string("task", "", "Name or number of the task to solve")
JSON = flags.DEFINE_bool("json", False, "Print a JSON object per file instead of a table")


def find_task(tasks: list[str], given: str) -> str:
    """The task's name.

    Raises:
        UserError: there is no such task.
    """
    names = {str(number): name for number, name in enumerate(tasks)} | {name: name for name in tasks}
    if given in names:
        return names[given]
    raise UserError(f"--task={given} is unknown; choose one of: {', '.join(tasks)}, or its number")


def decode(file: str, channels: int):
    """The image in a file, uint8 `[h, w, channels]`; raises UserError if there is none."""
    import tensorflow as tf

    # TensorFlow would wait for the end of a pipe or a device.
    if os.path.exists(file) and not os.path.isfile(file):
        raise UserError(f"{file}: no file but a folder, a pipe or a device; give an image file")
    try:
        content = tf.io.read_file(os.fsencode(file))  # a name need not be UTF-8
        return tf.io.decode_image(content, channels, expand_animations=False).numpy()
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"{file}: {reason(error)}") from error


def main(files: list[str]) -> int:
    if not MODEL.value:
        raise UserError("--model is missing; give the folder of an exported model or of a run")
    model = load(MODEL.value)
    task = find_task(model.tasks, TASK.value)
    width = max(map(len, files))
    unreadable = 0
    for file in files:
        try:
            image = decode(file, model.channels)
        except UserError as error:
            print("left out", " ".join(str(error).splitlines()), file=sys.stderr)
            unreadable += 1
            continue
        answer = {name: value[0].tolist() for name, value in model(image[None], [task]).items()}
        probability = answer["probabilities"][answer["class"]]
        path = [name for name in answer.get("path_names", []) if name]
        if JSON.value:
            row = {"file": file, "task": task, "class": answer["class_name"], "probability": probability}
            print(json.dumps({**row, "path": path, "confidence": answer.get("confidence")}))
        else:
            print(f"{file:{width}s}  {answer['class_name']:16s} {probability:6.1%}  {' '.join(path)}")
    return 1 if unreadable else 0


if __name__ == "__main__":
    program.run(main, takes="image file")
