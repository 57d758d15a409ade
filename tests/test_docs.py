"""What the documents print is run: the README's program, and the tutorial from an empty folder."""

import ast
import functools
import http.server
import json
import pathlib
import re
import shlex
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

import lrn_tf

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(document):
    """Language, file name or empty, and content of each block of code."""
    return BLOCK.findall((ROOT / document).read_text())


def commands(script):
    """The commands of a shell script, one a line or joined by && or a backslash."""
    for line in script.replace("\\\n", " ").splitlines():
        for command in line.split("&&"):
            yield command.strip()


def run_python(forked, folder, code):
    (folder / "code.py").write_text(code)
    return forked(folder / "code.py", [], folder, longest=300)


def run_command(forked, folder, command):
    words = shlex.split(command)
    if words[:2] == ["python", "-m"]:
        return forked(words[2], words[3:], folder, longest=300)
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_program_in_the_readme(forked, tmp_path):
    code = next(code for language, _, code in blocks("README.md") if language == "python")
    assert len([line for line in code.splitlines() if line]) <= 36
    # As printed, but for the number of epochs and what is compiled for each of as many modules.
    assert "epochs=10" in code and "dup=4, depth=4" in code
    code = code.replace("epochs=10", "epochs=3, actor='pointer'")
    code = code.replace("dup=4, depth=4", "dup=2, depth=3")
    end, said, errors = run_python(forked, tmp_path, code)
    assert end == 0, errors
    accuracy = json.loads(re.search(r"\{.*?\}", said).group().replace("'", '"'))
    assert accuracy["digit"] > 0.5 and accuracy["parity"] > 0.6
    assert "3 tasks" not in errors and "1 task of 10 classes" in errors
    assert (tmp_path / "served" / "saved_model.pb").exists()
    assert re.search(r"^stem +input +8x8x1 +8x8x8 +1 +80$", said, re.MULTILINE)


