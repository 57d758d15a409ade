"""The benchmarks against their sources, and every way in which data may be missing or broken."""

import collections
import functools
import os
import pathlib
import shutil

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from named_benchmarks import counts, damage, expected_counts, load, refused

from lrn_tf.data import benchmarks, data_sets, mini_imagenet
from lrn_tf.data.tasks import Task
from lrn_tf.errors import UserError

DATA = pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
FOLDERS = mini_imagenet.manual_folder(DATA)

needs_mnist = pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason=f"no mnist in {DATA}")
needs_cifar = pytest.mark.skipif(not (DATA / "cifar100").is_dir(), reason=f"no cifar100 in {DATA}")
needs_mini = pytest.mark.skipif(not FOLDERS.is_dir(), reason=f"no {FOLDERS}")
# They read tens of thousands of images, or decode thousands of photographs.
slow = pytest.mark.slow
REAL = [
    "digits_mtl",
    pytest.param("mnist_mtl", marks=(needs_mnist, slow)),
    pytest.param("cifar_mtl", marks=(needs_cifar, slow)),
    pytest.param("min_mtl", marks=(needs_mini, slow)),
]
EVERY = [*REAL, "mixed_mtl"]

# The coarse label of each of CIFAR-100's fine labels, as its authors publish it.
COARSE = np.array(
    [4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7]
    + [6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10]
    + [16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16]
    + [12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13]
)


@pytest.fixture(scope="module", autouse=True)
def read_once():
    """What TensorFlow Datasets has in a folder, and the pictures of the real Mini-ImageNet."""
    decode, decoded = mini_imagenet.decode, {}

    def decode_once(of):
        new = [jpeg for jpeg in of if jpeg not in decoded]
        decoded.update(zip(new, decode(np.array(new, object)) if new else (), strict=True))
        return np.stack([decoded[jpeg] for jpeg in of])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_sets, "splits", functools.cache(data_sets.splits))
        patch.setattr(data_sets, "mini_imagenet_jpegs", functools.cache(data_sets.mini_imagenet_jpegs))
        patch.setattr(mini_imagenet, "decode", decode_once)
        yield


@pytest.fixture(scope="module")
def loaded():
    return functools.cache(load)


def tfds_source(name, split):
    """Labels by the bytes of the image; a few images of CIFAR-100 occur twice, with two labels."""
    import tensorflow_datasets as tfds

    labels = collections.defaultdict(set)
    data = tfds.as_numpy(tfds.load(name, split=split, data_dir=DATA, batch_size=-1))
    for image, label in zip(data["image"], data["label"], strict=True):
        labels[image.tobytes()].add(label)
    return labels


def keys(examples):
    """The bytes of each example's image."""
    (images,) = examples.inputs
    of_image = [image.tobytes() for image in images]
    return [of_image[row] for row in examples.row]


def contents(benchmark):
    """All that the seed decides."""
    return [
        np.ascontiguousarray(array).tobytes()
        for part in (benchmark.train, benchmark.test)
        for array in (part.row, part.task, part.target, *part.inputs)
    ]


# What every benchmark promises.


@pytest.mark.parametrize("name", REAL)
def test_examples_are_well_formed(loaded, name):
    benchmark = loaded(name)
    problem = benchmark.problem
    assert benchmark.name == problem.name == name
    (given,) = problem.inputs
    assert (given.name, given.dtype, given.vocabulary) == ("images", "uint8", 0) and given.is_image
    assert len(problem.task_names) == len(set(problem.task_names)) == problem.num_tasks
    assert {len(classes) for classes in problem.answers} == {problem.width}
    assert {(task.input, task.form, task.weight) for task in problem.tasks} == {("images", "classes", 1)}
    for part in (benchmark.train, benchmark.test):
        (images,) = part.inputs
        assert part.row.dtype == part.task.dtype == part.target.dtype == np.int32
        assert part.row.shape == part.task.shape == part.target.shape == (len(part),)
        assert images.dtype == np.uint8
        assert images.shape[1:] == given.shape
        assert part.nbytes == images.nbytes + 4 * len(part)
        # Every image is used, and no task has one twice.
        assert set(part.row.tolist()) == set(range(len(images)))
        assert len(set(zip(part.row.tolist(), part.task.tolist(), strict=True))) == len(part)


