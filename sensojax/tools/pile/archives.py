"""Which files the archives have of a data set, and how to read them from there.

In goes a `Component`; out come `RemoteFile`s, sorted by path, which readers open like files of this
machine. DANDI lists its assets by an interface of pages, the Allen Institute by a table of
sessions, figshare by one page per article.
"""

import csv
import io
import urllib.parse
from dataclasses import dataclass

from sensojax.errors import UserError
from sensojax.spikes.sources.components import Component
from sensojax.tools.downloading import ranges

PLACES = {
    "dandi": "https://api.dandiarchive.org/api",
    "allen": "https://visual-behavior-neuropixels-data.s3.us-west-2.amazonaws.com"
    "/visual-behavior-neuropixels",
    "figshare": "https://api.figshare.com/v2",
}


@dataclass(frozen=True)
class RemoteFile:
    """A file of an archive: its path in the data set and where it is.

    size: in bytes, 0 when the archive does not say. digest: hexadecimal (its length tells which),
    "" when unknown. about: an address that knows the digest, "" when there is none.
    """

    path: str
    where: str
    size: int = 0
    digest: str = ""
    about: str = ""

    def open(self) -> io.BufferedReader:
        return ranges.RemoteStream(self.where)


def at(address: str) -> RemoteFile:
    """The file at an address, whose last two parts are taken for its folder and its name."""
    parts = urllib.parse.urlsplit(address).path.strip("/").split("/")
    return RemoteFile(urllib.parse.unquote("/".join(parts[-2:])), address)


def files(component: Component, place: str = "") -> list[RemoteFile]:
    """The files of a data set that may hold its sessions. place: another address of its archive.

    Raises UserError when the archive cannot be reached, or lists none.
    """
    place = (place or PLACES[component.archive]).rstrip("/")
    try:
        every = LISTS[component.archive](component, place)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"found an answer of {place} without {error}, expected the list of the files of "
            f"{component.name}; look at {component.page}, and fetch them by hand."
        ) from error
    wanted = component.match or ("",)
    found = [file for file in every if any(part in file.path for part in wanted)]
    if not found:
        like = f" whose path has {' or '.join(wanted)}" if component.match else ""
        raise UserError(
            f"found {len(every)} files of {component.name} at {place} and none{like}, expected "
            f"some; look at {component.page}."
        )
    return sorted(found, key=lambda file: file.path)


def digest_of(file: RemoteFile) -> str:
    """The digest of a file, asked of the archive where it is not known yet; "" when nobody does."""
    if file.digest or not file.about:
        return file.digest
    return ranges.read_json(file.about).get("digest", {}).get("dandi:sha2-256", "")


def _of_dandi(component: Component, place: str) -> list[RemoteFile]:
    version = f"{place}/dandisets/{component.identifier}/versions/{component.version}"
    page: str | None = f"{version}/assets/?page_size=1000&order=path"
    found = []
    while page:
        content = ranges.read_json(page)
        for asset in content["results"]:
            if asset["path"].endswith(".nwb"):
                about = f"{place}/assets/{asset['asset_id']}/"
                where = f"{about}download/"
                found.append(RemoteFile(asset["path"], where, asset["size"], "", about))
        page = content["next"]
    return found


def _of_allen(component: Component, place: str) -> list[RemoteFile]:
    table = csv.DictReader(
        io.StringIO(ranges.read_text(f"{place}/project_metadata/ecephys_sessions.csv"))
    )
    found = []
    for row in table:
        session, mouse = row["ecephys_session_id"], row["mouse_id"]
        name = f"ecephys_session_{session}.nwb"
        where = f"{place}/behavior_ecephys_sessions/{session}/{name}"
        found.append(RemoteFile(f"sub-{mouse}/{name}", where))
    return found


def _of_figshare(component: Component, place: str) -> list[RemoteFile]:
    content = ranges.read_json(f"{place}/articles/{component.identifier}")
    return [
        RemoteFile(
            path=urllib.parse.unquote(file["name"]),
            where=file["download_url"],
            size=file["size"],
            digest=file.get("computed_md5", ""),
        )
        for file in content["files"]
    ]


LISTS = {"dandi": _of_dandi, "allen": _of_allen, "figshare": _of_figshare}
