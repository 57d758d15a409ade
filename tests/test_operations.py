"""A model from a stranger: whatever its graph holds, loading and asking it touches no file."""

import dataclasses
import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from made_runs import MIXED
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.trackable.resource import CapturableResource

import lrn_tf
from lrn_tf.data.problem import CLASSES, LABELS, NUMBERS, InputSpec, Problem, TaskSpec
from lrn_tf.devices.precision import layers_compute_in
from lrn_tf.errors import UserError
from lrn_tf.methods.build import build
from lrn_tf.serving.card import CARD
from lrn_tf.serving.operations import COMPUTING, SERVING, more_than_computing, only_computing
from lrn_tf.serving.served import Served
from lrn_tf.settings.resolve import resolve
from lrn_tf.settings.table import METHODS, POOLS
from lrn_tf.storage import files

IMAGE = InputSpec("images", (8, 8, 3), "uint8", (100.0, 90.0, 80.0), (50.0, 40.0, 30.0))
# Tasks of images: of two and three classes, of numbers, and of labels.
FORMS = Problem(
    "forms",
    (IMAGE,),
    (
        TaskSpec("two", "images", CLASSES, ("no", "yes")),
        TaskSpec("again", "images", CLASSES, ("down", "up")),
        TaskSpec("three", "images", CLASSES, ("a", "b", "c")),
        TaskSpec("sizes", "images", NUMBERS, ("height", "width"), (1.0, 2.0), (3.0, 4.0)),
        TaskSpec("marks", "images", LABELS, ("red", "round", "large")),
    ),
)
ONLY_CLASSES = dataclasses.replace(FORMS, tasks=FORMS.tasks[:3])
LRN = dict(dup=1, depth=3)
# All methods and built-in pools, and every choice within them that brings operations of its own.
EXPORTS = [
    (FORMS, dict(method="lrn", pool="paper", actor="pointer", d_model=4, **LRN)),
    (FORMS, dict(method="lrn", pool="residual", d_model=16, dtype="bfloat16", dup=2, depth=4)),
    (FORMS, dict(method="unrouted", pool="wide_1", dup=1, depth=4)),
    (FORMS, dict(method="lrn", pool="transformer", heads="task", d_model=4, **LRN)),
    (MIXED, dict(method="lrn", pool="mixed", heads="task", d_model=4, actor="pointer", **LRN)),
    (MIXED, dict(method="lrn", pool="mixed", d_model=16, dtype="bfloat16", **LRN)),
    (FORMS, dict(method="random_route", d_model=4, **LRN)),  # too narrow for the folded decoder
    (MIXED, dict(method="unrouted", pool="mixed", **LRN)),
    (ONLY_CLASSES, dict(method="routing", agents="single", policy="approximate", dtype="bfloat16")),
    (ONLY_CLASSES, dict(method="routing", agents="dispatched", policy="tabular_literal")),
    (FORMS, dict(method="cross_stitch", dtype="bfloat16")),
    (FORMS, dict(method="task_fc")),
    (FORMS, dict(method="task_head", dtype="bfloat16")),
    (FORMS, dict(method="shared")),
]


def test_every_method_and_pool_is_among_them():
    assert {given["method"] for _, given in EXPORTS} == {*METHODS}
    # A pool is as good as another with wider layers.
    assert {given.get("pool", "paper") for _, given in EXPORTS} == {*POOLS} - {"wide_2", "wide_4"}


def batch(problem, size, rng):
    """Some of what examples may bring, of every input, and their tasks."""
    inputs = {}
    for given in problem.inputs:
        shape, high = (size, *given.shape), {"uint8": 256, "int32": given.vocabulary}.get(given.dtype)
        drawn = rng.integers(0, high, shape) if high else rng.normal(size=shape)
        inputs[given.name] = drawn.astype(given.dtype)
    return inputs, np.arange(size, dtype=np.int32) % problem.num_tasks


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem, given",
    EXPORTS,
    ids=lambda of: getattr(of, "name", None) or "-".join(map(str, of.values())),
)
def test_what_is_exported_is_allowed_and_answers_alike(problem, given, tmp_path):
    """An untrained network: as it was, as TensorFlow loads it, and as we do."""
    settings = resolve(given)
    problem = dataclasses.replace(problem, heads=settings.heads)
    with layers_compute_in(settings.dtype):
        served = Served(build(problem, settings), problem)
    tf.saved_model.save(served, str(tmp_path), signatures=served.functions)
    model = SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    found = more_than_computing(model)
    assert not found, (
        f"an exported model {found}, so lrn_tf.load would refuse it; if that reads and writes no file, and"
        f" changes nothing outside of the model, add it to lrn_tf/serving/operations.py, and else export"
        f" without it"
    )
    card = {"about": {"problem": dataclasses.asdict(problem)}, "files": files.checksums(tmp_path)}
    (tmp_path / CARD).write_text(json.dumps(files.seal(card)))
    inputs, tasks = batch(problem, 3 * problem.num_tasks, np.random.default_rng(1))
    expected = served.functions["serving_default"](
        **{name: tf.constant(x) for name, x in inputs.items()}, tasks=tf.constant(tasks)
    )
    answers = lrn_tf.load(str(tmp_path))(inputs, tasks)
    assert answers.keys() == expected.keys()
    exact = 1e-5 if settings.dtype == "float32" else 1e-2
    for name, value in expected.items():
        if value.dtype == tf.string:
            assert [text.encode() for text in answers[name].ravel()] == value.numpy().ravel().tolist()
        else:
            np.testing.assert_allclose(answers[name], value, rtol=exact, atol=exact, err_msg=name)