@pytest.mark.slow
def test_the_tutorial(forked, tmp_path):
    said = {}
    for language, file, code in blocks("docs/tutorial.md"):
        if file:
            (tmp_path / file).write_text(code)
        elif language == "python":
            end, said["python"], errors = run_python(forked, tmp_path, code)
            assert end == 0, (code, errors)
        elif language == "bash":
            # As printed, but for fewer epochs, and a router and modules that are sooner compiled.
            code = re.sub(r"--d_model=\d+", "--d_model=16 --actor=pointer", code)
            code = re.sub(r"--dup=\d+", "--dup=1", code)
            code = re.sub(r"--depth=\d+", "--depth=3", code)
            for command in commands(re.sub(r"--epochs=\d+", "--epochs=2", code)):
                if not command.startswith("pip install"):
                    end, said[command], errors = run_command(forked, tmp_path, command)
                    assert end == 0, (command, errors)
    predicted = next(out for command, out in said.items() if "lrn_tf.predict" in command)
    assert re.search(r"^pictures/colour/red/0.png +red +\d", predicted, re.MULTILINE), predicted
    lines = (tmp_path / "runs/pictures/metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["eval_accuracy"] > 0.5
    assert (
        "diabetes"
        in json.loads((tmp_path / "runs/tables/metrics.jsonl").read_text().splitlines()[-1])[
            "eval_r2_per_task"
        ]
    )
    assert (tmp_path / "report/index.html").stat().st_size > 50_000


class Rest(http.server.BaseHTTPRequestHandler):
    """TensorFlow Serving's `predict`, in columns: https://www.tensorflow.org/tfx/serving/api_rest."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/models/digits:predict" and set(asked) == {"signature_name", "inputs"}
        signature = self.server.model.signatures[asked["signature_name"]]
        specs = signature.structured_input_signature[1]
        given = {name: tf.constant(x, specs[name].dtype) for name, x in asked["inputs"].items()}
        try:
            outputs = {name: x.numpy() for name, x in signature(**given).items()}
            plain = {
                name: np.char.decode(x.astype(bytes)) if x.dtype == object else x
                for name, x in outputs.items()
            }
            code, found = 200, {"outputs": {name: x.tolist() for name, x in plain.items()}}
        except tf.errors.InvalidArgumentError as error:
            code, found = 400, {"error": error.message}
        body = json.dumps(found).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_the_client_of_a_server(exported, tmp_path):
    (code,) = (code for _, file, code in blocks("docs/serving.md") if file == "client.py")
    (tmp_path / "client.py").write_text(code)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    with http.server.HTTPServer(("localhost", 0), Rest) as server:
        server.model = tf.saved_model.load(str(exported / "model"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://localhost:{server.server_port}/v1/models/digits:predict"
        done, wrong = (
            subprocess.run(
                [sys.executable, "client.py", url, "images.npy", task],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
            )
            for task in ("digit 7", "digit x")
        )
        server.shutdown()
    assert "unknown task names" in wrong.stderr and "Traceback" not in wrong.stderr
    assert done.returncode == 0, done.stderr
    expected = lrn_tf.load(exported / "model")(images, ["digit 7"] * 3)
    names, probabilities = (
        ast.literal_eval(part + "]") for part in done.stdout.strip()[:-1].split("] ", 1)
    )
    assert names == list(expected["class_name"])
    np.testing.assert_allclose(probabilities, expected["probabilities"], rtol=1e-5)


def test_the_notebook_is_the_tutorial():
    """Made by tools/notebook.py, which is to be run again where this fails."""
    notebook = json.loads((ROOT / "docs/tutorial.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    text, said = (ROOT / "docs/tutorial.md").read_text(), "Two pictures of the report, made here"
    for cell in notebook["cells"]:
        for paragraph in "".join(cell["source"]).split("\n\n") if cell not in cells else ():
            assert paragraph in text or paragraph.startswith(said)
    sources = iter("".join(cell["source"]) for cell in cells)
    for language, file, code in blocks("docs/tutorial.md"):
        if language != "text" and not code.startswith("pip install"):
            first = f"%%writefile {file}\n" if file else "%%bash -e\n" if language == "bash" else ""
            assert first + code.rstrip("\n") in sources  # and after the last one
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert "error" not in {output["output_type"] for output in outputs}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900


DOCUMENTS = [*sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("*.md"))]


def anchors(document):
    """What a link may name of a document, by GitHub's rule for headings."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(document):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text()):
        found = document.parent / target if target else document
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_tests_that_are_named_exist(document):
    for name in re.findall(r"tests/\w+\.py", document.read_text()):
        assert (ROOT / name).exists(), name


@functools.cache
def flags_of(program):
    """The names of the flags of a program, by its command: `-m lrn_tf.main` or `tools/figures.py`."""
    if program.startswith("-m"):
        given = [sys.executable, *program.split(), "--help"]
        said = subprocess.run(given, capture_output=True, text=True, timeout=60).stdout
        return {*re.findall(r"^  --(?:\[no\])?(\w+):", said, re.MULTILINE), "flagfile", "help"}
    code = "".join((ROOT / file).read_text() for file in (program, "tools/grid.py"))
    return {*re.findall(r"DEFINE_\w+\(\s*\"(\w+)\"", code), *flags_of("-m lrn_tf.main")}


@pytest.mark.parametrize("document", [*DOCUMENTS, *ROOT.glob("docs/cluster/*")], ids=lambda p: p.name)
def test_commands_have_flags_that_there_are(document):
    text = document.read_text().replace("\\\n", " ")
    for program, rest in re.findall(r"python (-m lrn_tf\.\w+|tools/\w+\.py)([^`\n#|]*)", text):
        for flag in re.findall(r"--(\w+)", rest):
            known = flags_of(program)
            assert flag in known or flag.removeprefix("no") in known, f"{program} {rest}"
