"""What a user brings to a trained network, and whether it can be answered."""

from collections.abc import Mapping, Sequence

import numpy as np

from lrn_tf.data.problem import InputSpec, Problem

# By type of an input, the kinds of NumPy's types that may be given instead.
ALIKE = {"uint8": "", "int32": "iu", "float32": "f"}


def brought(
    inputs, tasks: Sequence[int] | Sequence[str], problem: Problem
) -> tuple[dict[str, np.ndarray], list[int]]:
    """Examples and their tasks, checked.

    Args:
        inputs: `[B, *shape]`, images uint8 of any size; or, for tasks with different inputs, such an array
            by the name of each input, in which rows of examples that bring another one are any.
        tasks: `B` numbers or names of tasks.
        problem: what there is.

    Returns:
        an array for every input of the problem, 0 in the rows of examples that do not bring it; and the
        tasks' numbers.

    Raises:
        ValueError: an input is of another type or shape, a task is unknown or missing, or there are no
            examples.
    """
    if np.ndim(tasks) == 0:  # the letters of a name would be taken for tasks
        raise ValueError(f"each example needs a task, given is {tasks!r}; give a list of as many")
    numbers = problem.numbers_of(tasks)
    if not numbers:
        raise ValueError("there are no examples; give one at least")
    names = [spec.name for spec in problem.inputs]
    needed = np.array(problem.input_of)[numbers]
    if not isinstance(inputs, Mapping):
        if len(wanted := [names[i] for i in np.unique(needed)]) > 1:
            raise ValueError(f"tasks with the inputs {', '.join(wanted)} need an array for each")
        inputs = {name: inputs for name in wanted}
    if unknown := [name for name in inputs if name not in names]:
        raise ValueError(f"input {unknown[0]!r} is unknown; known are {', '.join(names)}")
    given = {spec.name: _checked(spec, inputs, needed == i) for i, spec in enumerate(problem.inputs)}
    return given, numbers


def _checked(spec: InputSpec, inputs, needed):
    """What is given for an input; zeros in the rows of examples that do not need it."""
    if spec.name not in inputs:
        if needed.any():
            raise ValueError(f"{spec.name} is missing, which one of the tasks needs")
        return np.zeros((len(needed), *spec.shape), spec.dtype)
    x = np.asarray(inputs[spec.name])
    shape = x.shape[3:] if spec.is_image else x.shape[1:]
    if (
        (x.dtype != spec.dtype and x.dtype.kind not in ALIKE[spec.dtype])
        or x.ndim != 1 + len(spec.shape)
        or shape != spec.shape[2 if spec.is_image else 0 :]
        or 0 in x.shape[1:]
    ):
        sizes = (
            "B, h, w, " + str(spec.shape[2]) if spec.is_image else ", ".join(["B", *map(str, spec.shape)])
        )
        pixels = "; pixels are 0 to 255" if spec.is_image and x.dtype != spec.dtype else ""
        raise ValueError(
            f"{spec.name} must be {spec.dtype} [{sizes}], given {x.dtype} {list(x.shape)}{pixels}"
        )
    if len(x) != len(needed):
        raise ValueError(
            f"each example needs a task, given are {len(x)} {spec.name} and {len(needed)} tasks"
        )
    if not needed.all():
        x = np.where(needed.reshape(-1, *[1] * len(spec.shape)), x, np.zeros((), x.dtype))
    # Before they are made int32, in which large ones would be others.
    if spec.vocabulary and x.size and not 0 <= x.min() <= x.max() < spec.vocabulary:
        raise ValueError(f"{spec.name} has tokens beyond those in training, 0 to {spec.vocabulary - 1}")
    with np.errstate(over="ignore"):
        x = x.astype(spec.dtype, copy=False)
    if spec.dtype == "float32" and not np.isfinite(x).all():
        raise ValueError(f"{spec.name} has NaN or infinite numbers; mend or drop them")
    return x