# Layers that modules of a user's may have, besides those of the built-in pools; of sequences and of images.
LAYERS = [
    *(keras.layers.Activation(name) for name in ("elu", "selu", "softplus", "softsign", "tanh", "silu")),
    *(
        keras.layers.Activation(name)
        for name in ("relu6", "leaky_relu", "hard_sigmoid", "mish", "exponential")
    ),
    *(keras.layers.Conv1D(4, 3, padding=padding) for padding in ("same", "causal", "valid")),
    *(keras.layers.AveragePooling1D(2), keras.layers.MaxPooling1D(2), keras.layers.GlobalMaxPooling1D()),
    *(keras.layers.UnitNormalization(), keras.layers.RMSNormalization(), keras.layers.PReLU()),
    *(keras.layers.ZeroPadding1D(1), keras.layers.Cropping1D(1), keras.layers.UpSampling1D(2)),
    *(keras.layers.Permute((2, 1)), keras.layers.RepeatVector(2), keras.layers.Rescaling(2.0)),
    *(keras.layers.Conv2D(4, 3, dilation_rate=2), keras.layers.Conv2DTranspose(4, 3, strides=2)),
    *(keras.layers.DepthwiseConv2D(3), keras.layers.SeparableConv2D(4, 3, padding="same")),
    *(
        keras.layers.AveragePooling2D(2),
        keras.layers.MaxPooling2D(2),
        keras.layers.GlobalAveragePooling2D(),
    ),
    *(keras.layers.LSTM(4), keras.layers.GRU(4, return_sequences=True), keras.layers.SimpleRNN(4)),
    keras.layers.Bidirectional(keras.layers.LSTM(4)),
    *(keras.layers.UpSampling2D(2, interpolation=how) for how in ("nearest", "bilinear")),
    *(keras.layers.ZeroPadding2D(1), keras.layers.Cropping2D(1), keras.layers.Resizing(3, 3)),
]
OF_SEQUENCES = (
    *(keras.layers.Conv1D, keras.layers.AveragePooling1D, keras.layers.MaxPooling1D, keras.layers.Permute),
    *(keras.layers.GlobalMaxPooling1D, keras.layers.ZeroPadding1D, keras.layers.Cropping1D),
    *(keras.layers.UpSampling1D, keras.layers.RNN, keras.layers.Bidirectional),
)


