"""The reference of the public API as web pages, made of its docstrings: `python tools/api.py DIR`."""

import pathlib
import sys
import warnings

import lrn_tf

# What users name, and what they are given: problems by pool functions, epochs by `train`, models by `load`.
MODULES = ("lrn_tf", "lrn_tf.data.problem", "lrn_tf.storage.metrics", "lrn_tf.serving.model")


def write(folder: pathlib.Path) -> None:
    """Writes the pages; a warning is an error."""
    import pdoc

    for name in lrn_tf.__all__:  # which are looked up when they are asked for; pdoc asks otherwise
        setattr(lrn_tf, name, getattr(lrn_tf, name))
    pdoc.render.configure(docformat="google", show_source=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.pdoc(*MODULES, output_directory=folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(pathlib.Path(sys.argv[1]))
