"""Any flags at all: a run, or one line and exit code 2. Never a traceback, a hang or half a file."""

import dataclasses
import json
import pathlib
import re
import shutil

import hypothesis
import pytest
from forked import Forked
from hypothesis import strategies as st
from wild import wild

from lrn_tf.settings import Settings

FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
ANYTHING = st.text(st.characters(exclude_characters="\0"), max_size=30)
NUMBERS = st.sampled_from(
    "0 1 2 3 -1 -0 +1 1.5 1e3 1e308 -1e308 1e-320 nan inf -inf 0x10 1_0 ٣ 999999999999999999999 2147483648"
    "".split()
) | st.integers().map(str)
PATHS = st.sampled_from(
    [
        *("", ".", "..", "../run", "a/../../b", "/", "/proc/x", "/dev/null", "/dev/full", "file", "file/x"),
        *(
            "\udcff",
            "folder/\udc80x",
            "folder",
            "loop",
            "x" * 300,
            "y/" * 3000,
            "ordner mit Ü",
            "a\nb",
            "-",
            "--dup=1",
            "~/x",
            "%s{}",
        ),
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
    "checkpoint_every": ["0", "1"],
    "benchmark": ["digits_mtl"],
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


@pytest.fixture(scope="module")
def forked():
    process = Forked()
    yield process
    process.close()


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
        (here / "circle").write_text("--flagfile=circle\n")
        (here / "binary").write_bytes(b"--workdir=\xff\0\xfe\n\0")
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
        assert not path.name.endswith((".partial", ".tmp")), path
        if path.name == "config.json":
            json.loads(path.read_text())
        elif path.name == "metrics.jsonl":
            assert [json.loads(line) for line in path.read_text().splitlines()]
            assert list(path.parent.glob("checkpoints/step-*.index"))
        elif path.name == "saved_model.pb":
            assert (path.parent / "lrn_tf.json").exists()


def test_any_flags_at_all(forked, folder, record_property):
    codes = []

    @wild(100)
    @hypothesis.example(([], ["--workdir=\udcff"], False))  # a name that is not UTF-8
    @hypothesis.example(([], ["--export_dir=folder/\udcff"], False))
    @hypothesis.given(FLAG_SETS)
    def try_one(flag_set):
        allowed, strange, first = flag_set
        here, start = folder(), ["--workdir=run", "--dup=1", "--depth=2", "--d_model=4"]
        given = [*strange, *allowed] if first else [*allowed, *strange]
        outcome = forked("lrn_tf.main", [*start, *given, "--max_steps=1"], here, stand_in=True)
        hypothesis.note(f"{outcome}")
        check(outcome, here)
        codes.append(outcome[0])

    try_one()
    record_property("flag sets", len(codes))
    record_property("flag sets that ran", codes.count(0))
    assert codes.count(0) > 5 and codes.count(2) > 5


def test_a_real_method_at_the_edge_of_what_float32_holds(forked, folder, record_property):
    here = folder()
    flags = ["--workdir=run", "--method=shared", "--examples=128", "--max_steps=1", "--learning_rate=3e38"]
    check(forked("lrn_tf.main", flags, here), here)
    record_property("flag sets", 1)


def test_a_hang_or_a_traceback_would_be_noticed(forked, folder):
    here = pathlib.Path(folder())
    (here / "half.partial").write_text("")
    for outcome in ((None, "", ""), (1, "", "Traceback"), (2, "", "half a line"), (0, "", "")):
        with pytest.raises(AssertionError):
            check(outcome, here)