def operations_of(function):
    """Names of all operations of a concrete function, and of those that it calls."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return {node.op for node in nodes}


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layers_of_a_users_modules_may_be_loaded(layer):
    shape = (None, 6, 4) if isinstance(layer, OF_SEQUENCES) else (None, 6, 6, 4)
    shape = (None, 4) if isinstance(layer, keras.layers.RepeatVector) else shape
    function = tf.function(lambda x: layer(x), autograph=False)
    found = operations_of(function.get_concrete_function(tf.TensorSpec(shape, tf.float32)))
    assert found - {"Placeholder"} <= COMPUTING


def test_nothing_that_is_allowed_touches_a_file_or_another_process():
    """By what TensorFlow says of its operations: none has a side effect but to fail, or to call others."""
    from tensorflow.python.framework import op_def_registry

    calling = {"If", "PartitionedCall", "StatefulPartitionedCall", "StatelessIf", "StatelessWhile", "While"}
    for name in COMPUTING:
        known = op_def_registry.get(name)
        assert known is not None, f"{name} is no operation"
        assert not known.is_stateful or name in calling | {"Assert", "ReadVariableOp"}, name


def reseal(folder):
    """As a stranger can: checksums tell damage, not who made a model."""
    (folder / "README.md").unlink(missing_ok=True)
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).unlink()
    card = files.seal({**files.unseal(card), "files": files.checksums(folder)})
    (folder / CARD).write_text(json.dumps(card))


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported / "model", tmp_path / "model")


@pytest.fixture
def changed(copy):
    """The exported model, with a change to its graph that its checksums know of."""

    def change_with(change):
        file = copy / "saved_model.pb"
        model = SavedModel.FromString(file.read_bytes())
        change(model)
        file.write_bytes(model.SerializeToString())
        reseal(copy)
        return str(copy)

    return change_with


def functions(model, *ops):
    """Those whose operations include some of these, or none of them if none are named."""
    of = model.meta_graphs[0].graph_def.library.function
    return [f for f in of if not ops or {node.op for node in f.node_def} & set(ops)]


def in_all_functions(op):
    def change(model):
        for function in functions(model):
            function.node_def.add(name="added", op=op)

    return change


def in_the_last_function(op):
    return lambda model: functions(model)[-1].node_def.add(name="added", op=op)


def outside_of_functions(op):
    return lambda model: model.meta_graphs[0].graph_def.node.add(name="added", op=op)


def calling(name=None, within=None):
    """In all functions, a call: of the function that saves, or of a name; in the attribute of another."""

    def change(model):
        (saving,) = functions(model, "SaveV2")
        for function in functions(model):
            node = function.node_def.add(name="added", op="PartitionedCall")
            called = node.attr["f"].func if within is None else node.attr["f"].list.func.add(name=within)
            called = called if within is None else called.attr["g"].func
            called.name = name or saving.signature.name

    return change


def with_object(**values):
    def change(model):
        node = model.meta_graphs[0].object_graph_def.nodes.add()
        for name, value in values.items():
            (getattr(node, name).SetInParent() if value is None else setattr(node, name, value))

    return change


@pytest.mark.parametrize(
    "change, said",
    [
        (in_all_functions("ReadFile"), "holds the operation ReadFile"),
        (in_the_last_function("WriteFile"), "holds the operation WriteFile"),
        (in_the_last_function("PyFunc"), "holds the operation PyFunc"),
        (in_the_last_function("PrintV2"), "holds the operation PrintV2"),
        (in_the_last_function("no such operation"), "holds the operation no such operation"),
        (outside_of_functions("MatchingFiles"), "holds the operation MatchingFiles"),
        (calling(), "calls __inference__traced_save"),
        (calling("ReadFile"), "calls ReadFile"),
        (calling("ReadFile", within="__inference_classify"), "calls "),
        (with_object(asset=None), "holds the object asset"),
        (with_object(resource=None), "holds the object resource"),
        (
            with_object(constant=None, registered_name="tf.StaticHashTable"),
            "holds the object tf.StaticHashTable",
        ),
        (lambda model: model.meta_graphs.add(), "holds 2 graphs"),
        (lambda model: model.meta_graphs[0].ClearField("object_graph_def"), "holds 1 graphs, or one"),
    ],
)
def test_a_graph_that_may_do_more_than_compute_is_refused(changed, change, said):
    with pytest.raises(UserError, match=f"model {said}.*, which no model has that lrn_tf") as caught:
        lrn_tf.load(changed(change))
    assert "\n" not in str(caught.value)


def test_functions_that_work_on_files_are_there_for_servers_only(exported):
    """What TensorFlow sees of a model holds none, and no file besides graph and weights."""
    whole = SavedModel.FromString((exported / "model" / "saved_model.pb").read_bytes())
    assert functions(whole, *SERVING)
    with only_computing(exported / "model") as copy:
        assert sorted(os.listdir(copy)) == ["saved_model.pb", "variables"]
        with open(os.path.join(copy, "saved_model.pb"), "rb") as file:
            seen = SavedModel.FromString(file.read())
    assert {node.op for f in functions(seen) for node in f.node_def} <= COMPUTING
    assert len(functions(seen)) > 5 and {n.op for n in seen.meta_graphs[0].graph_def.node} == {"Const"}
    assert not os.path.exists(copy)


def test_a_restoring_function_cannot_be_reached_from_an_object(changed):
    """As `_restore_from_tensors` of an object, it would run while the weights are restored."""

    def change(model):
        (restoring,) = functions(model, "RestoreV2")
        for node in model.meta_graphs[0].object_graph_def.nodes:
            if node.WhichOneof("kind") == "bare_concrete_function":
                node.bare_concrete_function.concrete_function_name = restoring.signature.name

    with pytest.raises(UserError, match="cannot be read as an exported model"):
        lrn_tf.load(changed(change))


class Writes(CapturableResource):
    """Something that TensorFlow initialises whenever it loads a model that holds it."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def _create_resource(self):
        return tf.constant(0)

    def _initialize(self):
        tf.io.write_file(self.path, "written while loading")


