"""An evaluator: a question asked of a model, answered step by step with sums that add up.

In: the `Predictions` of one tier and how to count; out: a `Score` for given weights, and traces of
single neurons to look at. One program makes the sums of every trial of all mice; `Tally` adds them
up by kind of stimulus and altogether. For simulated mice the noiseless rates are scored once in the
same way: that is the ceiling, the best that any model can reach on these very responses.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import jax
import numpy as np

from sensojax import metrics
from sensojax.errors import check_name
from sensojax.evaluation import measures
from sensojax.evaluation.measures import Sums
from sensojax.evaluation.mouse_score import GROUPS
from sensojax.evaluation.predictions import Predictions, Step
from sensojax.evaluation.results import MouseScore, Score, Traces
from sensojax.evaluation.tally import Tally

# Whom the report shows: the quantile of the correlation over a mouse's neurons, by name.
SHOWN = {"95th percentile": 0.95, "median": 0.5}


class Evaluator:
    """Scores weights on one tier. normalization, trained_under, protocol: to be said of the score.

    nan_rule: one of `metrics.NAN_RULES`. refused: measures that are not to be had of this model,
    and why. null_means: {mouse: what the null model says, [neuron]}, where responses are as
    recorded. sums: what `summing` made for that rule (and for spikes, if there are null means), to
    be shared by evaluators, else it makes its own. sharding: of the sums, for several devices.
    """

    def __init__(
        self,
        predictions: Predictions,
        *,
        normalization: str,
        protocol: str,
        nan_rule: str,
        trained_under: str = "",
        refused: Mapping[str, str] = MappingProxyType({}),
        null_means: Mapping[str, np.ndarray] = MappingProxyType({}),
        sums: Callable | None = None,
        sharding: jax.sharding.Sharding | None = None,
    ):
        check_name(nan_rule, metrics.NAN_RULES, "evaluation.nan_rule")
        self.predictions = predictions
        self._conditions = dict(
            tier=predictions.tier,
            normalization=normalization,
            trained_under=trained_under or normalization,
            protocol=protocol,
            nan_rule=nan_rule,
            simulated=any(store.simulated for store in predictions.stores.values()),
            **predictions.frames._asdict(),
        )
        self._nan_rule = nan_rule
        self._refused = refused
        self._null_means = null_means
        self._sums = sums or summing(nan_rule, sharding, spikes=bool(null_means))
        self._ceiling = {}

    def run(
        self,
        weights,
        *,
        step: int,
        seeds: tuple[int, ...],
        ensemble: bool = False,
        names: Iterable[str] = (),
        of_rows: Sequence[tuple[object, Mapping[str, np.ndarray]]] = (),
    ) -> Score:
        """The score of these weights; step and seeds say whose they are.

        names: of `evaluation.measures`, beside the single-trial correlation and, of counts, those
        of spikes. of_rows: several weights in place of these, each with the rows of every mouse
        that it is to predict; together all rows of the tier, and all repeats of a video with the
        same weights.
        """
        counts = self._conditions["normalization"] == "counts"
        wanted = measures.wanted({*names, *(measures.OF_SPIKES if counts else ())})
        model = Tally(self.predictions, self._nan_rule, wanted, self._null_means)
        truth = Tally(self.predictions, self._nan_rule, (), self._null_means)
        rates = self.predictions.have_rates and not self._ceiling
        for part, sums, of_rates in _one_behind(self._summed(of_rows or [(weights, None)], rates)):
            model.add(part, sums)
            if rates:
                truth.add(part, of_rates)
        if rates:
            self._ceiling = {mouse: truth.of(mouse) for mouse in self.predictions.stores}
        mice, kinds = {}, {}
        for mouse in self.predictions.stores:
            whole, by_kind = model.of(mouse)
            ceiling, ceilings = self._ceiling.get(mouse, (None, {}))
            mice[mouse] = self._mouse_score(mouse, whole, ceiling, wanted)
            for kind, sums in by_kind.items():
                # A kind that is all there is needs no second copy of everything.
                same = sums.num_trials == whole.num_trials
                made = (mouse, sums, ceilings.get(kind), wanted)
                kinds.setdefault(kind, {})[mouse] = (
                    mice[mouse] if same else self._mouse_score(*made)
                )
        about = dict(step=step, seeds=seeds, ensemble=ensemble)
        return Score(**about, **self._conditions, mice=mice, kinds=kinds)

    def _summed(self, of_rows, rates: bool) -> Iterator[tuple]:
        """Every step of predictions, its sums, and those of the rates if asked for."""
        for own, rows in of_rows:
            for part in self.predictions.steps(own, rates=rates, only=rows):
                of_rates = self._sums(part.rates, part.observed) if rates else None
                yield part, self._sums(part.predicted, part.observed), of_rates

    def _mouse_score(self, mouse: str, sums: Sums, ceiling: Sums | None, wanted) -> MouseScore:
        refused = {name: why for name, why in self._refused.items() if name in wanted}
        found, left_out = measures.values([n for n in wanted if n not in refused], sums)
        neurons = self.predictions.stores[mouse].neurons
        ceilings = {} if ceiling is None else measures.values(measures.OF_SPIKES, ceiling)[0]
        return MouseScore(
            mouse=mouse,
            correlation=sums.correlation.value(),
            undefined=int(sums.correlation.undefined().sum()),
            poisson_loss=float(np.mean(sums.loss.value())),
            num_trials=sums.num_trials,
            num_frames=sums.num_frames,
            ceiling=None if ceiling is None else ceiling.correlation.value(),
            ceilings={name: values for name, values in ceilings.items() if name in found},
            measures=found,
            left_out=left_out | refused,
            depth_um=neurons.position_um[:, 2],
            groups={name: neurons.columns[name] for name in GROUPS if name in neurons.columns},
        )

    def traces(self, weights, score: Score, *, neurons: int = 2, trials: int = 2) -> list[Traces]:
        """Responses of `neurons` good and `neurons` median neurons of each mouse.

        They are cut from the first `trials` trials of different videos, scored frames only.
        """
        chosen = {
            mouse: {label: each.neurons_near(q, neurons) for label, q in SHOWN.items()}
            for mouse, each in score.mice.items()
        }
        columns = {mouse: np.concatenate(list(each.values())) for mouse, each in chosen.items()}
        shown = {mouse: self._different(mouse, trials) for mouse in chosen}
        pieces = {mouse: [] for mouse in chosen}
        rates = self.predictions.have_rates
        for part in self.predictions.steps(weights, rates=rates, only=shown):
            for mouse, found in pieces.items():
                for i, row in enumerate(part.rows[mouse]):
                    found.append(self._piece(part, mouse, i, int(row), columns[mouse]))
        return [
            self._trace(mouse, label, neuron, list(columns[mouse]).index(neuron), pieces, score)
            for mouse, labels in chosen.items()
            for label, listed in labels.items()
            for neuron in listed
        ]

    def _different(self, mouse: str, trials: int) -> np.ndarray:
        """Rows of the first trials of different videos, as far as there are such."""
        rows = self.predictions.rows[mouse]
        _, first = np.unique(self.predictions.stores[mouse].video_ids[rows], return_index=True)
        others = np.setdiff1d(np.arange(len(rows)), first)
        return rows[np.concatenate((first, others))][:trials]

    def _piece(self, part: Step, mouse, example, row, columns) -> dict[str, np.ndarray]:
        """The scored frames of one trial: {what: [time, chosen neuron]}."""
        first = self.predictions.frames.skip_frames
        last = first + self.predictions.num_scored(mouse, row)
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


def _one_behind(items: Iterable) -> Iterator:
    """Each item when the next one is begun, on which the device works while the host adds up."""
    waiting = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def summing(
    nan_rule: str, sharding: jax.sharding.Sharding | None = None, *, spikes: bool = False
) -> Callable:
    """The program that makes the sums of every trial of a step, for all evaluators of this rule.

    spikes: also the Poisson loss of spikes.
    """
    return jax.jit(functools.partial(_sums, nan_rule, spikes), out_shardings=sharding)


def _sums(nan_rule, spikes, predicted, observed):
    """Inside jit: (correlation, losses) of every trial of every mouse, fields [batch neuron].

    predicted may lack the first frames.
    """
    epsilons = (1e-8, measures.SPIKES_EPSILON)[: 1 + spikes]

    def of_trial(predicted, observed, valid):
        seen = (predicted[None], observed[None], valid[None])
        return (
            metrics.Correlation.of(*seen, nan_rule=nan_rule),
            *(metrics.PoissonLoss.of(*seen, epsilon) for epsilon in epsilons),
        )

    sums = {}
    for mouse, batch in observed.items():
        frames = predicted[mouse].shape[1]
        seen = (predicted[mouse], batch.responses[:, -frames:], batch.valid[:, -frames:])
        sums[mouse] = jax.vmap(of_trial)(*seen)
    return sums
