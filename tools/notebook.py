"""Makes docs/tutorial.ipynb of docs/tutorial.md: its text and its code, which is run, and some pictures.

    pip install nbclient ipykernel && python tools/notebook.py      # where lrn_tf is installed, too

Commands are run in an empty folder, from top to bottom, and show what they print but for progress.
"""

import pathlib
import re
import tempfile

from nbclient import NotebookClient
from nbformat import v4 as notebook
from nbformat import write

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^(```\w+(?: file=\S+)?\n.*?^```)$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"```(\w+)(?: file=(\S+))?\n(.*?)\n```", re.DOTALL)
FIRST = "Every command and every line of code below is run by a test"

SAMPLES = """\
from matplotlib import pyplot

figure, axes = pyplot.subplots(2, 6, figsize=(9, 3.2))
for row, (task, classes) in zip(axes, {"shape": shapes, "colour": tuple(colours)}.items()):
    for i, axis in enumerate(row):
        axis.imshow(Image.open(f"pictures/{task}/{classes[i % 3]}/{i}.png"))
        axis.set_title(f"{task}: {classes[i % 3]}", size=8)
        axis.axis("off")"""
CURVES = """\
from lrn_tf.results import curves
from lrn_tf.storage.runs import group, read

run = read("runs/pictures")
curves.figure(group([run]))"""
PATHS = """\
from lrn_tf.data import benchmarks
from lrn_tf.methods.restore import restore_method
from lrn_tf.results import pictures
from lrn_tf.results.evaluation import Evaluator

data = benchmarks.benchmark_of(run.asked)
evaluation = Evaluator(restore_method(run)[0], data.test, data.problem)()
pictures.module_use(evaluation)"""
# What is shown besides, after the first cell that holds these words.
SHOWN = {
    ".save(folder": [SAMPLES],
    "-m lrn_tf.report": [
        "Two pictures of the report, made here: the curves, and who uses what.",
        CURVES,
        PATHS,
    ],
}


def cells():
    """Of the tutorial, in order."""
    shown = dict(SHOWN)
    for part in BLOCK.split((DOCS / "tutorial.md").read_text()):
        code = CODE.fullmatch(part)
        if code is None or code[1] == "text":
            yield from _text(part)
            continue
        language, file, source = code.groups()
        if file:
            yield notebook.new_code_cell(f"%%writefile {file}\n{source}")
        elif language == "python":
            yield notebook.new_code_cell(source)
        elif not source.startswith("pip install"):
            yield notebook.new_code_cell(f"%%bash -e\n{source}")
        for words in [words for words in shown if words in source]:
            for more in shown.pop(words):
                yield notebook.new_code_cell(more) if "\n" in more else notebook.new_markdown_cell(more)


def _text(part):
    paragraphs = [p for p in part.strip().split("\n\n") if not p.startswith(FIRST)]
    if any(paragraphs):
        yield notebook.new_markdown_cell("\n\n".join(paragraphs))


def main():
    made = notebook.new_notebook(cells=list(cells()))
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(made, timeout=900, resources={"metadata": {"path": folder}}).execute()
    for cell in made.cells:
        cell.metadata.clear()  # which says when it was run
        if cell.cell_type == "code":
            said = "".join(o.text for o in cell.outputs if o.get("name") == "stdout")
            drawn = [o for o in cell.outputs if o.output_type != "stream"]
            cell.outputs = [notebook.new_output("stream", text=said)] * bool(said) + drawn
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number}"
    write(made, DOCS / "tutorial.ipynb")


if __name__ == "__main__":
    main()
