"""One session from its address to disk: as a zip that is known to be whole, or as a folder.

In go an address and a folder; out comes the path of `<name>.zip` (which the reader reads in place)
or of the unpacked folder `<name>`. What is there already is kept; a zip that was cut or altered is
fetched again.
"""

import hashlib
from pathlib import Path

from sensojax.errors import UserError
from sensojax.tools.downloading import unpacking
from sensojax.tools.downloading.fetching import Damaged, Watch, fetch

ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}  # by hexadecimal digits


def obtain(
    address: str,
    folder: Path,
    name: str,
    *,
    digest: str = "",
    unzip: bool = False,
    keep_zip: bool = True,
    verify: bool = False,
    watch: Watch | None = None,
) -> tuple[Path, str]:
    """Brings a session; returns its path and what was done: "there", "fetched" or "unpacked".

    digest: hexadecimal, of the zip (its length tells md5, sha1, sha256 or sha512); empty when
    nobody knows it. unzip: into `<folder>/<name>`; without keep_zip the zip is then deleted.
    verify: read also a zip that is there already from its beginning to its end.
    """
    watch = watch or Watch()
    archive, unpacked = folder / f"{name}.zip", folder / name

    def finish(path: Path) -> None:
        """What makes a zip good: its digest, where known, and the checksums of its members."""
        check_digest(path, digest)
        if unzip:
            unpacking.unpack(path, unpacked, watch)
        else:
            unpacking.test(path, watch)

    if unpacked.is_dir():
        _tidy(archive)
        return unpacked, "there"
    was_there = archive.exists()
    if was_there:
        try:
            if unzip or verify:
                finish(archive)
            else:
                unpacking.look(archive)
        except Damaged as error:
            watch.say(f"found a damaged zip ({error}); fetching it again.")
            was_there = False
    if was_there:
        _tidy(archive)
    else:
        fetch(address, archive, finish, watch)
    if not unzip:
        return archive, "there" if was_there else "fetched"
    if not keep_zip:
        archive.unlink()
    return unpacked, "unpacked"


def _tidy(archive: Path) -> None:
    """Removes what a kill at the very end has left: nobody needs it any more."""
    for stray in archive.parent.glob(f"{archive.name}.partial*"):
        stray.unlink()


def check_digest(path: Path, digest: str) -> None:
    """Raises Damaged when the digest is another; UserError when it is no digest."""
    if not digest:
        return
    algorithm = ALGORITHMS.get(len(digest))
    if algorithm is None or set(digest.lower()) - set("0123456789abcdef"):
        raise UserError(
            f"found the checksum {digest!r}, expected md5, sha1, sha256 or sha512 in hexadecimal; "
            "correct the file of checksums."
        )
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != digest.lower():
        raise Damaged(f"{path.name} has the {algorithm} {found}, expected {digest.lower()}")
