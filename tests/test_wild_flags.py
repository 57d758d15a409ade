"""Any flags at all: a run, or one line and exit code 2. Never a traceback, a hang or half a file."""

import json
import os
import pathlib
import re
import shutil
import stat

import hypothesis
import pytest
from hypothesis import strategies as st
from wild import wild

from lrn_tf import predict
from lrn_tf.errors import UserError
from lrn_tf.settings.table import FIELDS

# What is no UTF-8 in an argument comes as a lone surrogate.
ANYTHING = st.text(
    st.characters(exclude_characters="\0")
    | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"]),
    max_size=30,
)
# Some are digits to one function of Python's, and none to another.
NUMBERS = st.sampled_from(
    "0 1 2 3 -1 -0 +1 1.5 1e3 1e308 -1e308 1e-320 nan inf -inf 0x10 1_0 ٣ ² ½ Ⅳ 𝟛 ③ 07 -٣"
    f" 999999999999999999999 2147483648 {'9' * 5000}".split()
) | st.integers().map(str)
PATHS = st.sampled_from(
    [
        *("", ".", "..", "../run", "a/../../b", "/", "/proc/x", "/dev/null", "/dev/full", "file", "file/x"),
        *("folder", "loop", "x" * 300, "y/" * 3000, "ordner mit Ü", "a\nb", "-", "--dup=1", "~/x", "%s{}"),
        *("pipe", "pipe/x", "socket", "/dev/zero", "/dev/zero/x"),
        *("\udcff", "folder/\udcff", "\udcff/\udcfe/x"),
        *("run", "run/model", "here/../run", "run/checkpoints"),
    ]
)
# What is small enough to be run; the last flag of a name counts.
SMALL = {
    "dup": ["1", "2"],
    "depth": ["2", "3"],
    "epochs": ["1", "7", "1000000"],
    "batch_size": ["64", "128"],
    "minibatch_size": ["32", "64"],
    "ppo_epochs": ["1", "100"],
    "d_model": ["4", "8"],
    "image_size": ["0", "4", "9"],
    "examples": ["0", "128", "200"],
    "evaluate_every": ["1", "3"],
    "checkpoint_every": ["0", "1"],
    "benchmark": ["digits_mtl", "mixed_mtl"],
    "blocks": ["0", "1", "3"],
}


def good(name):
    """A flag that is allowed."""
    field = FIELDS[name]
    if field.type is bool:
        return st.sampled_from([f"--{name}", f"--no{name}", f"--{name}=true", f"--{name}=0"])
    choices = SMALL.get(name) or field.metadata["choices"] or [str(field.default)]
    return st.sampled_from(choices).map(lambda value: f"--{name}={value}")


def bad(name):
    """A flag whose value may be anything."""
    values = PATHS | ANYTHING if FIELDS[name].metadata["low"] is None else NUMBERS | ANYTHING
    if name in ("dup", "depth", "d_model", "image_size", "max_steps", "ppo_epochs", "blocks"):
        # Not what is allowed but takes long.
        values = values.filter(
            lambda value: not re.fullmatch(r"\s*[+]?\d[\d_]*\s*", value) or len(value) > 6
        )
    return values.map(lambda value: f"--{name}={value}")


NAMES = st.sampled_from([name for name in FIELDS if name not in ("profile", "workdir", "max_steps")])
STRANGE = st.one_of(
    NAMES.flatmap(bad),
    st.sampled_from(["workdir", "export_dir", "data_dir", "max_steps"]).flatmap(bad),
    ANYTHING.filter(lambda text: not re.match(r"-{1,2}(\?|help|pdb|run_with|use_cprof|only_ch)", text)),
    st.sampled_from(
        [
            *("--flagfile=missing", "--flagfile=circle", "--flagfile=binary", "--flagfile=folder"),
            *("--flagfile=good", "--flagfile=bad", "--flagfile=", "--flagfile", "--undefok=x", "--x", "-x"),
            *("--flagfile=pipe", "-flagfile=deep", "--flagfile=/dev/zero", "--flagfile=a\0b"),
            *(
                "--",
                "-",
                "--=",
                "--no",
                "--nodup",
                "--dup",
                "--noresume=1",
                "--dup 3",
                "—dup=3",
                "--verbosity=x",
            ),
        ]
    ),
)
FLAG_SETS = st.tuples(
    st.lists(NAMES.flatmap(good), max_size=6),
    st.lists(STRANGE, min_size=1, max_size=2),
    st.booleans(),
)


@pytest.fixture
def folder(tmp_path):
    """Made anew for each flag set: with things that flags may point to."""

    def make():
        shutil.rmtree(tmp_path / "parent", ignore_errors=True)
        here = tmp_path / "parent" / "here"
        (here / "folder").mkdir(parents=True)
        (here / "folder" / "thesis.tex").write_text("kept")
        (here / "file").write_text("kept")
        (here / "loop").symlink_to("loop")
        os.mkfifo(here / "pipe")
        os.mknod(here / "socket", stat.S_IFSOCK | 0o600)
        (here / "circle").write_text("--flagfile=circle\n")
        (here / "binary").write_bytes(b"--workdir=\xff\0\xfe\n\0")
        (here / "deep").write_text("# a remark\n--flagfile=good\n--flagfile=pipe\n")
        (here / "good").write_text("# a remark\n\n--seed=3\n")
        (here / "bad").write_text("--workdir=a\0b\n--export_dir=a\0b\n")
        return here

    return make