# CIFAR-MTL takes all images, so that a seed has nothing to choose there.
@pytest.mark.parametrize("name", [name for name in EVERY if "cifar_mtl" not in getattr(name, "values", ())])
def test_the_seed_decides(loaded, name):
    first = contents(loaded(name))
    assert contents(load(name)) == first
    assert contents(load(name, seed=1)) != first


def test_the_seed_decides_what_is_held_out(monkeypatch):
    drawn = benchmarks.LOADERS["digits_mtl"](benchmarks.Choice())
    monkeypatch.setitem(benchmarks.LOADERS, "digits_mtl", lambda choice: drawn)
    first = contents(load("digits_mtl", validation=0.1))
    assert contents(load("digits_mtl", validation=0.1)) == first
    assert contents(load("digits_mtl", validation=0.1, seed=1)) != first


def test_some_examples_only(loaded):
    whole, some = loaded("digits_mtl"), load("digits_mtl", examples=500)
    assert len(some.train) == 500 and len(some.test) == len(whole.test)
    assert len(some.train.inputs[0]) <= 500

    def examples(part):
        return set(zip(keys(part), part.task.tolist(), part.target.tolist(), strict=True))

    assert examples(some.train) < examples(whole.train)
    assert contents(load("digits_mtl", examples=500)) == contents(some)
    assert contents(load("digits_mtl", examples=500, seed=1)) != contents(some)
    with pytest.raises(UserError, match="--examples=99999 is more than there are, 14380; choose fewer"):
        load("digits_mtl", examples=99999)


@pytest.mark.parametrize("name", REAL)
def test_validation_holds_out_training_images(loaded, name):
    whole, split = loaded(name).train, loaded(name, validation=0.1)

    def examples(part):
        return collections.Counter(zip(keys(part), part.task.tolist(), part.target.tolist(), strict=True))

    # A partition of the training examples. Counted, as CIFAR-100 holds some of its images twice.
    assert examples(split.train) + examples(split.test) == examples(whole)
    if name != "cifar_mtl":
        assert not set(keys(split.train)) & set(keys(split.test))
    # Exact to the image; how many of its examples are in MNIST-MTL is chance.
    off = {"rel": 0.25} if name == "mnist_mtl" else {"abs": 0.5}
    held_out = counts(split.test)
    for (task, label), count in counts(whole).items():
        if name != "digits_mtl" or label == 1:
            assert held_out[task, label] == pytest.approx(0.1 * count, **off)


@pytest.mark.parametrize("name", REAL)
def test_mean_and_std_are_those_of_the_training_images(loaded, name):
    benchmark = loaded(name)
    (given,), (images,) = benchmark.problem.inputs, benchmark.train.inputs
    assert len(given.mean) == len(given.std) == given.shape[-1]
    for channel in range(given.shape[-1]):
        values = images[..., channel]
        assert given.mean[channel] == pytest.approx(values.mean(dtype=np.float64), rel=1e-6)
        assert given.std[channel] == pytest.approx(values.std(dtype=np.float64), rel=1e-6)
    # As the device has them.
    assert all(number == np.float32(number) for number in given.mean + given.std)


def test_std_of_a_constant_channel_is_one():
    images = np.full((3, 4, 4, 2), 7, np.uint8)
    images[0, 0, 0, 1] = 200
    mean, std = benchmarks.moments(images)
    assert mean[0] == 7 and std[0] == 1
    assert std[1] == pytest.approx(images[..., 1].std(), rel=1e-6)
    assert mean.dtype == std.dtype == np.float32


# DIGITS-MTL


def test_digits_are_a_stratified_partition_of_the_source(loaded):
    benchmark, source = loaded("digits_mtl"), sklearn.datasets.load_digits()
    assert benchmark.problem.inputs[0].shape == (8, 8, 1)
    assert (benchmark.problem.num_tasks, benchmark.problem.width) == (10, 2)
    ours = np.concatenate([benchmark.train.inputs[0], benchmark.test.inputs[0]])[..., 0] / 15
    assert sorted(image.tobytes() for image in ours) == sorted(image.tobytes() for image in source.images)
    held_out = [benchmark.test.target[benchmark.test.task == digit].sum() for digit in range(10)]
    assert held_out == [round(0.2 * count) for count in np.bincount(source.target)]


