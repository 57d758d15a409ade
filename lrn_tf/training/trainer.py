"""The training loop: the same for every method, benchmark and device."""

import contextlib
import math
import signal
import statistics
import sys

import tensorflow as tf
import tqdm

from lrn_tf.data.benchmarks import Benchmark
from lrn_tf.devices import distribution, replicas
from lrn_tf.errors import UserError
from lrn_tf.learning.schedule import learning_rate
from lrn_tf.methods.method import Method
from lrn_tf.modules.pool import describe
from lrn_tf.results.evaluation import Evaluator
from lrn_tf.results.summaries import Summaries
from lrn_tf.settings.table import Settings
from lrn_tf.storage.checkpoints import Checkpoints
from lrn_tf.storage.metrics import SPLITS, EpochMetrics
from lrn_tf.storage.workdir import Workdir
from lrn_tf.training.pace import Pace
from lrn_tf.training.step import Step
from lrn_tf.training.stop import Stop

# Steps between looks at what the device has summed up; each look waits for the device once.
LOOK_EVERY = 20
# First and last step of what --profile records.
PROFILED = (10, 20)


class Trainer:
    """Trains a method on a benchmark, from the last checkpoint on if there is one.

    Everything random depends on (seed, epoch) or (seed, step) alone, and what steps sum up is in the
    checkpoint. So a run that was killed and continued does what it would have done.

    Under a strategy that shares each batch out, `method` must have been made within `building` of it. The
    first of several workers is the only one that evaluates, prints and writes.
    """

    def __init__(
        self,
        method: Method,
        benchmark: Benchmark,
        settings: Settings,
        workdir: Workdir,
        strategy: tf.distribute.Strategy | None = None,
    ):
        self.method = method
        self.benchmark = benchmark
        self.settings = settings
        self.workdir = workdir
        self._strategy = strategy or tf.distribute.get_strategy()
        self._worker, self._workers = distribution.workers(self._strategy)
        self._step = Step(method, benchmark, settings, self._strategy)
        self.steps_per_epoch = benchmark.steps_per_epoch(settings.batch_size)
        self.last_step = settings.last_step(self.steps_per_epoch)
        self._count_asked = tf.function(self._count_asked, autograph=False)
        self._checkpoints = Checkpoints(
            workdir.checkpoints, {"method": method.variables, **self._step.variables}
        )
        self._began = 0  # the step that this process goes on from
        self._profiling = False
        self._stop = Stop()
        self._stopping = False
        self._pace = Pace()
        # Of the first worker alone, the summaries once the run may use the folder.
        self._evaluate = Evaluator(method, benchmark.test, benchmark.problem) if self._worker == 0 else None
        self._summaries = None
        self._last_evaluated = 0
        self._bar = None

    def run(self) -> int | None:
        """Trains to the last epoch or step, or until it is asked to stop.

        Returns:
            the signal that asked, after which the step was finished and saved; None if it is through.

        Raises:
            UserError: a loss became infinite or NaN, a checkpoint cannot be written or read, or another
                run is using the workdir.
        """
        with self.workdir.lock() if self._worker == 0 else contextlib.nullcontext():
            step = self._began = self._start()
            self._bar = tqdm.tqdm(
                total=self.last_step,
                initial=step,
                unit="step",
                file=sys.stderr,
                smoothing=0.05,
                disable=self._worker > 0,
            )
            with self._stop, self._bar:
                self._pace.begin_line()
                if self._worker == 0 and self._last_evaluated < step == self.last_step:
                    self._finish_late(step)
                while step < self.last_step and not self._stopping:
                    step = self._train_epoch(step)
                if self._workers > 1:  # none leaves before the first has written
                    self._count_asked(tf.constant(False))
            if self._profiling:
                tf.profiler.experimental.stop()
        # Of several workers, others may have been asked instead of this one.
        return (self._stop.signal or signal.SIGTERM) if step < self.last_step else None

    def _about(self):
        """What config.json says besides the settings."""
        return {
            "problem": self.benchmark.problem,
            "pool": describe(self.method.pool),
            "training_examples": len(self.benchmark.train),
            "eval_examples": len(self.benchmark.test),
            "parameters": sum(w.shape.num_elements() for w in self.method.weights),
        }

    def _start(self):
        """Restores the newest checkpoint, and makes the folder fit it. Returns the next step.

        A run that is refused, for what it holds or what cannot be restored, changes nothing in the folder.
        """
        first, about = self._worker == 0, self._about()
        if first:
            self.workdir.check(about)
        self._trace()
        restored = self._checkpoints.restore(clean=first)
        if first:
            self._make_folder(about, restored)
        return self._step.done

    def _make_folder(self, about, restored):
        step = self._step.done
        through = restored and step >= self.last_step
        self.workdir.create(about, through)
        self._summaries = Summaries(self.workdir.path)
        self._summaries.settings(self.settings)
        if through:
            lines = self.workdir.read_metrics()
            say = f"finished already, at step {step:,}: {self.workdir.metrics}"
        else:
            lines = self.workdir.rewind_metrics(step, self.steps_per_epoch)
            say = f"continuing at step {step:,} of {self.last_step:,}"
        if not restored:
            steps = f"{self.last_step:,} steps, {self.steps_per_epoch:,} an epoch"
            say = f"starting: {steps}; tensorboard --logdir {self.workdir.path}"
        self._last_evaluated = lines[-1].step if lines else 0
        print(say, file=sys.stderr)
        if self.settings.imitation >= self.last_step:
            print("--imitation lasts for the whole run: the router learns from no reward", file=sys.stderr)

    def _trace(self):
        """Makes the graphs of a step and of the evaluation, if there are steps to train.

        XLA's cache goes by names that count what TensorFlow has made before. So they are made before
        anything depends on whether the run is new, or it would compile all anew when it continues.
        """
        if self._checkpoints.newest < self.last_step:
            if self._worker == 0:
                print("tracing a step and an evaluation", file=sys.stderr)
            self._step.trace()
            if self._worker == 0:
                self._evaluate.trace()

    def _train_epoch(self, step):
        """Trains from a step to the end of its epoch, and evaluates and saves if it is time.

        When it is asked to stop, it saves after the step and returns earlier. Returns the next step.
        """
        epoch, done = divmod(step, self.steps_per_epoch)
        batches = self.benchmark.batches(self.settings, epoch)
        end = min((epoch + 1) * self.steps_per_epoch, self.last_step)
        due = (epoch + 1) % self.settings.evaluate_every == 0 or end == self.last_step
        batches = tf.constant(batches[: end - epoch * self.steps_per_epoch])
        if not done:
            self._step.sum_anew()
        seen = (done, self._step.sums)
        self._pace.begin_lap(step)

        for i in range(done, batches.shape[0]):
            rate = learning_rate(self.settings, step, self.steps_per_epoch, self.last_step)
            step += 1
            with self._pace.of_step(step):
                self._step(batches[i], rate)
            self._profile(step)
            self._bar.update()
            if step % LOOK_EVERY == 0 or step == end:
                seen = self._look(step, i + 1, seen, rate)
            self._stopping = self._is_asked(step)
            every = self.settings.checkpoint_every
            if not (due and step == end) and (self._stopping or (every and step % every == 0)):
                self._check_weights(step)
                if self._worker == 0:
                    self._checkpoints.save(step)
                if self._stopping:
                    return step

        if due:
            self._check_weights(step)
            if self._worker == 0:
                self._finish_epoch(epoch, step, batches.shape[0], rate)
            self._pace.begin_line()
        return step

    def _finish_late(self, step):
        """Evaluates a run that was stopped where it is to end now, and was not evaluated then."""
        self.workdir.rewind_metrics(step, 1)  # to whole lines
        epoch = (step - 1) // self.steps_per_epoch
        rate = learning_rate(self.settings, step - 1, self.steps_per_epoch, self.last_step)
        self._finish_epoch(epoch, step, step - epoch * self.steps_per_epoch, rate)

    def _is_asked(self, step):
        """Whether to stop after this step: several workers do so together, after the next look."""
        if self._workers == 1:
            return bool(self._stop.signal)
        return step % LOOK_EVERY == 0 and int(self._count_asked(tf.constant(bool(self._stop.signal)))) > 0

    def _count_asked(self, asked):
        """How many replicas' workers were asked to stop."""
        counts = self._strategy.run(lambda: replicas.total(tf.cast(asked, tf.int32)))
        return self._strategy.experimental_local_results(counts)[0]

    def _finish_epoch(self, epoch, step, steps, rate):
        """Evaluates, writes the epoch's line and saves.

        The epoch has had `steps` steps, the last one at learning rate `rate`.
        """
        pace = self._pace.of_line(step - self._last_evaluated, self.settings.batch_size)
        averages, evaluation = self._step.averages(self._step.sums, steps), self._evaluate()
        if not math.isfinite(evaluation.mean_loss):
            raise self._diverged(f"the loss on the {SPLITS[self.settings.split]} was not finite", step)
        line = EpochMetrics(
            epoch=epoch + 1,
            step=step,
            train_loss=averages["train/loss"],
            train_accuracy=averages.get("train/accuracy"),
            split=self.settings.split,
            **evaluation.metrics(),
            learning_rate=rate,
            metrics=averages,
            **pace,
        )
        self._summarise(line, evaluation)
        self.workdir.append_metrics(line)
        self._last_evaluated = step
        # After its line: a kill between the two repeats the epoch's end, and nothing is missing.
        self._checkpoints.save(step)
        self._bar.write(_row(line), file=sys.stdout)

    def _summarise(self, line, evaluation):
        """Numbers always, pictures if it is time or after the last epoch, embeddings after the last."""
        every, last = self.settings.pictures_every, line.step == self.last_step
        before = self._last_evaluated // self.steps_per_epoch
        draw = bool(every) and (last or line.epoch // every > before // every)
        self._summaries.evaluation(line, evaluation, self.benchmark, draw)
        if last:
            self._summaries.embeddings(self.method, self.benchmark)

    def _profile(self, step):
        """Starts the profiler before this process's 10th step and ends it after the 20th."""
        here = step - self._began
        if self.settings.profile and self._worker == 0 and here == PROFILED[0] - 1:
            tf.profiler.experimental.start(str(self.workdir.path))
            self._profiling = True
        if self._profiling and (here == PROFILED[1] or step == self.last_step):
            tf.profiler.experimental.stop()
            self._profiling = False

    def _look(self, step, done, seen, rate):
        """Reads the sums: to the progress bar, to TensorBoard, and to stop early when a loss broke."""
        self._check_finite()
        sums = self._step.sums
        recent = self._step.averages(sums - seen[1], max(done - seen[0], 1))
        epoch = -(-step // self.steps_per_epoch)
        if self._worker > 0:
            return done, sums
        speed = self._pace.lap(step)
        accuracy = recent.get("train/accuracy")
        self._bar.set_postfix_str(
            f"epoch {epoch}, loss {recent['train/loss']:.3f}, "
            + (f"accuracy {accuracy:.1%}, " if accuracy is not None else "")
            + f"{speed * self.settings.batch_size:,.0f} examples/s",
            refresh=False,
        )
        charts = {"charts/learning_rate": rate, "charts/SPS": speed}
        charts["charts/examples_per_second"] = speed * self.settings.batch_size
        self.workdir.check_held()
        self._summaries.write(step, {**recent, **charts})
        return done, sums

    def _check_finite(self):
        if (step := self._step.broken) >= 0:
            raise self._diverged("a loss was not finite", step)

    def _diverged(self, what, step):
        return UserError(
            f"{what} at step {step:,}; the checkpoints in {self.workdir.checkpoints} are older and good."
            f" Try a smaller --learning_rate"
        )

    def _check_weights(self, step):
        """Before a checkpoint: a loss is taken before the update that may break the weights."""
        self.workdir.check_held()
        self._check_finite()
        for variable in tf.nest.flatten(self.method.variables):
            if variable.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(variable)):
                raise self._diverged("a weight was not finite", step)


def _row(line):
    """What the terminal shows of an epoch."""
    routes, right = line.routes, line.eval_accuracy is not None
    return (
        f"epoch {line.epoch:3d}  step {line.step:6,d}  train "
        + (
            f"{line.train_accuracy:6.2%} (loss {line.train_loss:.3f})"
            if right
            else f"loss {line.train_loss:.3f}"
        )
        + f"  {line.split} "
        + (f"{line.eval_accuracy:6.2%}  " if right else f"loss {line.eval_loss:.3f}  ")
        + _r2(line.eval_r2_per_task)
        + (f"length {routes.mean_length:.2f}  unused {routes.unused_modules:2d}  " if routes else "")
        + f"{line.seconds:.0f} s ({line.step_ms_median:.0f} ms/step)"
    )


def _r2(of_tasks):
    """What there is to say of tasks that ask for numbers; of many their mean."""
    if len(of_tasks) > 3:
        return f"R2 of {len(of_tasks)} tasks {statistics.mean(of_tasks.values()):.2f}  "
    return "".join(f"R2 of {task} {r2:.2f}  " for task, r2 in of_tasks.items())
