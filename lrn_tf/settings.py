"""Every setting of a run: its default, its help text, and what each benchmark presets.

This table is the only place where a setting is defined; `main` makes one absl flag of each field.
Nothing here imports TensorFlow, so that a mistyped flag is refused at once.
"""

import dataclasses
import os
import typing

from lrn_tf.errors import UserError

OURS = " (not from the paper)"

# The methods that have --dup, --depth and the other settings of the router and its pool, and those that
# have a trunk and learn by plain SGD.
LRNS = ("lrn", "random_route")
SGD_METHODS = ("routing", "cross_stitch", "task_fc", "task_head", "shared")
FLOAT32_MAX = 3.4028234e38
BENCHMARKS = ("digits_mtl", "mnist_mtl", "cifar_mtl", "min_mtl")


def setting(default, help, *, choices=None, low=None, high=None):
    """A dataclass field with what its flag needs: help text, allowed values or bounds (inclusive)."""
    metadata = {"help": help, "choices": choices, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of one run. Defaults are the paper's (Sec. 5.1) unless the help says otherwise."""

    benchmark: str = setting(
        "digits_mtl",
        "Which tasks to learn. digits_mtl needs no download" + OURS,
        choices=BENCHMARKS,
    )
    method: str = setting(
        "lrn",
        "What learns them: the Limitless Routing Network, the same with a router that is never trained,"
        " the routing network of Rosenbaum et al. (2017), cross-stitch networks (Misra et al. 2016), all or"
        " the last of three layers for each task alone, or one network told the task",
        choices=LRNS + SGD_METHODS,
    )
    pool: str = setting(
        "paper",
        "Kinds of modules: the paper's six, or pyramid, in which convolutions halve the image"
        " (pyramid is not from the paper)",
        choices=("paper", "pyramid"),
    )
    dup: int = setting(10, "Copies of each kind of module", low=1, high=1000)
    depth: int = setting(6, "Steps of the router, the largest depth of a network", low=1, high=64)
    epochs: int = setting(100, "Passes over the training examples", low=1, high=10**6)
    batch_size: int = setting(128, "Examples per step", low=1)
    minibatch_size: int = setting(64, "Episodes per minibatch of PPO; divides batch_size", low=1)
    ppo_epochs: int = setting(1, "Passes of PPO over a batch of episodes", low=1, high=100)
    learning_rate: float = setting(
        1e-4,
        "Learning rate of Adam for modules and router (Adam is not from the paper), of SGD in the methods"
        " with a trunk",
        low=0.0,
    )
    lr_decay: float = setting(0.97, "Factor on the learning rate after every --lr_every", low=0.0, high=1.0)
    lr_every: int = setting(1, "Epochs after which --lr_decay is applied once more", low=1)
    d_model: int = setting(
        256, "Width of the router's embeddings and transformer; a multiple of its 4 heads", low=4, high=8192
    )
    actor: str = setting(
        "decoder",
        "How the router scores modules: a transformer decoder over those that may come next (the paper's),"
        " or a pointer, whose cost hardly grows with the number of modules (not from the paper)",
        choices=("decoder", "pointer"),
    )
    actor_scale: float = setting(
        0.0,
        "Factor on the initial weights of the actor's last layer: how decided the untrained router is;"
        " 1 is Keras' default, 0 the square root of modules x depth / 30, which is 2 for the paper's pool"
        " with dup 5 and depth 4" + OURS,
        low=0.0,
    )
    image_scale: float = setting(
        0.1,
        "Factor on the initial weights of the image embedding: how much the untrained router goes by"
        " the image instead of the task; 1 is Keras' default" + OURS,
        low=0.0,
    )
    bonus: float = setting(
        3.0,
        "lambda, the largest reward for a rarely used module; eq. 6 has 1, and 0 is the paper's 'no"
        " bonus' (the value 3 is not from the paper)",
        low=0.0,
    )
    reward: str = setting(
        "every_step",
        "Where -CE is paid: on every_step (eq. 7), until_output (not after the output module) or"
        " terminal (on the last step only); the last two are not from the paper",
        choices=("every_step", "until_output", "terminal"),
    )
    entropy: float = setting(0.01, "Coefficient of the policy's entropy in PPO's loss" + OURS, low=0.0)
    blocks: int = setting(
        0,
        "routing only: function blocks in each of its three layers; 0 is one for each task",
        low=0,
        high=1000,
    )
    agents: str = setting(
        "per_task",
        "routing only: who decides. An agent for each task, a single one, or as many as tasks to which a"
        " further agent dispatches each example",
        choices=("per_task", "single", "dispatched"),
    )
    policy: str = setting(
        "tabular",
        "routing only: an agent's policy. A table per layer, learned by the Weighted Policy Learner from"
        " the mean return of each action (tabular) or from single returns as Rosenbaum et al. have it"
        " (tabular_literal), or a small network that sees the block's input (approximate)",
        choices=("tabular", "tabular_literal", "approximate"),
    )
    rho: float = setting(
        0.0,
        "routing only: the collaboration reward, for a block's share of all choices so far",
        low=0.0,
    )
    image_size: int = setting(0, "Side of the images in pixels; 0 keeps their native size" + OURS, low=0)
    augment: str = setting(
        "none",
        "What is done to training images at random: none, flip (left to right), or flip_shift (besides,"
        " moved by up to an eighth of their sides)" + OURS,
        choices=("none", "flip", "flip_shift"),
    )
    examples_per: str = setting(
        "task",
        "min_mtl only: 800 training and 50 test images per task (the paper) or per label"
        " (Rosenbaum et al. 2017; what remains of 600 after 50 for the test)",
        choices=("task", "label"),
    )
    examples: int = setting(
        0, "Train on so many of the training examples only, drawn at random; 0 takes all" + OURS, low=0
    )
    validation: float = setting(
        0.0,
        "Evaluate on this fraction of the training images, held out from training, instead of on"
        " the test images" + OURS,
        low=0.0,
        high=0.5,
    )
    seed: int = setting(0, "Seed of everything random" + OURS, low=0, high=2**31 - 1)
    data_dir: str = setting(
        "", "Where TensorFlow Datasets keeps data; empty is its default, ~/tensorflow_datasets" + OURS
    )
    workdir: str = setting(
        "", "Folder of checkpoints, metrics and summaries; empty is runs/<the settings' name>" + OURS
    )
    export_dir: str = setting(
        "", "Export the network as a SavedModel into this folder at the end; empty exports nothing" + OURS
    )
    max_steps: int = setting(0, "Stop after this many steps; 0 trains all epochs" + OURS, low=0)
    resume: bool = setting(
        True, "Continue the run that workdir holds; --noresume refuses a workdir that holds one" + OURS
    )
    dtype: str = setting(
        "float32",
        "Arithmetic of the layers; bfloat16 keeps weights, losses and softmax in float32" + OURS,
        choices=("float32", "bfloat16"),
    )
    distribute: str = setting(
        "none",
        "Share each batch: none, mirrored (all GPUs of this machine) or multi_worker (several machines;"
        " the environment variable TF_CONFIG names them)" + OURS,
        choices=("none", "mirrored", "multi_worker"),
    )
    cache: bool = setting(
        True,
        "Keep what XLA compiles in $XDG_CACHE_HOME/lrn_tf (~/.cache/lrn_tf), 1 GB at most, so that the next"
        " start is quicker; --nocache does not" + OURS,
    )
    checkpoint_every: int = setting(
        0, "Steps between checkpoints; 0 saves after every epoch only" + OURS, low=0
    )
    pictures_every: int = setting(
        10,
        "Epochs between pictures of module use and paths for TensorBoard, which come after the last epoch"
        " too; 0 draws none" + OURS,
        low=0,
    )
    profile: bool = setting(
        False, "Write a profile of the run's 10th to 20th step for TensorBoard into the workdir" + OURS
    )

    @property
    def name(self):
        """A folder name for the run: what tells it from the runs one would put beside it."""
        words = [self.method]
        if self.method in LRNS:
            words += [f"dup_{self.dup}_depth_{self.depth}"] + ["no_bonus"] * (not self.bonus)
        elif self.method == "routing":
            words += [self.agents, self.policy]
        return f"{self.benchmark}/{'_'.join(words)}_seed_{self.seed}"

    @property
    def split(self) -> str:
        """What is evaluated on: the test images, or validation images held out of the training images."""
        return "validation" if self.validation else "test"

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        return self.learning_rate * self.lr_decay ** (epoch // self.lr_every)


# What --benchmark and --method preset; a later line wins. The paper's settings are the defaults above, and
# the schedule of SGD is that of Rosenbaum et al. (2017). digits_mtl, which is ours, is small enough to be
# learned within minutes on two CPU cores. Its learning rate falls in 15 epochs as far as the paper's does
# in 100: 0.97 ** (100 / 15) is 0.82.
PRESETS = (
    (("digits_mtl",), LRNS, dict(learning_rate=1e-3, lr_decay=0.82)),
    (("digits_mtl",), LRNS + SGD_METHODS, dict(dup=5, depth=4, epochs=15, d_model=64)),
    (("mnist_mtl",), LRNS + SGD_METHODS, dict(rho=0.3)),
    (BENCHMARKS, SGD_METHODS, dict(learning_rate=1e-2, lr_decay=0.1, lr_every=20)),
    (("digits_mtl",), SGD_METHODS, dict(learning_rate=0.3)),
)

# A run may be continued although these differ: they do not change what is computed.
FREE_ON_RESUME = (
    "data_dir",
    "workdir",
    "export_dir",
    "epochs",
    "max_steps",
    "resume",
    "distribute",
    "cache",
    "checkpoint_every",
    "pictures_every",
    "profile",
)


def behind_results(settings: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Those settings, by name, that what came out depends on."""
    return {name: v for name, v in settings.items() if name == "epochs" or name not in FREE_ON_RESUME}


def preset(benchmark: str, method: str) -> dict[str, typing.Any]:
    """What a benchmark and a method preset, by name of setting."""
    found = {}
    for benchmarks, methods, values in PRESETS:
        if benchmark in benchmarks and method in methods:
            found |= values
    return found


def defaults(benchmark: str, method: str) -> dict[str, typing.Any]:
    """What every setting is, by name, where it is not given."""
    return dataclasses.asdict(Settings()) | preset(benchmark, method)


def resolve(given: dict[str, typing.Any]) -> Settings:
    """Fills what was not given from the benchmark's preset and the defaults, and checks the result.

    Args:
        given: values by name of setting, only those that the user set.

    Raises:
        UserError: there is no such setting, a value is not allowed, or two do not go together.
    """
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    for name, value in given.items():
        if name not in fields:
            raise UserError(f"there is no setting {name!r}; see --help")
        _check(fields[name], value)
    benchmark = given.get("benchmark", Settings.benchmark)
    settings = Settings(**{**preset(benchmark, given.get("method", Settings.method)), **given})
    if settings.method in LRNS and settings.batch_size % settings.minibatch_size:
        raise UserError(
            f"--minibatch_size={settings.minibatch_size} does not divide --batch_size="
            f"{settings.batch_size}; choose a divisor"
        )
    if settings.image_size and not 4 <= settings.image_size <= 512:
        raise UserError(f"--image_size={settings.image_size} is out of range; allowed is 0 or 4 to 512")
    if settings.method in LRNS and settings.d_model % 4:
        raise UserError(f"--d_model={settings.d_model} is not a multiple of the router's 4 heads")
    if not settings.workdir:
        settings = dataclasses.replace(settings, workdir=os.path.join("runs", settings.name))
    return settings


def _check(field, value):
    # Flags have their types; what is read from a file may have any.
    if type(value) is not field.type and not (field.type is float and type(value) is int):
        raise UserError(f"--{field.name} is {type(value).__name__}, not {field.type.__name__}")
    if field.type is str:
        check_text(field.name, value)
    limits = field.metadata
    if limits["choices"] and value not in limits["choices"]:
        allowed = ", ".join(limits["choices"])
        raise UserError(f"--{field.name}={value} is unknown; choose one of: {allowed}")
    low, high = limits["low"], limits["high"]
    if low is None:
        return
    # `not <=` also refuses NaN, and no number may be infinite in TensorFlow.
    if not low <= value <= (FLOAT32_MAX if high is None else high):
        allowed = f"{low} to {high}" if high is not None else f"{low} or more"
        raise UserError(f"--{field.name}={value} is out of range; allowed is {allowed}")


def check_text(name: str, value: str) -> None:
    """Sees that a flag's value is UTF-8, without which TensorFlow can open no file.

    Raises:
        UserError: it is not; bytes that Python could not decode stand in it as surrogates.
    """
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"--{name}={ascii(value)[1:-1]} is not UTF-8; give one that is, and rename the folder or file"
            f" if it is one"
        ) from error