def check(outcome, here):
    """A run, or one line and exit code 2, and nothing that is half-written."""
    code, _, err = outcome
    assert code in (0, 2), outcome
    assert "Traceback" not in err
    if code:
        *_, last = err.removesuffix("\n").split("\n")
        assert last.startswith("lrn_tf: "), err
    assert (here / "file").read_text() == (here / "folder" / "thesis.tex").read_text() == "kept"
    for path in here.parent.rglob("*"):
        assert not re.fullmatch(r"\.[a-z0-9_]{8}", path.name), path  # of tempfile
        if path.name == "config.json":
            json.loads(path.read_text())
        elif path.name == "metrics.jsonl":
            assert [json.loads(line) for line in path.read_text().splitlines()]
            assert list(path.parent.glob("checkpoints/step-*.index"))
        elif path.name == "saved_model.pb":
            assert (path.parent / "lrn_tf.json").exists()


@pytest.mark.slow
def test_any_flags_at_all(forked, folder, record_property):
    codes = []

    @wild(100)
    @hypothesis.example(([], ["--workdir=\udcff"], False))  # a name that is not UTF-8
    @hypothesis.example(([], ["--export_dir=folder/\udcff"], False))
    @hypothesis.given(FLAG_SETS)
    def try_one(flag_set):
        allowed, strange, first = flag_set
        here, given = folder(), [*strange, *allowed] if first else [*allowed, *strange]
        outcome = forked("lrn_tf.main", ["--workdir=run", *given, "--max_steps=1"], here, stand_in=0)
        hypothesis.note(f"{outcome}")
        check(outcome, here)
        codes.append(outcome[0])

    try_one()
    record_property("flag sets", len(codes))
    record_property("flag sets that ran", codes.count(0))
    assert codes.count(0) > 5 and codes.count(2) > 5


TASKS = [f"digit {digit}" for digit in range(10)]


def test_any_task_at_all(record_property):
    """Given to `lrn_tf.predict`: one of the tasks, or one line that lists them."""
    found = []

    @wild(200)
    @hypothesis.given(NUMBERS | ANYTHING | st.sampled_from(TASKS))
    def try_one(task):
        try:
            found.append(predict.find_task(TASKS, task))
        except UserError as error:
            assert "is unknown; choose one of: digit 0" in str(error)
        else:
            assert task in (found[-1], found[-1].removeprefix("digit "))

    try_one()
    assert set(found) <= set(TASKS) and len(found) > 5


@pytest.mark.parametrize(
    "flag",
    [
        *("--workdir=\udcff", "--workdir=folder/\udcff/x", "--workdir=pipe", "--workdir=/dev/zero/x"),
        *(
            "--export_dir=\udcff",
            "--export_dir=folder/\udcff/x",
            "--export_dir=pipe",
            "--export_dir=/dev/zero",
        ),
        *("--export_dir=run", "--export_dir=run/model", "--export_dir=.", "--export_dir=run/.."),
        *("--export_dir=/proc/x", "--export_dir=/dev/full/x", "--export_dir=file/x", "--export_dir=pipe/x"),
    ],
)
def test_a_path_that_will_not_do_is_refused_at_once(forked, folder, flag, record_property):
    """Not after training. These are rare among random ones."""
    here = folder()
    outcome = forked("lrn_tf.main", ["--workdir=run", flag, "--max_steps=1"], here, stand_in=0)
    check(outcome, here)
    assert outcome[0] == 2 and not list(here.rglob("checkpoints"))
    record_property("flag sets", 1)


@pytest.mark.parametrize(
    "flags, file",
    [
        (["--flagfile=pipe"], "pipe"),
        (["-flagfile", "pipe"], "pipe"),
        (["--flagfile=deep"], "pipe"),
        (["--seed=3", "--flagfile", "deep", "--dup=2"], "pipe"),
        (["--flagfile=folder"], "folder"),
        (["--flagfile=socket"], "socket"),
        (["--flagfile=/dev/zero"], "/dev/zero"),
    ],
)
def test_a_file_of_flags_is_a_file(forked, folder, flags, file, record_property):
    """Nothing is waited for."""
    here = folder()
    outcome = forked("lrn_tf.main", [*flags, "--workdir=run"], here, longest=20, stand_in=0)
    said = f"lrn_tf: --flagfile={file} is no regular file; give a text file with a flag a line\n"
    assert outcome == (2, "", said) and not (here / "run").exists()
    record_property("flag sets", 1)


def test_files_of_flags_may_name_others(forked, folder, record_property):
    here = folder()
    (here / "first").write_text("--seed=5\n--flagfile=second\n")
    (here / "second").write_text("--flagfile=first\n--epochs=1\n--max_steps=1\n")
    code, _, err = forked("lrn_tf.main", ["--flagfile=first", "--workdir=run"], here, stand_in=0)
    assert code == 0, err
    settings = json.loads((here / "run" / "config.json").read_text())["settings"]
    assert (settings["seed"], settings["epochs"]) == (5, 1)
    record_property("flag sets", 1)


def test_a_real_method_at_the_edge_of_what_float32_holds(forked, folder, record_property):
    here = folder()
    flags = ["--workdir=run", "--method=shared", "--examples=128", "--max_steps=1", "--learning_rate=3e38"]
    check(forked("lrn_tf.main", flags, here), here)
    record_property("flag sets", 1)


def test_a_hang_or_a_traceback_would_be_noticed(forked, folder):
    here = pathlib.Path(folder())
    for code, said in ((None, ""), (1, "Traceback"), (2, "half a line"), (2, "Traceback\nlrn_tf: x\n")):
        with pytest.raises(AssertionError):
            check((code, "", said), here)
    check((0, "", ""), here)
    (here / ".half_way").mkdir()
    with pytest.raises(AssertionError):
        check((0, "", ""), here)
