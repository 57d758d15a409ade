"""Exports a run as a SavedModel: `python -m lrn_tf.export --workdir=RUN --output=DIR`.

The model takes raw images and needs neither lrn_tf nor Keras where it is loaded. README.md in it says what
it was trained on, how well it does, and how to call it.
"""

from lrn_tf import program
from lrn_tf.serving.export import export

if __name__ == "__main__":
    program.run_on_a_run(
        export, "Folder of the model; a model that is there is replaced", pool=program.OWN_POOL
    )
