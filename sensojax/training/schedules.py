"""Schedules: how fast to learn, when to go back to the best weights, and when to stop.

A schedule lives on the host beside the training loop. In go the step and, after each evaluation,
its score; out come the learning rate and a `Decision`. `evaluated` is called once before training
and then after every interval. All that a schedule remembers is a dictionary of plain values
(`state`, `restore`) that a checkpoint holds, so a run that was killed continues as if it had not
been. A config names the class in lower case: `schedule = dict(name="plateau", patience=5, ...)`.
"""

import math
from dataclasses import dataclass

from sensojax.errors import UserError


@dataclass(frozen=True)
class Decision:
    """What the training loop must do after an evaluation, in this order.

    improved: the model as evaluated is the best so far, keep its weights.
    reload_best: put the kept weights back into the model (optimizer moments stay as they are).
    stop: training is over.
    """

    improved: bool
    reload_best: bool
    stop: bool


class Schedule:
    """What all schedules share: comparing scores, and being saved.

    tolerance: an improvement exceeds the best score by more than this, in score units.
    maximize: whether a higher score is better. restore_best: False never reloads.
    """

    remembered: tuple[str, ...]  # the attributes that change, which is what a checkpoint holds

    def __init__(self, tolerance: float, maximize: bool, restore_best: bool):
        self.tolerance, self.maximize, self.restore_best = tolerance, maximize, restore_best
        self.best: float | None = None  # None: nothing finite was evaluated yet
        self.stopped = False

    def count_epochs(self, epoch_steps: int) -> None:
        """Says how many steps an epoch has, before anything else is asked."""

    def state(self) -> dict:
        """All that `restore` needs, as plain values."""
        return {name: getattr(self, name) for name in self.remembered}

    def restore(self, state: dict) -> None:
        """Continues from a `state()`; UserError when it is of another schedule."""
        if set(state) != set(self.remembered):
            raise UserError(
                f"found a saved schedule with {', '.join(sorted(state))}, expected "
                f"{', '.join(sorted(self.remembered))} of {type(self).__name__}; was the run "
                "started with another schedule? Give it a new work folder."
            )
        for name, value in state.items():
            setattr(self, name, value)

    def _better(self, score: float, best: float | None) -> bool:
        if not math.isfinite(score):  # also +inf: weights with such a score are not worth keeping
            return False
        if best is None:
            return True
        return score > best + self.tolerance if self.maximize else score < best - self.tolerance

    def _refuse_if_stopped(self) -> None:
        if self.stopped:
            raise RuntimeError("the schedule has said stop; there is nothing left to evaluate")


class Plateau(Schedule):
    """The published schedule of both benchmarks: a patient stopper beside a patient rate.

    Two counters that do not know each other. The *stopper* counts evaluations without improvement
    since the best score, the one before training included; at `patience` a phase ends, the best
    weights come back and the next phase starts with the counter at zero; after `phases` of them
    training ends. The *rate* has its own best score, which starts at minus infinity and never sees
    the evaluation before training, and is multiplied by `factor` at evaluation `patience + 1`
    without improvement. So with patience 5 the weights are reloaded after the 5th bad epoch, the
    first epoch after that still uses the old rate, and an improvement there cancels the cut.

    interval: epochs between evaluations. epoch_limit: looked at once per evaluation, so with an
    interval above 1 it can be passed; training ends there with the best weights. So it does at a
    score that is not finite. minimal_rate: no cut goes below it. Source: baselines 7.
    """

    remembered = (
        *("rate", "rate_best", "rate_bad"),
        *("best", "best_epoch", "bad", "phase", "epoch", "stopped"),
    )

    def __init__(
        self,
        initial_rate: float = 0.005,
        patience: int = 5,
        factor: float = 0.3,
        minimal_rate: float = 1e-4,
        phases: int = 4,
        epoch_limit: int = 200,
        tolerance: float = 1e-6,
        maximize: bool = True,
        interval: int = 1,
        restore_best: bool = True,
    ):
        super().__init__(tolerance, maximize, restore_best)
        for name, value in (("patience", patience), ("phases", phases), ("interval", interval)):
            if value < 1:
                raise UserError(f"found schedule.{name} {value}, expected 1 or more; correct it.")
        if not 0 < factor < 1:
            raise UserError(
                f"found schedule.factor {factor}, expected between 0 and 1; correct it."
            )
        self.patience, self.phases, self.epoch_limit = patience, phases, epoch_limit
        self.factor, self.minimal_rate, self.interval = factor, minimal_rate, interval
        self.rate = initial_rate
        self.rate_best: float | None = None  # None: minus infinity
        self.rate_bad = 0
        self.best_epoch: int | None = None
        self.bad = 0
        self.phase = 0
        self.epoch: int | None = None  # epochs trained; None: not evaluated before training yet

    def rate_at(self, step: int) -> float:
        """The rate of the step that follows `step` finished ones: here the same until a cut."""
        del step
        return self.rate

    learning_rate = rate_at

    def total_steps(self, steps_per_evaluation: int) -> int:
        """The most steps that training can take."""
        return math.ceil(self.epoch_limit / self.interval) * steps_per_evaluation

    def evaluated(self, score: float) -> Decision:
        """Takes the score before training, then one after every interval; says what to do."""
        self._refuse_if_stopped()
        score = float(score)
        if self.epoch is None:
            return self._before_training(score)
        self.epoch += self.interval
        self._adapt_rate(score)
        improved = self._better(score, self.best)
        if improved:
            self.best, self.best_epoch, self.bad = score, self.epoch, 0
        else:
            self.bad += 1
        phase_over = self.bad >= self.patience
        if phase_over:
            self.phase, self.bad = self.phase + 1, 0
        over = self.epoch >= self.epoch_limit or self.phase >= self.phases
        self.stopped = over or not math.isfinite(score)
        # The kits reload at the end of each phase and once more at the very end: the last two
        # coincide, so one reload is enough.
        reload_best = self.restore_best and (phase_over or self.stopped)
        return Decision(improved, reload_best, self.stopped)

    def _before_training(self, score):
        self.epoch = 0
        finite = math.isfinite(score)
        if finite:
            self.best, self.best_epoch = score, 0
        self.stopped = not finite or self.epoch_limit <= 0
        return Decision(improved=finite, reload_best=False, stop=self.stopped)

    def _adapt_rate(self, score):
        if self._better(score, self.rate_best):
            self.rate_best, self.rate_bad = score, 0
        else:
            self.rate_bad += 1
        if self.rate_bad > self.patience:
            self.rate, self.rate_bad = max(self.rate * self.factor, self.minimal_rate), 0


