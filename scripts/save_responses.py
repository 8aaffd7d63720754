"""Responses of every trial in one HDF5 file per mouse, as all later analyses read them.

    python scripts/save_responses.py <source> [<more> ...] --out data/responses

A source is a session, a folder or .zip of sessions, a store or a folder of stores. Each mouse gets
`--out/<mouse>.h5`, with a data set [neuron time] for each trial whose responses are known, named by
the trial's number, in the units of the recording. Of a trial, by default, its first 300 frames
without the first 50.

    python scripts/save_responses.py --predictions runs/baseline --out runs/baseline/responses

does the same with what a run predicts of its mice. A file that is there is passed over, one that
was stopped is begun anew. `sensojax.tools.response_files.read_responses` reads them.
"""

import argparse
import sys
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors, types
from sensojax.experiments.predicting import AS_RECORDED, OF_THE_RUN, Predictor
from sensojax.pipeline.windows import SCORED_FRAMES
from sensojax.tools import save_responses, sources
from sensojax.training.mesh import join_processes


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    """Goes over every mouse; exit code 1 when one of them could not be done."""
    args = _parser().parse_args(arguments)
    if bool(args.sources) == bool(args.predictions):
        raise errors.UserError(
            "found neither sources nor --predictions, or both, expected one of them; give sessions "
            "or stores for what was recorded, a run folder for what is predicted."
        )
    if args.workers < 0:
        raise errors.UserError(f"--workers {args.workers}, expected 0 (one per core) or more.")
    for tier in args.tiers:
        errors.check_name(tier, types.TIERS, "--tiers")
    known = (*SCORED_FRAMES, OF_THE_RUN) if args.predictions else SCORED_FRAMES
    errors.check_name(args.frames, known, "--frames")
    mice, act = _predicting(args) if args.predictions else _recording(args)
    sources.for_each(mice, lambda mouse: print(f"{mouse}: {act(mouse)}", flush=True), "done")


def _recording(args):
    found, frames = sources.find(args.sources), SCORED_FRAMES[args.frames]

    def act(mouse: str) -> str:
        return save_responses.record(args.out, found[mouse](), frames, args.tiers, args.workers)

    return found, act


def _predicting(args):
    join_processes()
    predictor = Predictor(
        args.predictions, args.weights, args.stores, frames=args.frames, units=AS_RECORDED
    )

    def act(mouse: str) -> str:
        return save_responses.predict(args.out, predictor, mouse, args.tiers)

    return predictor.stores, act


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="*", type=Path, help="folders or .zip files of sessions")
    parser.add_argument("--out", type=Path, default=Path("data/responses"), help="folder of files")
    parser.add_argument("--tiers", nargs="+", default=[], help="default: all but none")
    parser.add_argument(
        "--frames",
        default="viv1t_local",
        help=f"frames of a trial: {', '.join(SCORED_FRAMES)}; of a run also {OF_THE_RUN}",
    )
    parser.add_argument("--predictions", default="", help="a run folder: save what it predicts")
    parser.add_argument("--weights", choices=("best", "newest"), default="best", help="of the run")
    parser.add_argument("--stores", default="", help="of the run, when they have been moved")
    parser.add_argument("--workers", type=int, default=0, help="threads; 0: one per core")
    return parser


if __name__ == "__main__":
    main()
