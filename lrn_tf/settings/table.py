"""Every setting of a run: its default, its help text, what it may be, and what is free where a run goes on.

This table is the only place where a setting is defined; `lrn_tf.main` makes one absl flag of each field.
Nothing in this folder imports TensorFlow, so that a mistyped flag is refused at once.
"""

import dataclasses
import os
import re
import sys
import typing

from lrn_tf.settings.own_code import FUNCTION, own_function

OURS = " (not from the paper)"

# The methods that have a router, those that have a pool of modules (with --dup and --depth), and those that
# have a trunk and learn by plain SGD.
LRNS = ("lrn", "random_route")
MODULAR = (*LRNS, "unrouted")
SGD_METHODS = ("routing", "cross_stitch", "task_fc", "task_head", "shared")
METHODS = MODULAR + SGD_METHODS
FLOAT32_MAX = 3.4028234e38
BENCHMARKS = ("digits_mtl", "mnist_mtl", "cifar_mtl", "min_mtl", "mixed_mtl")
POOLS = ("paper", "residual", "wide_1", "wide_2", "wide_4", "transformer", "mixed")
# What a name may be instead of a built-in's, besides a FUNCTION.
FOLDER = "a folder"


# What --help says above the settings from this one on.
GROUPS = {
    "benchmark": "What to learn",
    "method": "What learns it",
    "epochs": "How it learns",
    "d_model": "How the router learns",
    "workdir": "Where it goes, and what computes",
}