class Reductions(Schedule):
    """The schedule of both ViV1T: back to the best weights and slower, a few times.

    After `patience` evaluations without improvement the best weights come back and the rate is
    multiplied by `factor`; when that was done `cuts` times in a row and did not help, training
    ends. What must be improved on first is `least`, whatever the score before training was. A score
    that is not a number brings back the best weights once, and ends training if the next is none
    either, or if there are no best ones. collapse: so does one that rounds to 0.00 or less after a
    best of 0.05 or more, without counting (2023). Source: sota 2.8, 3.5.
    """

    remembered = ("rate", "best", "best_epoch", "bad", "cut", "epoch", "was_nan", "stopped")

    def __init__(
        self,
        initial_rate: float,
        patience: int = 5,
        factor: float = 0.3,
        minimal_rate: float = 1.1920929e-7,
        cuts: int = 2,
        epoch_limit: int = 400,
        least: float = 0.0,
        collapse: bool = False,
        tolerance: float = 0.0,
        maximize: bool = True,
        restore_best: bool = True,
    ):
        super().__init__(tolerance, maximize, restore_best)
        if patience < 1 or not 0 < factor < 1:
            raise UserError(
                f"found schedule.patience {patience} and schedule.factor {factor}, expected 1 or "
                "more, and a number between 0 and 1; correct them."
            )
        self.patience, self.factor, self.minimal_rate = patience, factor, minimal_rate
        self.cuts, self.epoch_limit, self.collapse = cuts, epoch_limit, collapse
        self.least = least if maximize else None
        self.rate = initial_rate
        self.best_epoch: int | None = None
        self.bad = self.cut = 0  # evaluations since the last best or cut, and cuts since the best
        self.epoch: int | None = None  # epochs trained; None: not evaluated before training yet
        self.was_nan = False

    def rate_at(self, step: int) -> float:
        """The rate of the step that follows `step` finished ones: here the same until a cut."""
        del step
        return self.rate

    learning_rate = rate_at

    def total_steps(self, steps_per_evaluation: int) -> int:
        """The most steps that training can take."""
        return self.epoch_limit * steps_per_evaluation

    def evaluated(self, score: float) -> Decision:
        """Takes the score before training, then one after every epoch; says what to do."""
        self._refuse_if_stopped()
        score = float(score)
        if self.epoch is None:
            self.epoch, self.stopped = 0, self.epoch_limit <= 0
            return Decision(math.isfinite(score), reload_best=False, stop=self.stopped)
        self.epoch += 1
        improved = self._better(score, self.least if self.best is None else self.best)
        restored = False
        if not math.isfinite(score):
            self.stopped, restored = self.was_nan or self.best is None, True
            self.was_nan = True
        elif improved:
            self.best, self.best_epoch, self.was_nan = score, self.epoch, False
            self.bad = self.cut = 0
        elif self.collapse and round(score, 2) <= 0 and (self.best or 0) >= 0.05:
            restored = True
        elif self.bad < self.patience - 1:
            self.bad += 1
        elif self.cut < self.cuts:
            self.cut, self.bad, restored = self.cut + 1, 0, True
            self.rate = max(self.rate * self.factor, self.minimal_rate)
        else:
            self.stopped = True
        self.stopped |= self.epoch >= self.epoch_limit
        known = self.restore_best and self.best is not None
        return Decision(improved, known and (restored or self.stopped), self.stopped)


