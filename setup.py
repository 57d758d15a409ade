"""Packaging of lrn_tf; docs/BUILD.md says how to build, test and install."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent

setuptools.setup(
    name="lrn_tf",
    version="0.1.0",
    description="Limitless Routing Networks for multi-task learning, in Keras 3 on TensorFlow",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=setuptools.find_packages(include=["lrn_tf", "lrn_tf.*"]),
    package_data={"lrn_tf": ["py.typed"]},
    python_requires=">=3.11",
    install_requires=[
        "tensorflow==2.21.0",
        "keras==3.15.1",
        "keras-nlp==0.32.0",
        # keras-nlp imports tensorflow-text, whose 2.21.0 cannot be imported (tensorflow/text#1541).
        "tensorflow-text==2.21.1",
        "tensorflow-datasets==4.9.10",
        # tensorflow-datasets 4.9.10 imports it without declaring it.
        "importlib_resources",
        # Asked for by tensorflow-datasets, and by us: is there a network?
        "requests",
        # No longer installed by tensorflow 2.21.
        "tensorboard==2.21.0",
        "absl-py",
        "scikit-learn",
        "tqdm",
        "matplotlib",
        # It comes with matplotlib.
        "pillow",
    ],
    extras_require={
        "test": ["pytest", "pytest-xdist", "hypothesis", "ruff", "mypy", "pdoc"],
        "gpu": ["tensorflow[and-cuda]==2.21.0"],
    },
    entry_points={"console_scripts": ["lrn-tf=lrn_tf.program:console"]},
)