def test_a_model_that_writes_a_file_while_it_is_loaded(copy, tmp_path):
    module, path = tf.Module(), tmp_path / "written"
    module.resource = Writes(str(path))
    add = tf.function(lambda images: {"class": images + 1}, input_signature=[tf.TensorSpec([], tf.int32)])
    shutil.rmtree(copy / "variables")
    tf.saved_model.save(module, str(copy), signatures={"serving_default": add})
    reseal(copy)
    path.unlink(missing_ok=True)

    with pytest.raises(UserError, match="holds the object resource"):
        lrn_tf.load(str(copy))
    assert not path.exists()

    tf.saved_model.load(str(copy))
    assert path.exists()  # else the test would test nothing


def test_a_model_that_reads_a_file_when_it_is_asked(copy):
    @tf.function
    def inner():
        return tf.io.read_file("secret")

    @tf.function(input_signature=[tf.TensorSpec(None, tf.uint8, "images")])
    def outer(images):
        return {"class_name": inner()}

    shutil.rmtree(copy / "variables")
    tf.saved_model.save(tf.Module(), str(copy), signatures={"serving_default": outer})
    reseal(copy)
    with pytest.raises(UserError, match="holds the operation ReadFile, which no model has"):
        lrn_tf.load(str(copy))


def unsealed(folder):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({name: v for name, v in card.items() if name != files.SEAL}))


def listing(*names):
    """Seals a card that lists no other files than these."""

    def change(folder):
        card = files.unseal(json.loads((folder / CARD).read_text()))
        card["files"] = {name: checksum for name, checksum in card["files"].items() if name in names}
        (folder / CARD).write_text(json.dumps(files.seal(card)))

    return change


def with_file(name):
    def change(folder):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")

    return change


def with_pipe(name, listed=True):
    """Whoever opens it waits for ever."""

    def change(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        if not listed:
            listing("saved_model.pb", "fingerprint.pb", INDEX)(folder)

    return change


def with_weights_elsewhere(folder):
    """Through a link, to where no checksum was made."""
    shutil.move(folder / "variables", folder.parent / "elsewhere")
    (folder / "variables").symlink_to(folder.parent / "elsewhere")
    listing("saved_model.pb", "fingerprint.pb")(folder)


INDEX, DATA = "variables/variables.index", "variables/variables.data-00000-of-00001"


@pytest.mark.parametrize(
    "change, said",
    [
        (unsealed, "its checksum does not fit"),
        (listing("fingerprint.pb", INDEX, DATA), "saved_model.pb not among what was exported"),
        (listing("saved_model.pb", "fingerprint.pb", INDEX), f"{DATA} not among what was exported"),
        (with_weights_elsewhere, f"{INDEX} not among what was exported"),
        (with_file("variables/variables.data-00001-of-00002"), "00001-of-00002 not among"),
        (with_file("saved_model.pbtxt"), "saved_model.pbtxt not among"),
        (with_pipe(DATA), f"{DATA} missing or not as exported"),
        (with_pipe(DATA, listed=False), f"{DATA} not among"),
        (with_file("assets/words.txt"), "assets/words.txt not among"),
        (with_file("debug/saved_model_debug_info.pb"), "debug_info.pb not among"),
    ],
)
def test_what_tensorflow_reads_must_have_a_checksum(copy, change, said):
    change(copy)
    with pytest.raises(UserError, match=f"cannot be read as an exported model .*{said}.*; export it anew"):
        lrn_tf.load(str(copy))


def test_a_model_that_another_replaces_while_it_is_read_is_not_mixed_with_it(copy, monkeypatch):
    loading, card = tf.saved_model.load, json.loads((copy / CARD).read_text())
    loaded = []

    def load_and_replace(path):
        loaded.append(path)
        if len(loaded) == 1:
            (copy / CARD).write_text(json.dumps(card))  # with other white space
        return loading(path)

    monkeypatch.setattr(tf.saved_model, "load", load_and_replace)
    lrn_tf.load(str(copy))
    assert len(loaded) == 2


def test_a_card_that_is_a_pipe_is_no_card(copy):
    (copy / CARD).unlink()
    os.mkfifo(copy / CARD)
    with pytest.raises(UserError, match="has no lrn_tf.json and no config.json"):
        lrn_tf.load(str(copy))


def test_a_model_is_loaded_from_anywhere(copy, tmp_path, monkeypatch):
    """From a folder whose name is no UTF-8, from a relative one, and through a link."""
    odd = tmp_path / os.fsdecode(b"odd \xff")
    shutil.move(copy, odd)
    (tmp_path / "link").symlink_to(odd)
    monkeypatch.chdir(tmp_path)
    images = np.zeros((2, 8, 8, 1), np.uint8)
    (odd / "variables" / ".DS_Store").write_text("of a file browser")
    for path in (str(odd), odd.name, "link"):
        assert lrn_tf.load(path)(images, [0, 9])["probabilities"].shape == (2, 2)