def test_digits_ask_of_every_image_which_digit_it_is(loaded):
    source = sklearn.datasets.load_digits()
    digit_of = {
        (15 * image).astype(np.uint8).tobytes(): digit
        for image, digit in zip(source.images, source.target, strict=True)
    }
    for part in (loaded("digits_mtl").train, loaded("digits_mtl").test):
        assert len(part) == 10 * len(part.inputs[0])
        digits = np.array([digit_of[key] for key in keys(part)])
        np.testing.assert_array_equal(part.target, digits == part.task)


def test_names_of_digits(loaded):
    problem = loaded("digits_mtl").problem
    assert problem.task_names[3] == "digit 3"
    assert problem.answers[3] == ("other than 3", "3")


# MIXED-MTL

TABLES = {
    "wine": sklearn.datasets.load_wine,
    "breast_cancer": sklearn.datasets.load_breast_cancer,
    "diabetes": sklearn.datasets.load_diabetes,
}


def of_task(benchmark, part, name):
    """What examples of a task bring, and their targets, `[n, C]`."""
    k = benchmark.problem.task_names.index(name)
    mine = part.task == k
    x = part.inputs[benchmark.problem.input_of[k]]
    return x[part.row[mine]], part.target[mine]


def test_the_tasks_of_the_mixture_and_their_inputs(loaded):
    problem = loaded("mixed_mtl").problem
    assert problem.name == "mixed_mtl"
    assert [(i.name, i.shape, i.dtype, i.vocabulary) for i in problem.inputs] == [
        ("images", (8, 8, 1), "uint8", 0),
        ("sequences", (8, 8), "float32", 0),
        ("wine", (13,), "float32", 0),
        ("breast_cancer", (30,), "float32", 0),
        ("diabetes", (10,), "float32", 0),
    ]
    digits = tuple("0123456789")
    assert [(t.name, t.input, t.form, t.answers, t.weight) for t in problem.tasks] == [
        ("digit_images", "images", "classes", digits, 1),
        ("digit_rows", "sequences", "classes", digits, 1),
        ("wine", "wine", "classes", ("class_0", "class_1", "class_2"), 1),
        ("breast_cancer", "breast_cancer", "classes", ("malignant", "benign"), 1),
        ("diabetes", "diabetes", "numbers", ("progression",), 1),
    ]
    assert [space.tasks for space in problem.label_spaces] == [2, 1, 1, 1]


@pytest.mark.parametrize("given", [{}, {"seed": 3}, {"validation": 0.2}])
def test_the_mixture_holds_what_its_sources_have(loaded, given):
    benchmark = loaded("mixed_mtl", **given)
    digits = sklearn.datasets.load_digits()
    sources = {
        "digit_images": ((15 * digits.images[..., None]).astype(np.uint8), digits.target),
        "digit_rows": (digits.images, digits.target),
        **{name: load_table(return_X_y=True) for name, load_table in TABLES.items()},
    }
    for name, (x, y) in sources.items():
        parts = [of_task(benchmark, part, name) for part in (benchmark.train, benchmark.test)]
        if "validation" not in given:
            ours = collections.Counter(
                (row.tobytes(), float(target[0]))
                for of_part in parts
                for row, target in zip(*of_part, strict=True)
            )
            x = x.astype(parts[0][0].dtype)
            assert ours == collections.Counter(
                zip((row.tobytes() for row in x), map(float, y), strict=True)
            )
        train, test = ({row.tobytes() for row in x} for x, _ in parts)
        # The digits have no picture twice, nor the tables a row.
        assert not train & test
        if name != "diabetes" and not given:
            for label, count in enumerate(np.bincount(y)):
                assert (parts[1][1][:, 0] == label).sum() == round(0.2 * count)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_digits_are_held_out_in_both_of_their_tasks(loaded, seed):
    benchmark = loaded("mixed_mtl", seed=seed)
    for part in (benchmark.train, benchmark.test):
        images, labels = of_task(benchmark, part, "digit_images")
        rows, same = of_task(benchmark, part, "digit_rows")
        np.testing.assert_array_equal(images[..., 0], 15 * rows)
        np.testing.assert_array_equal(labels, same)


def test_the_progression_of_diabetes_is_a_number(loaded):
    benchmark = loaded("mixed_mtl")
    task = benchmark.problem.tasks[-1]
    _, y = of_task(benchmark, benchmark.train, "diabetes")
    assert len(y) == 442 - 88 and y[:, 0].min() >= 25 and y[:, 0].max() <= 346
    assert task.mean == pytest.approx([y[:, 0].mean(dtype=np.float64)], rel=1e-6)
    assert task.std == pytest.approx([y[:, 0].std(dtype=np.float64)], rel=1e-6)
    # One column is enough for a number, and for a class.
    assert y.shape[1] == 1