class Cosine(Schedule):
    """Linear warm-up to `peak_rate`, then half a cosine down to `final_rate` at step `steps`.

    steps, warmup_steps: or, in passes over the mouse with most trials, epochs and warmup_epochs.
    from_zero: the first step has the rate 0 and the one after the warm-up the whole, as DwiseNeuro
    has it (sota 1.6); else the first already has its share. Evaluations keep the best weights and
    reload them only when training ends. Training ends at the first evaluation after `steps` steps,
    or at a score that is not finite.
    """

    remembered = ("step", "best", "stopped")

    def __init__(
        self,
        peak_rate: float,
        warmup_steps: int = 0,
        steps: int = 0,
        final_rate: float = 0.0,
        warmup_epochs: float = 0.0,
        epochs: float = 0.0,
        from_zero: bool = False,
        tolerance: float = 0.0,
        maximize: bool = True,
        restore_best: bool = True,
    ):
        super().__init__(tolerance, maximize, restore_best)
        if (epochs or warmup_epochs) and (steps or warmup_steps):
            raise UserError(
                f"found schedule.steps {steps} and warmup_steps {warmup_steps} beside epochs "
                f"{epochs:g} and warmup_epochs {warmup_epochs:g}, expected steps or epochs; set "
                "the others to 0."
            )
        unit, warmup, whole = (
            ("epochs", warmup_epochs, epochs) if epochs else ("steps", warmup_steps, steps)
        )
        if not 0 <= warmup < whole:
            raise UserError(
                f"found schedule.warmup_{unit} {warmup:g} and schedule.{unit} {whole:g}, expected "
                "a warm-up shorter than the whole; correct one of them."
            )
        self.peak_rate, self.final_rate, self.from_zero = peak_rate, final_rate, from_zero
        self.warmup_epochs, self.epochs = warmup_epochs, epochs
        self.warmup_steps, self.steps = warmup_steps, steps
        self.step = 0  # steps taken: one more than the step whose rate was asked for last
        self.count_epochs(1)

    def count_epochs(self, epoch_steps: int) -> None:
        """Turns epochs into steps, if the schedule counts in epochs."""
        if self.epochs:
            self.warmup_steps = round(self.warmup_epochs * epoch_steps)
            self.steps = max(round(self.epochs * epoch_steps), self.warmup_steps + 1)

    def rate_at(self, step: int) -> float:
        """The rate of the step that follows `step` finished ones; asking changes nothing."""
        if step < self.warmup_steps:
            return self.peak_rate * (step + (not self.from_zero)) / self.warmup_steps
        progress = min((step - self.warmup_steps) / (self.steps - self.warmup_steps), 1.0)
        half_cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.final_rate + (self.peak_rate - self.final_rate) * half_cosine

    def total_steps(self, steps_per_evaluation: int) -> int:
        """The steps that training takes."""
        del steps_per_evaluation
        return self.steps

    def learning_rate(self, step: int) -> float:
        """`rate_at(step)` for a step that is taken now: `evaluated` knows by it when to stop."""
        self.step = step + 1
        return self.rate_at(step)

    def evaluated(self, score: float) -> Decision:
        """Takes the score before training, then one after every interval; says what to do."""
        self._refuse_if_stopped()
        score = float(score)
        improved = self._better(score, self.best)
        if improved:
            self.best = score
        self.stopped = self.step >= self.steps or not math.isfinite(score)
        reload_best = self.stopped and self.restore_best and self.best is not None
        return Decision(improved, reload_best, self.stopped)


class Constant(Cosine):
    """Linear warm-up to `rate`, which stays: for schedule-free AdamW, whose average does the rest.

    patience: training also ends after so many evaluations in a row without improvement, 0 for
    never (ViV1T of 2025: 10, sota 3.5). The others: see `Cosine`.
    """

    remembered = (*Cosine.remembered, "bad")

    def __init__(
        self,
        rate: float,
        warmup_steps: int = 0,
        steps: int = 0,
        warmup_epochs: float = 0.0,
        epochs: float = 0.0,
        patience: int = 0,
        tolerance: float = 0.0,
        maximize: bool = True,
        restore_best: bool = True,
    ):
        super().__init__(
            rate,
            warmup_steps,
            steps,
            final_rate=rate,
            warmup_epochs=warmup_epochs,
            epochs=epochs,
            tolerance=tolerance,
            maximize=maximize,
            restore_best=restore_best,
        )
        self.patience = patience
        self.bad = 0  # evaluations since the best one

    def evaluated(self, score: float) -> Decision:
        """Takes the score before training, then one after every interval; says what to do."""
        decision = super().evaluated(score)
        self.bad = 0 if decision.improved else self.bad + 1
        if not self.patience or self.bad < self.patience or decision.stop:
            return decision
        self.stopped = True
        return Decision(decision.improved, self.restore_best and self.best is not None, stop=True)
