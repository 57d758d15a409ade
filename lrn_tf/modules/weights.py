"""The weights of the modules of a kind: one variable for all of them, or one each where they are large."""

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
        a layer of the kind, to be called with the weights of any of its modules, and the weights.
    """
    layers = [build_layer(kind, tokens) for _ in range(kind.count)]
    alike = zip(*([w.value for w in layer.trainable_variables] for layer in layers), strict=True)
    return layers[0], [join(variables) for variables in alike]


def call(layer, weights, x):
    """What a layer returns with the weights of one of its modules."""
    # All that it may hold besides are seeds that nothing is drawn from: see `build_layer`.
    idle = [tf.zeros(v.shape, v.dtype) for v in layer.non_trainable_variables]
    return layer.stateless_call(weights, idle, x)[0]


def join(variables) -> Weight:
    """Variables of one shape as one, if they are small."""
    if variables[0].shape.num_elements() >= LARGE:
        return list(variables)
    return tf.Variable(tf.stack(variables), name=variables[0].name.split(":")[0])


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
