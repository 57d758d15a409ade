"""How the learning rate changes in the course of a run."""

import math

from lrn_tf.settings.table import Settings

WARM_UP = 0.25  # the part of a one_cycle run in which the rate rises


def learning_rate(settings: Settings, step: int, steps_per_epoch: int, last_step: int) -> float:
    """The learning rate of a step, counted from 0, of a run of `last_step` steps.

    --schedule=decay: constant within an epoch, with a factor after some (Sec. 5.1). one_cycle: up from 0
    in a straight line, then down to 0 along a cosine (after Smith and Topin 2019; ours).
    """
    if settings.schedule == "decay":
        return settings.learning_rate * settings.lr_decay ** (step // steps_per_epoch // settings.lr_every)
    done = (step + 1) / last_step
    if done < WARM_UP:
        return settings.learning_rate * done / WARM_UP
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))
