"""Kills a run again and again, and compares how it ends with one that was left alone.

    python tools/soak.py --kills=30

Takes the flags of `lrn_tf.main` besides. Trains once undisturbed, then once more while it is killed
(SIGKILL) at random moments and started again, in folders under --output. Whenever it comes to its end it is
compared, and begun anew if kills are left. Prints each kill, and exits with 0 if weights, optimizer and
metrics were always the same to the last bit, with 1 if not.
"""

import pathlib
import random
import shutil
import subprocess
import time

import numpy as np
from absl import flags
from grid import start

from lrn_tf import main as lrn_main
from lrn_tf.errors import UserError
from lrn_tf.settings.resolve import resolve
from lrn_tf.settings.table import Settings
from lrn_tf.storage.metrics import EpochMetrics
from lrn_tf.storage.workdir import read_lines

KILLS = flags.DEFINE_integer("kills", 30, "How often the run is killed", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", "soak", "Folder of both runs, new or empty")


def state(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """All tensors of the newest checkpoint."""
    import tensorflow as tf

    newest = max((folder / "checkpoints").glob("step-*.index"), key=lambda p: int(p.stem[len("step-") :]))
    reader = tf.train.load_checkpoint(str(newest.with_suffix("")))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_CHECK")]
    return {"which": newest.stem, **{name: reader.get_tensor(name) for name in names}}


def metrics(folder: pathlib.Path) -> list[EpochMetrics]:
    return [line.without_timings() for line in read_lines(folder / "metrics.jsonl")]


def kill_once(settings: Settings, wait: float, log) -> bool:
    """Starts the run and kills it after so many seconds; False if it finished before."""
    process = start(settings, log)
    try:
        code = process.wait(wait)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        found = pathlib.Path(settings.workdir).glob("checkpoints/step-*.index")
        saved = sorted(int(path.stem[len("step-") :]) for path in found)
        print(f"killed after {wait:.1f} s; checkpoints {saved}", flush=True)
        return True
    if code:
        raise UserError(f"the run fails when it is continued after a kill; see {OUTPUT.value}/log.txt")
    return False


def is_same(killed: pathlib.Path, whole: pathlib.Path) -> bool:
    """Compares two finished runs, and says what came out."""
    ours, theirs = state(killed), state(whole)
    different = [name for name in theirs if not np.array_equal(ours.get(name), theirs[name])]
    same_metrics = metrics(killed) == metrics(whole)
    print(
        f"finished: {len(theirs) - len(different)} of {len(theirs)} tensors the same to the last bit,"
        f" metrics {'the same' if same_metrics else 'DIFFERENT'}",
        flush=True,
    )
    return not different and same_metrics


def main(_) -> int:
    output = pathlib.Path(OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):  # runs of an earlier time would be continued
        raise UserError(f"--output={output} is not empty; give another folder, or delete it")
    whole, killed = (resolve({**lrn_main.given(), "workdir": str(output / n)}) for n in ("whole", "killed"))
    kills, finished, different = 0, 0, 0
    with (output / "log.txt").open("w") as log:
        began = time.perf_counter()
        if start(whole, log).wait():
            raise UserError(f"the run fails undisturbed; see {output / 'log.txt'}")
        lasted = time.perf_counter() - began
        print(f"undisturbed: {lasted:.0f} s", flush=True)
        while kills < KILLS.value or not finished or (output / "killed").exists():
            wait = random.uniform(0, 1.2 * lasted) if kills < KILLS.value else None
            if kill_once(killed, wait, log):
                kills += 1
                continue
            finished += 1
            different += not is_same(output / "killed", output / "whole")
            shutil.rmtree(output / "killed")
    print(
        f"{kills} kills, {finished} runs finished, {different} of them different from the undisturbed one"
    )
    return 1 if different else 0


if __name__ == "__main__":
    lrn_main.run(main, stopped="stopped")
