"""The weights of the modules of a kind: one variable for all of them, or one each where they are large.

A weight that is used as a function of itself, such as a kernel that is standardised first, is made ready
for all modules of a kind at once where it is small: layer by layer it would be thousands of operations. A
layer says so by an attribute of its variable, `used_as`, which takes it with any dimensions before its own,
and asks `is_ready` whether that was done.
"""

import keras
import tensorflow as tf

from lrn_tf.modules.pool import Kind, build_layer

# Of how many elements a weight of one module is large: it is then read and written only when it is to move.
LARGE = 1 << 17

# A row for each module of the kind, or a variable for each.
Weight = tf.Variable | list[tf.Variable]


def make_weights(kind: Kind, tokens: bool = False):
    """New weights, as `count` new layers of the kind come with them.

    Args:
        kind: the kind.
        tokens: whether what it takes are whole numbers.

    Returns:
        a layer of the kind, for `call` with the weights of any of its modules, and the weights.
    """
    layers = [build_layer(kind, tokens) for _ in range(kind.count)]
    for variable in layers[0].trainable_variables:
        variable.is_ready = True
    alike = zip(*([w.value for w in layer.trainable_variables] for layer in layers), strict=True)
    return layers[0], [join(variables) for variables in alike]


def is_ready(variable: keras.Variable) -> bool:
    """Whether what a layer finds in its variable was made ready for use."""
    return getattr(variable, "is_ready", False)


def made_ready(layer, weights, which=lambda _: True) -> list:
    """Those of a kind's weights that `which` says, of one or of several modules, as its layer uses them."""
    return [
        getattr(variable, "used_as", tf.convert_to_tensor)(weight) if which(weight) else weight
        for variable, weight in zip(layer.trainable_variables, weights, strict=True)
    ]


def call(layer, weights, x):
    """What a layer returns with the weights of one of its modules, made ready."""
    # All that it may hold besides are seeds that nothing is drawn from: see `build_layer`.
    idle = [tf.zeros(v.shape, v.dtype) for v in layer.non_trainable_variables]
    return layer.stateless_call(weights, idle, x)[0]


def join(variables) -> Weight:
    """Variables of one shape as one, if they are small."""
    if is_large(variables[0]):
        return list(variables)
    return tf.Variable(tf.stack(variables), name=variables[0].name.split(":")[0])


def is_large(weight) -> bool:
    """Whether a weight of one module is kept in a variable of its own."""
    return weight.shape.num_elements() >= LARGE


def is_stack(weight: Weight) -> bool:
    """Whether the modules share a variable."""
    return not isinstance(weight, list)


def split(weights: list[Weight], count: int) -> list[tuple]:
    """The weights of each of the `count` modules of a kind; `make_weights` the other way round.

    To be done once in a step: the gradient of many slices would be as many stacks.
    """
    if not weights:
        return [()] * count
    return list(zip(*(tf.unstack(w) if is_stack(w) else w for w in weights), strict=True))