def test_the_mixture_has_examples_of_every_task_held_out_for_validation(loaded):
    benchmark = loaded("mixed_mtl", validation=0.2)
    whole = np.bincount(loaded("mixed_mtl").train.task)
    for k, count in enumerate(np.bincount(benchmark.test.task)):
        assert count == pytest.approx(0.2 * whole[k], abs=5)


# One's own


def test_a_function_of_ones_own(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np, lrn_tf\n"
        "def tasks():\n"
        "    x = np.arange(40.0).reshape(20, 2)\n"
        "    return [lrn_tf.Task('big', x, x[:, 0] > 19), lrn_tf.Task('sum', x, x.sum(axis=1))]\n"
        "def wrong():\n"
        "    return {'big': 3}\n"
        "def single():\n"
        "    return [lrn_tf.Task('big', np.ones((5, 2)), np.zeros(5, int))]\n"
    )
    benchmark = load(f"{tmp_path}/mine.py:tasks")
    assert benchmark.name == "mine:tasks" and benchmark.problem.task_names == ("big", "sum")
    # Both are of the same rows, which are held once.
    assert [len(part.inputs[0]) for part in (benchmark.train, benchmark.test)] == [16, 4]
    assert [len(benchmark.train), len(benchmark.test)] == [32, 8]
    message = refused(f"{tmp_path}/mine.py:wrong")
    assert message == "mine:wrong is dict, not a list of lrn_tf.Task; make it one"
    assert refused(f"{tmp_path}/mine.py:single").startswith("big has a single class, 0; ")


# MNIST-MTL


@needs_mnist
@slow
def test_mnist_trains_on_a_thousand_of_every_digit_per_task(loaded):
    train, source = loaded("mnist_mtl").train, tfds_source("mnist", "train")
    (digits,) = np.array([list(source[key]) for key in keys(train)]).T
    assert collections.Counter(zip(train.task.tolist(), digits.tolist(), strict=True)) == expected_counts(
        10, 10, 1000
    )
    np.testing.assert_array_equal(train.target, digits == train.task)


@needs_mnist
@slow
def test_mnist_is_tested_on_random_test_images(loaded):
    test, source = loaded("mnist_mtl").test, tfds_source("mnist", "test")
    # Being of the test split makes them no training images: MNIST has no image twice.
    (digits,) = np.array([list(source[key]) for key in keys(test)]).T
    np.testing.assert_array_equal(test.target, digits == test.task)
    assert np.bincount(test.task).tolist() == [200] * 10
    positive = [test.target[test.task == task].sum() for task in range(10)]
    # Of 2,000 examples 200 are expected to be positive, give or take 13; nothing makes it 20 per task.
    assert 140 < sum(positive) < 260
    assert len(set(positive)) > 1
    # 2,000 draws of 10,000 images, each task's own.
    assert len(test.inputs[0]) > 1700


# CIFAR-MTL


@needs_cifar
@slow
def test_cifar_labels_are_ranks_among_the_fine_labels_of_a_coarse_one(loaded):
    benchmark = loaded("cifar_mtl")
    assert counts(benchmark.train) == expected_counts(20, 5, 500)
    assert counts(benchmark.test) == expected_counts(20, 5, 100)
    fine = np.array([np.flatnonzero(COARSE == coarse) for coarse in range(20)])
    for part, split in ((benchmark.train, "train"), (benchmark.test, "test")):
        labels = fine[part.task, part.target]
        source = tfds_source("cifar100", split)
        assert all(label in source[key] for label, key in zip(labels, keys(part), strict=True))
        # All images of this split and none of the other; by bytes, 10 are in both.
        assert set(keys(part)) == set(source)


@needs_cifar
@slow
def test_cifar_names_are_those_of_tfds(loaded):
    import tensorflow_datasets as tfds

    features = tfds.builder("cifar100", data_dir=DATA).info.features
    problem = loaded("cifar_mtl").problem
    assert list(problem.task_names) == features["coarse_label"].names
    assert problem.answers[7][2] == features["label"].names[np.flatnonzero(COARSE == 7)[2]]


# MIN-MTL