def setting(default, help, *, choices=None, or_else=(), low=None, high=None, methods=METHODS):
    """A dataclass field with what its flag needs.

    Args:
        default: its value where it is not given.
        help: what `--help` says of it.
        choices: allowed values, of text.
        or_else: what may be given instead of a choice: `FUNCTION`, `FOLDER`.
        low, high: bounds, inclusive, of a number.
        methods: those that have it; with another one it may not be given.
    """
    limits = {"choices": choices, "or_else": or_else, "low": low, "high": high}
    return dataclasses.field(default=default, metadata={"help": help, "methods": methods, **limits})


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of one run. Defaults are the paper's (Sec. 5.1) unless the help says otherwise."""

    # What to learn
    benchmark: str = setting(
        "digits_mtl",
        "Which tasks to learn: a benchmark's name (digits_mtl and mixed_mtl need no download and are not"
        " from the paper); a folder of pictures, TASK/CLASS/*.png, perhaps in train/ and test/; or a"
        " function of yours that returns a list of lrn_tf.Task" + OURS,
        choices=BENCHMARKS,
        or_else=(FOLDER, FUNCTION),
    )
    image_size: int = setting(0, "Side of the images in pixels; 0 keeps their native size" + OURS, low=0)
    augment: str = setting(
        "none",
        "What is done to training images at random: none, flip (left to right), shift (by up to an eighth"
        " of their sides; for digits, say, which are not themselves in a mirror), or flip_shift" + OURS,
        choices=("none", "flip", "shift", "flip_shift"),
    )
    mixup: float = setting(
        0.0,
        "Lay over each training example another one of its task in the batch, and so its target, of which"
        " this much counts at most: 0.5 is mixup as of Zhang et al. (2018), 0 mixes none; tokens stay as"
        " they are" + OURS,
        low=0.0,
        high=0.5,
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
    sampling: str = setting(
        "proportional",
        "How often a task is drawn: in proportion to its examples, as often as any other (equal), or in"
        " proportion to the square root of its examples" + OURS,
        choices=("proportional", "equal", "sqrt"),
    )
    validation: float = setting(
        0.0,
        "Evaluate on this fraction of the training images, held out from training, instead of on"
        " the test images" + OURS,
        low=0.0,
        high=0.5,
    )
    data_dir: str = setting(
        "", "Where TensorFlow Datasets keeps data; empty is its default, ~/tensorflow_datasets" + OURS
    )

    # What learns it
    method: str = setting(
        "lrn",
        "What learns them: the Limitless Routing Network, the same with a router that is never trained, or"
        " without one, along given --paths (unrouted, ours), the routing network of Rosenbaum et al."
        " (2017), cross-stitch networks (Misra et al. 2016), all or the last of three layers for each task"
        " alone, or one network told the task",
        choices=METHODS,
    )
    pool: str = setting(
        "paper",
        "Kinds of modules: the paper's six; residual blocks; the stages of a WRN-16-1, -2 or -4; a"
        " transformer's; mixed, which takes inputs of any shape (all but the first are not from the paper);"
        " or a function of yours, of a problem and dup, that returns a list of lrn_tf.Kind",
        choices=POOLS,
        or_else=(FUNCTION,),
        methods=MODULAR,
    )
    dup: int = setting(10, "Copies of each kind of module", low=1, high=1000, methods=MODULAR)
    depth: int = setting(
        6, "Steps of the router, the largest depth of a network", low=1, high=64, methods=MODULAR
    )
    heads: str = setting(
        "shared",
        "Output modules: shared by all tasks whose answers have one form and number, as in the paper, or a"
        " task's own, one of each output kind (not from the paper)",
        choices=("shared", "task"),
        methods=MODULAR,
    )
    paths: str = setting(
        "shared",
        "Which modules a network has: the same for all tasks (shared), others for each task (own), or any,"
        " drawn for each task once (task) or for each example in every step (random)" + OURS,
        choices=("shared", "own", "task", "random"),
        methods=("unrouted",),
    )
    blocks: int = setting(
        0,
        "Function blocks in each of its three layers; 0 is one for each task",
        low=0,
        high=1000,
        methods=("routing",),
    )
    agents: str = setting(
        "per_task",
        "Who decides. An agent for each task, a single one, or as many as tasks to which a"
        " further agent dispatches each example",
        choices=("per_task", "single", "dispatched"),
        methods=("routing",),
    )
    policy: str = setting(
        "tabular",
        "An agent's policy. A table per layer, learned by the Weighted Policy Learner from"
        " the mean return of each action (tabular) or from single returns as Rosenbaum et al. have it"
        " (tabular_literal), or a small network that sees the block's input (approximate)",
        choices=("tabular", "tabular_literal", "approximate"),
        methods=("routing",),
    )
    init_from: str = setting(
        "",
        "Start from the network of a run with this folder: modules, tasks and inputs that it has by the"
        " same names, and its router; a pool of your own must be a function that makes its modules of its"
        " tasks as well; empty starts anew" + OURS,
        methods=LRNS,
    )
    freeze: str = setting(
        "none",
        "What learns no more after --init_from: nothing, or the modules it had, so that only the router and"
        " what is new learn" + OURS,
        choices=("none", "modules"),
        methods=LRNS,
    )

    # How it learns
    epochs: int = setting(100, "Passes over the training examples", low=1, high=10**6)
    max_steps: int = setting(0, "Stop after this many steps; 0 trains all epochs" + OURS, low=0)
    batch_size: int = setting(128, "Examples per step", low=1)
    learning_rate: float = setting(
        1e-4,
        "Learning rate of Adam for modules and router (Adam is not from the paper), of SGD in the methods"
        " with a trunk",
        low=0.0,
    )
    schedule: str = setting(
        "decay",
        "How the learning rate changes: it falls by --lr_decay (the paper's), or it rises up to"
        " --learning_rate within the first quarter of all steps and falls to 0 along a cosine in the others"
        " (one_cycle, not from the paper)",
        choices=("decay", "one_cycle"),
    )
    lr_decay: float = setting(0.97, "Factor on the learning rate after every --lr_every", low=0.0, high=1.0)
    lr_every: int = setting(1, "Epochs after which --lr_decay is applied once more", low=1)
    weight_decay: float = setting(
        0.0,
        "Part of each kernel (not of biases) of a module in use that a step takes away, times the"
        " learning rate: AdamW (Loshchilov and Hutter 2019)" + OURS,
        low=0.0,
        methods=MODULAR,
    )
    core: float = setting(
        0.0,
        "How many times a module that is no output follows the gradient of all modules of its kind, besides"
        " its own; they then start alike" + OURS,
        low=0.0,
        methods=MODULAR,
    )
    label_smoothing: float = setting(
        0.0,
        "Share of the probability that a target gives to all classes alike, in training;"
        " the router is paid by the same loss" + OURS,
        low=0.0,
        high=0.9,
        methods=MODULAR,
    )
    rho: float = setting(
        0.0,
        "The collaboration reward, for a block's share of all choices so far",
        low=0.0,
        methods=("routing",),
    )
    seed: int = setting(0, "Seed of everything random" + OURS, low=0, high=2**31 - 1)

    # How the router learns
    d_model: int = setting(
        256,
        "Width of the router's embeddings and transformer; a multiple of its 4 heads",
        low=4,
        high=8192,
        methods=LRNS,
    )
    actor: str = setting(
        "by_size",
        "How the router scores modules: a transformer decoder over those that may come next (the paper's),"
        " a pointer, whose cost hardly grows with the number of modules, or by_size, the pointer for pools"
        " of more than 100 modules (the last two are not from the paper)",
        choices=("decoder", "pointer", "by_size"),
        methods=LRNS,
    )
    actor_scale: float = setting(
        0.0,
        "Factor on the initial weights of the actor's last layer: how decided the untrained router is;"
        " 1 is Keras' default, 0 the square root of modules x depth / 30, which is 2 for the paper's pool"
        " with dup 5 and depth 4, and for the pointer 1.5 times that" + OURS,
        low=0.0,
        methods=LRNS,
    )
    input_scale: float = setting(
        0.1,
        "Factor on the initial weights of the input's embedding: how much the untrained router goes by"
        " what it sees instead of the task; 1 is Keras' default" + OURS,
        low=0.0,
        methods=LRNS,
    )
    imitation: int = setting(
        0,
        "Steps, from the first on, in which networks follow a path drawn for each task, as with"
        " --method=unrouted --paths=task, and the router learns to imitate these, at a rate of 3e-4 of its"
        " own; then it is let go" + OURS,
        low=0,
        high=2**31 - 1,
        methods=("lrn",),
    )
    bonus: float = setting(
        3.0,
        "lambda, the largest reward for a rarely used module; eq. 6 has 1, and 0 is the paper's 'no"
        " bonus' (the value 3 is not from the paper, nor is 0 with --init_from or --imitation, for lack of"
        " need)",
        low=0.0,
        methods=LRNS,
    )
    pay_loss: str = setting(
        "every_step",
        "Where the negative loss is paid: on every_step (eq. 7), until_output (not after the output module)"
        " or terminal (on the last step only); the last two are not from the paper",
        choices=("every_step", "until_output", "terminal"),
        methods=LRNS,
    )
    price: float = setting(
        0.0,
        "Nats that the reward loses for every GFLOP of a chosen module, forward, for one example, so that"
        " networks grow no longer than pays" + OURS,
        low=0.0,
        methods=LRNS,
    )
    entropy: float = setting(
        0.01, "Coefficient of the policy's entropy in PPO's loss" + OURS, low=0.0, methods=("lrn",)
    )
    router_lr_scale: float = setting(
        1.0,
        "Factor on --learning_rate for the router alone, when it does not imitate" + OURS,
        low=0.0,
        methods=("lrn",),
    )
    minibatch_size: int = setting(
        64, "Episodes per minibatch of PPO; divides batch_size", low=1, methods=("lrn",)
    )
    ppo_epochs: int = setting(
        1, "Passes of PPO over a batch of episodes", low=1, high=100, methods=("lrn",)
    )

    # Where it goes, and what computes
    workdir: str = setting(
        "", "Folder of checkpoints, metrics and summaries; empty is runs/<the settings' name>" + OURS
    )
    resume: bool = setting(
        True, "Continue the run that workdir holds; --noresume refuses a workdir that holds one" + OURS
    )
    evaluate_every: int = setting(
        1, "Epochs between evaluations, which save too; after the last epoch there is one" + OURS, low=1
    )
    checkpoint_every: int = setting(
        0, "Steps between checkpoints; 0 saves after evaluations only" + OURS, low=0
    )
    pictures_every: int = setting(
        10,
        "Epochs between pictures of module use and paths for TensorBoard, which come with an evaluation,"
        " after the last epoch too; 0 draws none" + OURS,
        low=0,
    )
    export_dir: str = setting(
        "", "Export the network as a SavedModel into this folder at the end; empty exports nothing" + OURS
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
    profile: bool = setting(
        False,
        "Write a profile of the 10th to the 20th step from the start, or from where the run goes on, for"
        " TensorBoard into the workdir" + OURS,
    )

    @property
    def name(self):
        """A folder name for the run: what tells it from the runs one would put beside it."""
        words = [self.method]
        if self.method in MODULAR:
            words += [f"dup_{self.dup}_depth_{self.depth}"] + ["no_bonus"] * (not self.bonus)
            words += ["imitation"] * bool(self.imitation)
        if self.method == "unrouted":
            words.append(self.paths)
        if self.method == "routing":
            words += [self.agents, self.policy]
        # Of a folder or a file with a function, its name.
        path = re.sub(r"\.py(?=:)", "", self.benchmark)
        benchmark = re.sub(r"[^\w.-]+", "_", os.path.basename(os.path.normpath(path)))
        return f"{benchmark}/{'_'.join(words)}_seed_{self.seed}"

    @property
    def split(self) -> str:
        """What is evaluated on: the test images, or validation images held out of the training images."""
        return "validation" if self.validation else "test"

    def last_step(self, steps_per_epoch: int) -> int:
        """How many steps there are, of --epochs or --max_steps."""
        return min(self.epochs * steps_per_epoch, self.max_steps or sys.maxsize)

    def own(self, name: str) -> typing.Callable | None:
        """The user's function that a setting names, such as "pool"; None if it names something else.

        Raises:
            UserError: there is no such file or function, or the file raises something.
        """
        return own_function(name, getattr(self, name)) if self.is_own(name) else None

    def is_own(self, name: str) -> bool:
        """Whether a setting names a function of the user's, or what they gave in Python."""
        value, limits = getattr(self, name), FIELDS[name].metadata
        is_folder = FOLDER in limits["or_else"] and os.path.isdir(value)
        return value not in limits["choices"] and not is_folder and ":" in value


# By name of setting.
FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
# A run may be continued although these differ: they do not change what is computed, but for OF_LENGTH,
# which a schedule may depend on.
FREE_ON_RESUME = (
    "data_dir",
    "workdir",
    "export_dir",
    "epochs",
    "max_steps",
    "resume",
    "distribute",
    "cache",
    "evaluate_every",
    "checkpoint_every",
    "pictures_every",
    "profile",
)
OF_LENGTH = ("epochs", "max_steps")


def free_on_resume(settings: Settings) -> set[str]:
    """Those settings that may differ where such a run is continued."""
    # What is a user's own may have moved; whether it is the same, tasks and modules themselves tell.
    own = {n for n in ("benchmark", "pool") if getattr(settings, n) not in FIELDS[n].metadata["choices"]}
    return set(FREE_ON_RESUME) - set(OF_LENGTH if settings.schedule != "decay" else ()) | own


def of_method(given: dict[str, typing.Any], method: str) -> dict[str, typing.Any]:
    """Those settings, by name, that a method has, and that method; for who compares several methods."""
    return {name: value for name, value in given.items() if has(method, name)} | {"method": method}


def has(method: str, name: str) -> bool:
    """Whether a method has the setting of this name."""
    return method in FIELDS[name].metadata["methods"]


def behind_results(settings: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Those settings, by name, that what came out depends on."""
    return {name: v for name, v in settings.items() if name in OF_LENGTH or name not in FREE_ON_RESUME}
