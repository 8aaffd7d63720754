"""The recordings of the two Sensorium competitions: names, sizes and addresses, in one table.

In goes what a user types (a letter, a session's name or its numbers, the name of a set), out come
`Session`s. Nothing is fetched here. Numbers as in sota 0.1 and baselines 2.1; the letters A to J
are those of the analyses of 2023, the numbers 1 to 7 those of the archive of 2022.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sensojax.errors import UserError, check_name, nearest

ARCHIVES = {
    "old": "https://gin.g-node.org/pollytur/Sensorium2023Data/raw/master",
    "new": "https://gin.g-node.org/pollytur/sensorium_2023_dataset/raw/master",
    "2022": "https://gin.g-node.org/cajal/Sensorium2022/raw/master",
}
SETS = {"2022": ("2022",), "2023": ("old", "new"), "old": ("old",), "new": ("new",)}
OLD = "Video-8744edeac3b4d1ce16b680916b5267ce"
NEW = "Video-9b4f6a1a067fe51e15306b9628efea20"
IMAGES = "GrayImageNet-94c6ff995dac583098847cfecd43e7b6"


@dataclass(frozen=True)
class Monitor:
    """The screen that a mouse looked at, and how far its eye was from it."""

    width_cm: float
    height_cm: float
    distance_cm: float


# Stated for the mice of 2023 (sota 0.1); those of 2022 are of the same laboratory.
MONITOR = Monitor(width_cm=56.5, height_cm=31.8, distance_cm=15.0)


@dataclass(frozen=True)
class Session:
    """One published session.

    letter: its short name. set: "old" (five mice of 2023 whose labels are public), "new" (the five
    of the competition of 2023) or "2022". name: of its folder. neurons, trials: how many (trials
    with those of tier none; 0 where nobody says). monitor: what the mouse looked at.
    """

    letter: str
    set: str
    name: str
    neurons: int
    trials: int
    monitor: Monitor = MONITOR

    @property
    def address(self) -> str:
        """Where its zip can be fetched."""
        return f"{ARCHIVES[self.set]}/{self.name}.zip"

    @property
    def key(self) -> str:
        """Animal, session and scan, such as 29156-11-10."""
        return "-".join(self.name.split("-")[:3]).removeprefix("dynamic").removeprefix("static")


SESSIONS = (
    Session("A", "old", f"dynamic29156-11-10-{OLD}", 7440, 740),
    Session("B", "old", f"dynamic29228-2-10-{OLD}", 7928, 720),
    Session("C", "old", f"dynamic29234-6-9-{OLD}", 8285, 740),
    Session("D", "old", f"dynamic29513-3-5-{OLD}", 7671, 720),
    Session("E", "old", f"dynamic29514-2-9-{OLD}", 7495, 739),
    Session("F", "new", f"dynamic29515-10-12-{NEW}", 7863, 711),
    Session("G", "new", f"dynamic29623-4-9-{NEW}", 7908, 682),
    Session("H", "new", f"dynamic29647-19-8-{NEW}", 8202, 711),
    Session("I", "new", f"dynamic29712-5-9-{NEW}", 7939, 739),
    Session("J", "new", f"dynamic29755-2-8-{NEW}", 8122, 712),
    Session("1", "2022", f"static26872-17-20-{IMAGES}", 7776, 0),
    Session("2", "2022", f"static27204-5-13-{IMAGES}", 7538, 0),
    Session("3", "2022", f"static21067-10-18-{IMAGES}", 8372, 0),
    Session("4", "2022", f"static22846-10-16-{IMAGES}", 7344, 0),
    Session("5", "2022", f"static23343-5-17-{IMAGES}", 7334, 0),
    Session("6", "2022", f"static23656-14-22-{IMAGES}", 8107, 0),
    Session("7", "2022", f"static23964-4-22-{IMAGES}", 8098, 0),
)


def choose(mice: Iterable[str] = (), set_name: str = "") -> list[Session]:
    """The sessions with these names, or those of a set, or what both agree on; in table order.

    mice: letters, names of sessions, or their numbers (`29156-11-10`, `29156`). Raises UserError
    for a name that is not in the table.
    """
    if set_name:
        check_name(set_name, sorted(SETS), "set")
    wanted = {_find(mouse) for mouse in mice}
    for session in wanted:
        if set_name and session.set not in SETS[set_name]:
            raise UserError(
                f"found mouse {session.letter}, which is not of set {set_name} but of "
                f"{session.set}; leave out one of the two."
            )
    sets = SETS[set_name] if set_name else tuple(ARCHIVES)
    return [each for each in SESSIONS if (each in wanted if wanted else each.set in sets)]


def _find(word: str) -> Session:
    for session in SESSIONS:
        animal = session.key.split("-")[0]
        if word.upper() == session.letter or word in (session.name, session.key, animal):
            return session
    known = [name for each in SESSIONS for name in (each.key, each.name)]
    near = nearest(word, known)
    letters = ", ".join(f"{each.letter} ({each.key})" for each in SESSIONS)
    raise UserError(f"found mouse {word!r}, expected one of {letters}{near or '.'}")