def files_by_content(wnids):
    """Which classes' files decode to an image: wnid by the image's bytes, a file an entry."""
    decoded = collections.defaultdict(list)
    for wnid in wnids:
        for path in (FOLDERS / wnid).iterdir():
            decoded[tf.io.decode_jpeg(path.read_bytes(), channels=3).numpy().tobytes()].append(wnid)
    return decoded


@needs_mini
@slow
def test_min_takes_the_first_fifty_classes_in_fives(loaded):
    benchmark = loaded("min_mtl")
    wnids = sorted(os.listdir(FOLDERS))[:50]
    assert [wnid for classes in benchmark.problem.answers for wnid in classes] == wnids
    assert counts(benchmark.train) == expected_counts(10, 5, 160)
    assert counts(benchmark.test) == expected_counts(10, 5, 10)


@needs_mini
@slow
def test_min_images_show_their_class_and_are_used_once(loaded):
    benchmark = loaded("min_mtl")
    used = collections.Counter()
    for task in (0, 9):
        files = files_by_content(benchmark.problem.answers[task])
        for part in (benchmark.train, benchmark.test):
            for key, of_task, label in zip(keys(part), part.task, part.target, strict=True):
                if of_task == task:
                    assert benchmark.problem.answers[task][label] in files[key]
                    used[key] += 1
        # By file and not by bytes: one of Mini-ImageNet's images is in it twice.
        assert all(used[key] <= len(wnids) for key, wnids in files.items())
    assert used.total() == 2 * 850


# Sizes


@pytest.mark.parametrize("size", [4, 16])
def test_image_size_resizes_the_same_images(loaded, size):
    native, resized = loaded("digits_mtl"), load("digits_mtl", image_size=size)
    assert resized.problem.inputs[0].shape == (size, size, 1)
    (images,) = resized.train.inputs
    expected = tf.image.resize(native.train.inputs[0], (size, size), antialias=True)
    assert images.dtype == np.uint8
    np.testing.assert_array_less(np.abs(images - expected), 0.501)
    np.testing.assert_array_equal(resized.train.row, native.train.row)


def test_images_of_which_none_is_drawn_can_be_resized():
    """As where there are two sizes of them, and --examples takes few."""
    rng = np.random.default_rng(0)
    many, few = (rng.integers(0, 255, (n, s, s, 1)).astype(np.uint8) for n, s in ((60, 8), (4, 6)))
    tasks = [Task(name, x, np.arange(len(x)) % 2) for name, x in (("many", many), ("few", few))]
    for seed in range(5):
        drawn = benchmarks.own("p", tasks)
        data = benchmarks.load(drawn, benchmarks.Choice(seed=seed, examples=2, image_size=8))
        assert [x.shape[1:] for x in data.train.inputs] == [(8, 8, 1)] * 2 and len(data.train) == 2


@pytest.mark.parametrize("size", [1, 3, 513])
def test_silly_image_sizes_are_refused(size):
    with pytest.raises(UserError, match=f"--image_size={size} .* 4 to 512"):
        load("digits_mtl", image_size=size)


# Missing and broken data


@pytest.mark.parametrize("name, benchmark", [("mnist", "mnist_mtl"), ("cifar100", "cifar_mtl")])
def test_missing_data_without_a_network(tmp_path, monkeypatch, capsys, name, benchmark):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    message = refused(benchmark, data_dir=str(tmp_path))
    assert f"{name} is not in {tmp_path}/{name}" in message
    assert f"tfds.load('{name}', data_dir='{tmp_path}')" in message
    assert "--benchmark=digits_mtl works offline" in message
    output = capsys.readouterr()
    assert output.out == "" and len(output.err.splitlines()) == 1 and "downloading" in output.err


def truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


@needs_mnist
@slow
@pytest.mark.parametrize(
    "pattern, hurt",
    [
        ("mnist-train*", damage),
        ("mnist-test*", truncate),
        ("dataset_info.json", lambda path: path.write_text("{")),
        ("dataset_info.json", pathlib.Path.unlink),
    ],
)
def test_corrupt_data(tmp_path, pattern, hurt):
    shutil.copytree(DATA / "mnist", tmp_path / "mnist")
    (path,) = tmp_path.rglob(pattern)
    hurt(path)
    message = refused("mnist_mtl", data_dir=str(tmp_path))
    assert f"mnist in {tmp_path}/mnist cannot be read" in message and "delete that folder" in message
