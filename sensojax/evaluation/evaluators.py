"""An evaluator: a question asked of a model, answered step by step with sums that add up.

In: the `Predictions` of one tier and how to count; out: a `Score` for given weights, and traces of
single neurons to look at. For simulated mice the noiseless rates are scored once in the same way:
that is the ceiling, the best that any model can reach on these very responses.
"""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from sensojax import metrics
from sensojax.errors import check_name
from sensojax.evaluation.predictions import Predictions, Step
from sensojax.evaluation.results import MouseScore, Score, Traces

# Whom the report shows: the quantile of the correlation over a mouse's neurons, by name.
SHOWN = {"95th percentile": 0.95, "median": 0.5}


class Evaluator:
    """Scores weights on one tier. conditions: normalization and protocol, to be said of the score.

    nan_rule: one of `metrics.NAN_RULES`. sharding: of the sums, for several devices.
    """

    def __init__(
        self,
        predictions: Predictions,
        *,
        normalization: str,
        protocol: str,
        nan_rule: str,
        sharding: jax.sharding.Sharding | None = None,
    ):
        check_name(nan_rule, metrics.NAN_RULES, "evaluation.nan_rule")
        self.predictions = predictions
        self._conditions = dict(
            tier=predictions.tier,
            normalization=normalization,
            protocol=protocol,
            skip_frames=predictions.skip_frames,
            nan_rule=nan_rule,
            simulated=any(store.simulated for store in predictions.stores.values()),
        )
        self._nan_rule = nan_rule
        self._sums = jax.jit(functools.partial(_sums, nan_rule), out_shardings=sharding)
        self._ceiling = {}

    def run(self, weights, *, step: int, seeds: tuple[int, ...], ensemble: bool = False) -> Score:
        """The score of these weights; step and seeds say whose they are."""
        model, truth = {}, {}
        rates = self.predictions.have_rates and not self._ceiling
        for part in self.predictions.steps(weights, rates=rates):
            _add(model, self._sums(part.predicted, part.observed))
            if rates:
                _add(truth, self._sums(part.rates, part.observed))
        if rates:
            self._ceiling = {mouse: sums[0].value() for mouse, sums in truth.items()}
        mice = {mouse: self._mouse_score(mouse, *sums) for mouse, sums in model.items()}
        return Score(step=step, seeds=seeds, ensemble=ensemble, mice=mice, **self._conditions)

    def _mouse_score(self, mouse, correlation, loss) -> MouseScore:
        rows = self.predictions.rows[mouse]
        counted = self.predictions.num_frames[mouse][rows] - self.predictions.skip_frames
        return MouseScore(
            mouse=mouse,
            correlation=correlation.value(),
            undefined=int(correlation.undefined().sum()),
            poisson_loss=float(np.mean(loss.value())),
            num_trials=len(rows),
            num_frames=int(np.maximum(counted, 0).sum()),
            ceiling=self._ceiling.get(mouse),
        )

    def traces(self, weights, score: Score, *, neurons: int = 2, trials: int = 2) -> list[Traces]:
        """Responses of `neurons` good and `neurons` median neurons of each mouse.

        They are cut from the first `trials` trials of the tier, scored frames only.
        """
        chosen = {
            mouse: {label: each.neurons_near(q, neurons) for label, q in SHOWN.items()}
            for mouse, each in score.mice.items()
        }
        columns = {mouse: np.concatenate(list(each.values())) for mouse, each in chosen.items()}
        pieces = {mouse: [] for mouse in chosen}
        for part in self.predictions.steps(weights, rates=self.predictions.have_rates):
            for mouse, found in pieces.items():
                room = trials - len(found)
                for i, row in enumerate(part.rows[mouse][:room]):
                    found.append(self._piece(part, mouse, i, int(row), columns[mouse]))
            if all(
                len(found) >= min(trials, len(self.predictions.rows[mouse]))
                for mouse, found in pieces.items()
            ):
                break
        return [
            self._trace(mouse, label, neuron, list(columns[mouse]).index(neuron), pieces, score)
            for mouse, labels in chosen.items()
            for label, listed in labels.items()
            for neuron in listed
        ]

    def _piece(self, part: Step, mouse, example, row, columns) -> dict[str, np.ndarray]:
        """The scored frames of one trial: {what: [time, chosen neuron]}."""
        first, last = self.predictions.skip_frames, int(self.predictions.num_frames[mouse][row])
        time = part.observed[mouse].responses.shape[1]
        arrays = {"predicted": part.predicted[mouse], "observed": part.observed[mouse].responses}
        arrays |= {"rates": part.rates[mouse]} if part.rates else {}
        piece = {}
        for name, array in arrays.items():
            lost = time - array.shape[1]
            piece[name] = np.asarray(array[example])[first - lost : last - lost, columns]
        return piece

    def _trace(self, mouse, label, neuron, column, pieces, score: Score) -> Traces:
        found = pieces[mouse]
        joined = {name: np.concatenate([p[name][:, column] for p in found]) for name in found[0]}
        ends = np.cumsum([len(piece["observed"]) for piece in found])
        return Traces(
            mouse=mouse,
            neuron=int(neuron),
            label=label,
            tier=score.tier,
            correlation=float(score.mice[mouse].correlation[neuron]),
            frame_rate_hz=self.predictions.stores[mouse].frame_rate_hz,
            boundaries=tuple(int(end) for end in ends[:-1]),
            predicted=joined["predicted"],
            observed=joined["observed"],
            rates=joined.get("rates"),
        )


def _sums(nan_rule, predicted, observed):
    """Inside jit: (correlation, loss) of every mouse; predicted may lack the first frames."""
    sums = {}
    for mouse, batch in observed.items():
        frames = predicted[mouse].shape[1]
        seen = (predicted[mouse], batch.responses[:, -frames:], batch.valid[:, -frames:])
        sums[mouse] = (
            metrics.Correlation.of(*seen, nan_rule=nan_rule),
            metrics.PoissonLoss.of(*seen),
        )
    return sums


def _add(total: dict, part: Mapping) -> None:
    """Adds the sums of one step to those so far, on the host in float64."""
    for mouse, sums in part.items():
        before = total.get(mouse)
        total[mouse] = tuple(a + b for a, b in zip(before, sums, strict=True)) if before else sums
