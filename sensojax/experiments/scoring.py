"""Scoring many runs in one process: stores are opened once, each architecture is compiled once.

In go folders of runs or ensembles (a checkpoint says everything else) and the tiers to score; out
come `Score`s. Used by `evaluate` for one run and by `comparing` for many. What two runs share is
made once: the stores of equal data sections, the compiled predictions of equal architectures, and
the ceilings of simulated mice.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from sensojax import build
from sensojax.errors import UserError, check_name
from sensojax.evaluation import ensembles, evaluators, predictions
from sensojax.evaluation.evaluators import Evaluator
from sensojax.evaluation.measures import AS_RECORDED
from sensojax.evaluation.results import Score
from sensojax.models.encoder import assemble
from sensojax.pipeline import folds
from sensojax.pipeline.folds import HELD_OUT
from sensojax.pipeline.windows import NORMALIZATIONS, RESPONSES_AS, SCORED_FRAMES
from sensojax.store import TrialStore
from sensojax.training import checkpoints, mesh
from sensojax.types import STIMULUS_KINDS, TIERS
from sensojax.writing import plain

EVERY_TIER = "all"
# Which tiers show movies that nobody trained on, the best choice first, and which the other kinds.
IN_DOMAIN = ("live_test_main+final_test_main", "oracle")
OUT_OF_DOMAIN = "live_test_bonus+final_test_bonus"
# The settings of the section `evaluation` that a program of predictions depends on.
OF_WINDOWS = ("window_frames", "window_step", "blending", "windows_at_once")


class Scorer:
    """Scores runs, one after another."""

    def __init__(self):
        self.placement = mesh.Placement()
        self._stores, self._statistics, self._programs, self._evaluators = {}, {}, {}, {}
        self._sums, self._held, self._loaded = {}, {}, (None, [])

    def score(
        self,
        workdir: str | Path,
        tiers: Sequence[str],
        weights: str = "best",
        stores: str = "",
        *,
        measures: Iterable[str] = (),
        frames: str = "",
        normalization: str = "",
    ) -> dict[str, Score]:
        """The scores of a run's weights by tier, in the order of `tiers`.

        tiers: names; "one+other" scores the trials of both together; "all" is every tier with
        responses. Mice without a tier's responses are left out of its score. weights: "best" (by
        the validation score) or "newest". stores: folder, "" for the one in the run's config.
        measures: names of `evaluation.measures` beside single-trial correlation, or "all". frames:
        a name of `windows.SCORED_FRAMES`; normalization: "official" or "per_neuron"; "" for those
        of the run's config. Raises UserError when run, stores or tiers are not there or do not fit.
        """
        with jax.set_mesh(self.placement.mesh):
            members = self.members(workdir, weights)
            about = members[0][2]
            config = counted_as(about["config"], frames)
            opened = self.opened(about, stores)
            folded = HELD_OUT in tiers and "of_fold" in about
            models = [(graph, arrays) for graph, arrays, _ in members]
            groups = ensembles.grouped(models) if len(models) > 1 else {}
            of_all = self.placement.everywhere(tuple(groups.values()) or models[0][1])
            steps = [each["best_step" if weights == "best" else "step"] for _, _, each in members]
            whose = dict(
                step=steps[-1],
                seeds=tuple(each["config"]["seed"] for _, _, each in members),
            )
            trained = config["data"]["normalization"]
            scored_as = normalization or RESPONSES_AS.get(trained, trained)
            check_name(scored_as, NORMALIZATIONS, "normalization")
            tiers = every_tier(opened) if EVERY_TIER in tiers else tiers
            shown = {
                tier: with_responses(
                    self._held_out(about, opened) if folded and tier == HELD_OUT else opened, tier
                )
                for tier in tiers
            }
            length = max(_longest(shown[tier], tier, config, scored_as) for tier in tiers)
            scores = {}
            for tier, present in shown.items():
                alone = folded and tier == HELD_OUT
                together = len(members) > 1 and not alone
                asked = models if together else models[:1]
                evaluator = self._evaluator(tier, config, present, asked, scored_as, length)
                own = self._of_folds(members, evaluator.predictions.rows) if alone else ()
                scores[tier] = evaluator.run(
                    of_all, names=measures, of_rows=own, ensemble=together, **whose
                )
            return scores

    def members(self, workdir: str | Path, weights: str = "best") -> list[tuple]:
        """What `build.load_members` gives; the last one stays loaded."""
        key = (str(workdir), weights)
        if self._loaded[0] != key:
            self._loaded = key, build.load_members(workdir, weights)
        return self._loaded[1]

    def opened(self, about: Mapping, stores: str = "") -> dict[str, TrialStore]:
        """The stores of a run's mice; UserError when they are not those it was trained on.

        about: what its checkpoint says of it (`build.load_encoder`).
        """
        data = about["config"]["data"] | {"mice": list(about["mice"])}
        if stores:
            data |= {"folder": stores, "recordings": "stores"}
        key = _key(data, about["config"]["simulation"])
        if key not in self._stores:
            self._stores[key] = build.stores(data, about["config"]["simulation"])
        checkpoints.check_mice(about["mice"], build.described(self._stores[key]))
        return self._stores[key]

    def _held_out(self, about: Mapping, opened: Mapping) -> dict[str, TrialStore]:
        """The stores with every trial held out that some member was trained without."""
        data = about["of_fold"]
        key = _key(data), tuple(id(store) for store in opened.values())
        if key not in self._held:
            self._held[key] = folds.hold_out_all(
                opened,
                data["tiers"],
                folds=data["folds"],
                rule=data["fold_rule"],
                seed=data["subset_seed"],
            )
        self._folds = self._held[key][1]
        return self._held[key][0]

    def _of_folds(self, members: Sequence[tuple], rows: Mapping[str, np.ndarray]) -> list[tuple]:
        """Each member's weights with the rows of its own fold, of those held out in any.

        Raises UserError when a fold has no member or several.
        """
        own = sorted(about["of_fold"]["fold"] for _, _, about in members)
        count = members[0][2]["of_fold"]["folds"]
        if own != list(range(count)) or len({graph for graph, _, _ in members}) > 1:
            raise UserError(
                f"found members without folds {', '.join(map(str, own))}, expected one for each of "
                f"{count}, all of one architecture, so that every trial is predicted once; score "
                "another tier."
            )
        return [
            (
                self.placement.everywhere(arrays),
                {m: of[self._folds[m][of] == about["of_fold"]["fold"]] for m, of in rows.items()},
            )
            for _, arrays, about in members
        ]

    def _evaluator(self, tier, config, opened, models, normalization, length) -> Evaluator:
        """One that was made before, when it asks the same of the same trials and architecture."""
        program, lost_frames = self._program(models, config)
        # The stores themselves, since those of one path may show different neurons.
        whose = tuple(id(store) for store in opened.values())
        counted = _key(config["data"], config["evaluation"], normalization, length)
        key = (tier, whose, id(program), counted)
        if key not in self._evaluators:
            self._evaluators[key] = build.evaluator(
                tier,
                config,
                opened,
                self._of_mice(config["data"], opened, whose),
                models[0][0],
                lost_frames,
                self.placement,
                program=program,
                sums=self._summing(config["evaluation"]["nan_rule"], normalization),
                normalization=normalization,
                length=length,
            )
        return self._evaluators[key]

    def _program(self, models, config) -> tuple[Callable, int]:
        """That predicts with one model or with the mean of several, and frames that it loses."""
        inputs, evaluation = config["inputs"], config["evaluation"]
        windows = {name: evaluation[name] for name in OF_WINDOWS}
        graphs = [graph for graph, _ in models]
        key = (tuple(dict.fromkeys(graphs)), _key(inputs, windows), len(models) > 1)
        if key not in self._programs:
            predict = predicted_by(graphs, inputs, evaluation)
            program = predictions.compiled(predict, self.placement.copied)
            self._programs[key] = program, lost_by(models, inputs)
        return self._programs[key]

    def _summing(self, nan_rule: str, normalization: str) -> Callable:
        key = nan_rule, normalization in AS_RECORDED
        if key not in self._sums:
            self._sums[key] = evaluators.summing(nan_rule, self.placement.copied, spikes=key[1])
        return self._sums[key]

    def _of_mice(self, data, opened, whose):
        key = (data["normalization"], whose)
        if key not in self._statistics:
            made = build.statistics(data, opened)
            self._statistics[key] = self.placement.everywhere(made)
        return self._statistics[key]


def predicted_by(graphs: Sequence, inputs: Mapping, evaluation: Mapping) -> Callable:
    """What `predictions.compiled` takes: of one model, or of the mean of several, whose weights are
    then those of `ensembles.grouped`."""
    predicts = [build.predictor(graph, inputs, evaluation) for graph in dict.fromkeys(graphs)]
    return ensembles.mean_prediction(predicts) if len(graphs) > 1 else predicts[0]


def lost_by(models: Sequence[tuple], inputs: Mapping) -> int:
    """Frames at the beginning of a trial that not all of these (structure, weights) predict."""
    one_of_each = dict(reversed(models)).items()
    return max(build.lost_frames(assemble(*each).core, inputs) for each in one_of_each)


def counted_as(config: Mapping, frames: str) -> dict:
    """The config with the scored frames of a named convention; "" changes nothing."""
    if not frames:
        return dict(config)
    check_name(frames, SCORED_FRAMES, "frames")
    return {**config, "evaluation": config["evaluation"] | SCORED_FRAMES[frames]._asdict()}


def with_responses(opened: Mapping[str, TrialStore], tier: str) -> dict[str, TrialStore]:
    """The mice that have responses in a tier (of joined ones, in any); UserError when none has."""
    found, refused = {}, None
    for mouse, store in opened.items():
        try:
            predictions.scorable(store, tier)
            found[mouse] = store
        except UserError as error:
            refused = error
    if not found:
        raise refused
    return found


def every_tier(opened: Mapping[str, TrialStore]) -> tuple[str, ...]:
    """The tiers of which at least one mouse has the responses."""
    return tuple(tier for tier in TIERS if _has_responses(opened, tier))


def tiers_by_kind(opened: Mapping[str, TrialStore], trained_on: Sequence[str]) -> tuple[str, ...]:
    """The tiers of a table by kind of stimulus, joined: of movies, and of the other kinds.

    Those of `IN_DOMAIN` that nobody trained on come first. UserError when no mouse has responses,
    or when the kinds of a mouse's stimuli are not known.
    """
    for store in opened.values():
        if not set(store.stimulus_kinds) & set(STIMULUS_KINDS):
            raise UserError(
                f"found no known kind of stimulus for mouse {store.mouse}, expected "
                f"{', '.join(STIMULUS_KINDS)}; find them with python "
                f"scripts/assign_stimulus_ids.py {store.path.parent}"
            )
    by_use = sorted(IN_DOMAIN, key=lambda tier: any(each in trained_on for each in split(tier)))
    in_domain = [tier for tier in by_use if _has_responses(opened, tier)]
    others = [OUT_OF_DOMAIN] if _has_responses(opened, OUT_OF_DOMAIN) else []
    if not in_domain + others:
        raise UserError(
            "found no responses in the tiers oracle, live_test_main, final_test_main and those of "
            "the bonus tracks, expected some; score another tier with --tier."
        )
    return (*in_domain[:1], *others)


def split(tier: str) -> list[str]:
    """The tiers that are joined under one name."""
    return tier.split(predictions.JOINS)


def _has_responses(opened, tier) -> bool:
    try:
        return bool(with_responses(opened, tier))
    except UserError:
        return False


def _longest(opened, tier, config, normalization) -> int:
    """Frames of the longest trial of a tier, as far as it is shown."""
    units, most = (
        (config["data"]["normalization"], normalization),
        config["evaluation"]["most_frames"],
    )
    return max(
        int(predictions.shown_frames(store, units, most)[predictions.scorable(store, tier)].max())
        for store in opened.values()
    )


def _key(*settings) -> str:
    return json.dumps(plain(list(settings)), sort_keys=True)
