"""Converts recordings, as laboratories published them, into stores that training reads from.

    python scripts/convert.py <sessions> [<more sessions> ...] --out data/stores

A source is a session folder, a folder of sessions, or a .zip of them; or the .mat of the superior
colliculus (SCML 2017). Each mouse becomes one folder in `--out`. The same command again continues a
conversion that was stopped and passes over what is done; `--verify` reads the sources once more and
compares every number. A mouse that cannot be converted does not keep the others from it.
"""

import argparse
import importlib
import inspect
import pkgutil
import sys
import time
import zipfile
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import conversion, errors, recordings, store
from sensojax.recordings import matlab


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    """Converts every mouse of every source; exit code 1 when one of them could not be."""
    args = _parser().parse_args(arguments)
    if args.workers < 0:
        raise errors.UserError(f"--workers {args.workers}, expected 0 (one per core) or more.")
    reader = _reader(args.format, args.split)
    mice = _mice(reader, args.sources)
    failed = []
    for mouse, source in mice.items():
        try:
            _convert(reader, source, mouse, args)
        except errors.UserError as error:
            if len(mice) == 1:
                raise
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed.append(mouse)
    if failed:
        raise errors.UserError(
            f"{len(failed)} of {len(mice)} mice could not be converted (reasons above); put that "
            "right and give the same command again, what is done stays."
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", type=Path, help="folders or .zip files of sessions")
    parser.add_argument("--out", type=Path, default=Path("data/stores"), help="folder of stores")
    parser.add_argument(
        "--format", default="formats", help="module in sensojax/recordings; formats finds it out"
    )
    parser.add_argument(
        "--split",
        default="",
        help="of the superior colliculus: segment (default), or template: the organisers', in "
        "which one segment is both trained and tested on",
    )
    parser.add_argument("--workers", type=int, default=0, help="reading threads; 0: one per core")
    parser.add_argument(
        "--responses",
        choices=conversion.RESPONSE_DTYPES,
        default="float32",
        help="float16 halves the store and keeps 11 bits",
    )
    parser.add_argument("--verify", action="store_true", help="compare with the source afterwards")
    return parser


def _reader(name: str, split: str):
    """The module of a recording format: it has `sessions(path)` and `read(path, mouse)`."""
    known = [module.name for module in pkgutil.iter_modules(recordings.__path__)]
    if name in known:
        reader = importlib.import_module(f"{recordings.__name__}.{name}")
        if hasattr(reader, "sessions") and hasattr(reader, "read"):
            if split and "split" not in inspect.signature(reader.read).parameters:
                raise errors.UserError(f"found --split {split!r}, which {name} does not have.")
            return reader
    raise errors.UserError(
        f"no recording format {name!r}{errors.nearest(name, known)}; a format is a file in "
        "sensojax/recordings with `sessions` and `read`, as sensorium2023 is."
    )


def _mice(reader, sources: list[Path]) -> dict[str, Path]:
    """Where each mouse is found; a mouse in two sources is refused, one would hide the other."""
    mice: dict[str, Path] = {}
    for source in sources:
        for mouse in reader.sessions(source):
            if mouse in mice:
                raise errors.UserError(
                    f"mouse {mouse} is in {mice[mouse]} and in {source}; give one of them."
                )
            mice[mouse] = source
    return mice


def _convert(reader, source: Path, mouse: str, args: argparse.Namespace) -> None:
    path = args.out / mouse
    was_done = path.exists()
    was_begun = path.with_name(path.name + store.PARTIAL).exists()
    recording = reader.read(source, mouse, **({"split": args.split} if args.split else {}))
    started = time.monotonic()
    conversion.write(args.out, recording, workers=args.workers, response_dtype=args.responses)
    seconds = time.monotonic() - started
    trials = store.TrialStore.open(path).trials
    before, after = _source_bytes(source, mouse), _folder_bytes(path)
    said = [f"{len(trials)} trials", f"{len(set(trials.clip) - {-1})} distinct clips"]
    if before:
        said.append(f"{_size(before)} -> {_size(after)} ({after / before:.3f} of the source)")
    if was_done:
        said.append("already converted")
    elif was_begun:
        said.append(f"continued and finished in {seconds:.0f} s")
    else:
        said.append(f"{seconds:.1f} s, {before / 1e6 / max(seconds, 1e-3):.0f} MB/s")
    if args.verify:
        conversion.verify(path, recording, workers=args.workers)
        said.append("verified")
    print(f"{mouse}: {', '.join(said)}", flush=True)


def _source_bytes(source: Path, mouse: str) -> int:
    """Bytes of a mouse's files as they are when unpacked; 0 when they are not found by its name."""
    source = source.expanduser()
    if source.suffix == matlab.ENDING and source.is_file():
        return source.stat().st_size
    if source.is_dir():
        if (source / f"{mouse}{matlab.ENDING}").is_file():
            return (source / f"{mouse}{matlab.ENDING}").stat().st_size
        if (source / mouse).is_dir():
            return _folder_bytes(source / mouse)
        if source.resolve().name == mouse:
            return _folder_bytes(source)
        return sum(_source_bytes(archive, mouse) for archive in sorted(source.glob("*.zip")))
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
    inside = [member for member in members if f"/{mouse}/" in f"/{member.filename}"]
    if not inside and source.stem == mouse:
        inside = members
    return sum(member.file_size for member in inside)


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
