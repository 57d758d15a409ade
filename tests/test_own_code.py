"""Functions of the user's, which settings name."""

import os
import sys

import pytest

from lrn_tf.errors import UserError
from lrn_tf.settings.own_code import own_function
from lrn_tf.settings.resolve import resolve


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a file of the user's, and gives what names a function in it; once by a path from here."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)

    def write(text, function, name="mine.py", relative=False):
        (tmp_path / name).write_text(text)
        return f"{name if relative else tmp_path / name}:{function}"

    yield write
    for module in ("mine", "beside"):
        sys.modules.pop(module, None)


def refusal(flag, value):
    """What is said, in one line, when a function is asked for and called."""
    with pytest.raises(UserError) as caught:
        own_function(flag, value)("problem", 3)
    message = str(caught.value)
    assert message.startswith(f"--{flag}={value}") and "\n" not in message
    return message


@pytest.mark.parametrize("relative", [False, True])
def test_a_function_of_the_users_is_loaded_and_called(written, relative):
    written("FACTOR = 10", "", "beside.py")
    value = written(
        "import beside\ndef kinds(problem, dup):\n    return [problem, dup * beside.FACTOR]",
        "kinds",
        relative=relative,
    )
    assert resolve({"pool": value}).own("pool")("a problem", 3) == ["a problem", 30]
    assert resolve({"benchmark": value}).own("benchmark") is not None
    settings = resolve({"benchmark": value})
    assert settings.own("pool") is None and resolve({}).own("benchmark") is None
    assert settings.workdir == os.path.join("runs", "mine_kinds", "lrn_dup_10_depth_6_seed_0")


def test_a_file_is_executed_once_until_it_is_written_anew(written):
    """It may read gigabytes. What is imported once, such as a list of another file's, counts how often."""
    written("TIMES = []", "", "beside.py")
    text = "import beside\nbeside.TIMES.append(1)\ndef tasks():\n    return len(beside.TIMES)"
    value = written(text, "tasks")
    assert [own_function(flag, value)() for flag in ("benchmark", "pool")] == [1, 1]
    written(text + "  # once more", "tasks")
    assert own_function("benchmark", value)() == 2


def test_a_file_may_hold_what_files_hold(written):
    """A dataclass whose types are text looks its module up, for one."""
    value = written(
        """
        from __future__ import annotations
        import dataclasses

        @dataclasses.dataclass
        class Of:
            width: int

        def kinds(problem, dup):
            return Of(dup).width
        """.replace("\n        ", "\n"),
        "kinds",
    )
    assert own_function("pool", value)("problem", 3) == 3
    assert own_function("pool", value)("problem", 4) == 4
    assert sys.path.count(os.path.dirname(value)) == 1


def test_a_folder_whose_name_has_a_colon_is_a_folder(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    settings = resolve({"benchmark": str(folder)})
    assert settings.own("benchmark") is None and not settings.is_own("benchmark")


def test_a_missing_file(written, tmp_path):
    for value in (
        f"{tmp_path}/none.py:kinds",
        f"{tmp_path}:kinds",
        written("", "kinds", "mine.txt"),
        ":kinds",
    ):
        message = refusal("pool", value)
        assert f"there is no file {value.rpartition(':')[0]}; give FILE.py:FUNCTION" in message


def test_a_missing_function(written):
    text = "import os\nfrom os.path import join\nsizes = [1]\ndef one(): pass\nclass Two: pass"
    for name in ("none", "sizes", "os", ""):
        message = refusal("pool", written(text, name))
        assert f"there is no function {name!r} in " in message
        assert message.endswith("; it has one, Two")
    assert refusal("pool", written("sizes = [1]", "kinds")).endswith("; it has none")


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(
    "text, said, line",
    [
        (
            "def kinds(*_):\n    a = 1\n    raise ValueError('no such\\n  layer')",
            "ValueError: no such layer",
            3,
        ),
        ("def kinds(*_):\n    return inner()\ndef inner():\n    return {}['x']", "KeyError: 'x'", 4),
        ("import json\ndef kinds(*_):\n    json.loads('{')", "JSONDecodeError: Expecting property name", 3),
        (
            "def kinds(problem):\n    return []",
            "TypeError: kinds() takes 1 positional argument but 2",
            None,
        ),
        ("x = 1\ny = x / 0\ndef kinds(*_): pass", "ZeroDivisionError: division by zero", 2),
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module", 1),
        ("def kinds(*_):\n    return [\n", "SyntaxError: '[' was never closed", 2),
        ("def kinds(*_):\n    raise RuntimeError", "RuntimeError", 2),
    ],
)
def test_code_that_raises(written, text, said, line, relative):
    value = written(text, "kinds", relative=relative)
    message = refusal("pool", value)
    assert f" raised {said}" in message
    where = value.rpartition(":")[0] + (f", line {line}" if line else "")
    assert message.endswith(f" ({where}); mend that")


def test_what_we_say_of_what_a_function_does_stays_as_it_is(written):
    text = "from lrn_tf.errors import UserError\ndef kinds(*_):\n    raise UserError('say it')"
    with pytest.raises(UserError, match="^say it$"):
        own_function("pool", written(text, "kinds"))("problem", 3)
