"""Downloads the recordings of the Sensorium competitions of 2022 and 2023 from their archive.

    python scripts/download_sensorium.py --mice A,F --out data/sensorium

Each session is one zip, tested to its last byte before it gets its name. The same command again
continues a download that was cut or killed and passes over what is there. Zips are read in place by
the rest of sensojax; --unzip unpacks them, and --keep-zip then keeps them too. --list shows what
there is. A session that cannot be had does not keep the others from it.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

# From a checkout this runs without installing.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sensojax import errors
from sensojax.recordings import formats, published
from sensojax.tools import downloading
from sensojax.tools.downloading.display import Display, Stopped


@errors.command_line
def main(arguments: list[str] | None = None) -> None:
    """Downloads the chosen sessions; exit code 1 when one of them could not be had."""
    args = _parser().parse_args(arguments)
    mice = [word.strip() for word in args.mice.split(",") if word.strip()]
    sessions = published.choose(mice, args.set)
    if args.list:
        print(_table(sessions, args.out))
        return
    if not mice and not args.set:
        raise errors.UserError(
            "found neither --mice nor --set, expected at least one of them; --list shows what "
            "there is."
        )
    if args.workers < 1:
        raise errors.UserError(f"found --workers {args.workers}, expected 1 or more.")
    args.digests = _digests(args.checksums)
    failed = _obtain_all(sessions, args)
    if len(failed) < len(sessions):
        print(f"next: python scripts/convert.py {args.out} --out data/stores")
    if failed:
        raise errors.UserError(
            f"{len(failed)} of {len(sessions)} sessions could not be had (reasons above); give the "
            "same command again, what is there stays."
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/sensorium"), help="folder for zips")
    parser.add_argument("--mice", default="", help="letters or names, with commas: A,F,29513-3-5")
    parser.add_argument("--set", default="", help=f"one of {', '.join(published.SETS)}")
    parser.add_argument("--list", action="store_true", help="show the sessions, fetch nothing")
    parser.add_argument("--workers", type=int, default=3, help="sessions at once")
    parser.add_argument("--unzip", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--keep-zip", action="store_true", help="keep zips that were unpacked")
    parser.add_argument("--verify", action="store_true", help="test also zips that are there")
    parser.add_argument("--checksums", type=Path, help="lines as of sha256sum: digest, name.zip")
    parser.add_argument("--base-address", help="another place that has the zips, http(s)://...")
    return parser


def _obtain_all(sessions, args) -> set[published.Session]:
    """Fetches several sessions at a time; returns those that failed, each told in one sentence."""
    failed = set()
    with ThreadPoolExecutor(args.workers) as pool, Display() as display:
        needed = sum(pool.map(lambda each: _bytes_to_fetch(each, args), sessions))
        downloading.check_space(args.out, needed, f"fetching {len(sessions)} sessions")
        work = {pool.submit(_obtain, each, args, display): each for each in sessions}
        try:
            for done in as_completed(work):
                try:
                    print(done.result(), flush=True)
                except errors.UserError as error:
                    failed.add(work[done])
                    display.say(f"error: mouse {work[done].letter}: {error}")
        except BaseException:
            display.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def _bytes_to_fetch(session, args) -> int:
    path = args.out / f"{session.name}.zip"
    if path.exists() or (args.out / session.name).exists():
        return 0
    partial = path.with_name(path.name + ".partial")
    begun = partial.stat().st_size if partial.exists() else 0
    return max(0, (downloading.size_of(_address(session, args)) or 0) - begun)


def _obtain(session, args, display) -> str:
    """Fetches one session; returns what to say of it."""
    watch = display.watch(f"mouse {session.letter}")
    try:
        path, done = downloading.obtain(
            _address(session, args),
            args.out,
            session.name,
            digest=args.digests.get(f"{session.name}.zip", ""),
            unzip=args.unzip,
            keep_zip=args.keep_zip,
            verify=args.verify,
            watch=watch,
        )
    except Stopped:
        return f"mouse {session.letter}: stopped"
    said = {"there": "was there already", "fetched": "fetched", "unpacked": "unpacked"}[done]
    return f"mouse {session.letter}: {said}, {path}{_content(session, path)}"


def _content(session, path) -> str:
    """How much is in it; UserError when it is no session."""
    recording = formats.read(path)
    neurons, trials = len(recording.neurons), len(recording.tiers)
    told = f" ({neurons} neurons, {trials} trials)"
    if (neurons, trials) != (session.neurons, session.trials or trials):
        told += f"; note: published with {session.neurons} neurons and {session.trials} trials"
    return told


def _address(session, args) -> str:
    if args.base_address:
        return f"{args.base_address.rstrip('/')}/{session.name}.zip"
    return session.address


def _digests(path: Path | None) -> dict[str, str]:
    """Digests by the name of the zip, from lines as sha256sum and md5sum write them."""
    if path is None:
        return {}
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    for words in lines:
        if len(words) != 2:
            raise errors.UserError(
                f"found {' '.join(words)!r} in {path}, expected a digest and a name in each line; "
                "write it with sha256sum."
            )
    return {Path(name.removeprefix("*")).name: digest for digest, name in lines}


def _table(sessions, folder: Path) -> str:
    lines = ["mouse  set   neurons  trials  here    session"]
    for each in sessions:
        here = "folder" if (folder / each.name).is_dir() else ""
        here = "zip" if (folder / f"{each.name}.zip").exists() else here
        trials = each.trials or "?"
        lines.append(
            f"{each.letter:5}  {each.set:4}  {each.neurons:7}  {trials:>6}  {here:6}  {each.name}"
        )
    lines.append("The recordings of 2023 are under CC BY-NC-ND 4.0, as their publishers report.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
