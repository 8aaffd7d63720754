"""The 25 data sets of the published pile: where each is kept, its licence, and its special rules.

In goes a name as on the command line (`vcn`); out comes a `Component`. Numbers are those that the
pile's authors report (453 G tokens, 528 subjects, 1,908 sessions); licences and versions those that
the archives state, empty where they state none.
"""

from dataclasses import dataclass

from sensojax.errors import check_name

ARCHIVES = {
    "dandi": "https://dandiarchive.org/dandiset/{}",
    "allen": "https://dandiarchive.org/dandiset/{}",
    "figshare": "https://doi.org/10.6084/m9.figshare.{}",
}


@dataclass(frozen=True)
class Component:
    """One data set.

    archive: `dandi`, `allen` (its own bucket) or `figshare`; identifier: its number there; version:
    the published one, `draft` where only that exists. sessions, subjects, tokens: as reported.
    reader: module of `sources`. match: the paths of its files contain one of these, where there are
    any. rule: what is special.
    """

    name: str
    title: str
    archive: str
    identifier: str
    version: str
    licence: str
    species: str
    subjects: int
    sessions: int
    tokens: int
    reader: str = "nwb"
    match: tuple[str, ...] = ()
    rule: str = ""

    @property
    def page(self) -> str:
        """Where a person reads about it."""
        return ARCHIVES[self.archive].format(self.identifier)


CC_BY = "CC-BY-4.0"
ALL = (
    Component(
        *("vbn", "VBN", "allen", "000713", "", "", "mouse", 81, 153, 153_877_057_200),
        rule="Read from the Allen Institute's bucket by the numbers of its session table, which "
        "also names the mice (the published table calls every subject `data`).",
    ),
    Component(
        *("ibl", "IBL", "dandi", "000409", "draft", CC_BY, "mouse", 115, 347, 69_147_814_139),
        match=("processed-only",),
        rule="Only files whose name has `processed-only`; the others hold raw recordings.",
    ),
    Component(
        *("shield", "SHIELD", "dandi", "001051", "draft", CC_BY, "mouse", 27, 99, 61_890_305_241)
    ),
    Component(*("vcn", "VCN", "dandi", "000021", "draft", "", "mouse", 32, 32, 36_681_686_005)),
    Component(*("vcn-2", "VCN-2", "dandi", "000022", "draft", "", "mouse", 26, 26, 30_600_253_445)),
    Component(
        *("v2h", "V2H", "dandi", "000690", "0.250326.0015", CC_BY, "mouse"),
        *(25, 25, 24_600_171_007),
    ),
    Component(
        *("petersen", "Petersen", "dandi", "000059", "0.230907.2101", CC_BY, "rat"),
        *(5, 24, 15_510_368_376),
        rule="Some sessions cool the medial septum.",
    ),
    Component(
        *("oddball", "Oddball", "dandi", "000253", "0.240923.1441", CC_BY, "mouse"),
        *(14, 14, 14_653_641_118),
    ),
    Component(
        *("illusion", "Illusion", "dandi", "000248", "0.240502.2344", CC_BY, "mouse"),
        *(12, 12, 13_246_412_456),
    ),
    Component(
        *("huszar", "Huszar", "dandi", "000552", "0.230630.2304", CC_BY, "mouse"),
        *(17, 65, 8_812_474_629),
        rule="Only sessions with electrophysiology; the others have no units and are passed over.",
    ),
    Component(
        *("steinmetz", "Steinmetz", "dandi", "000017", "0.240329.1926", CC_BY, "mouse"),
        *(10, 39, 7_881_422_592),
    ),
    Component(
        *("lemerre", "Le Merre", "dandi", "001260", "0.250911.0744", CC_BY, "mouse"),
        *(41, 74, 3_903_005_243),
        reader="lemerre",
        rule="A file per probe; the probes of a session are joined.",
    ),
    Component(
        *("peyrache", "Peyrache", "dandi", "000056", "0.250624.0430", CC_BY, "mouse"),
        *(7, 40, 2_198_184_372),
    ),
    Component(
        *("prince", "Prince", "dandi", "001371", "draft", CC_BY, "mouse", 7, 66, 1_921_336_974)
    ),
    Component(
        *("senzai", "Senzai", "dandi", "000166", "0.250624.0434", CC_BY, "mouse"),
        *(19, 19, 1_433_511_102),
    ),
    Component(
        *("finkelstein", "Finkelstein", "dandi", "000060", "draft", "", "mouse"),
        *(9, 98, 1_313_786_316),
    ),
    Component(
        *("grosmark", "Grosmark", "dandi", "000044", "0.250624.0426", CC_BY, "rat"),
        *(4, 8, 1_158_299_763),
    ),
    Component(
        *("giocomo", "Giocomo", "dandi", "000053", "0.210819.0345", CC_BY, "mouse"),
        *(34, 349, 1_083_328_404),
    ),
    Component(
        *("steinmetz-2", "Steinmetz-2", "figshare", "7739750", "", "", "mouse", 3, 3, 684_731_334),
        reader="steinmetz2",
        match=("spks", "probeLocations"),
        rule="MATLAB files of eight probes; rejected clusters stay as silent neurons, time zero is "
        "the first spike, bins are whole parts of a quotient. Its own page reports 1,830,825,994 "
        "tokens.",
    ),
    Component(
        *("jaramillo", "Jaramillo", "dandi", "000986", "draft", CC_BY, "mouse", 5, 15, 581_535_289)
    ),
    Component(
        *("mehrotra", "Mehrotra", "dandi", "000987", "draft", CC_BY, "mouse", 3, 14, 465_402_824)
    ),
    Component(
        *("iurilli", "Iurilli", "dandi", "000931", "0.240305.0945", CC_BY, "mouse"),
        *(1, 1, 388_791_426),
    ),
    Component(
        *("gonzalez", "Gonzalez", "dandi", "000405", "draft", CC_BY, "rat", 5, 276, 366_962_209),
        reader="gonzalez",
        rule="Firing rates at 50 Hz in place of spikes: counts in bins of 20 ms and multiples.",
    ),
    Component(
        *("li", "Li", "dandi", "000010", "0.220126.1905", CC_BY, "mouse", 23, 99, 260_807_325),
        rule="Only sessions with electrophysiology; the others have no units and are passed over.",
    ),
    Component(
        *("fujisawa", "Fujisawa", "dandi", "000067", "0.250624.0419", CC_BY, "rat"),
        *(3, 10, 132_563_010),
    ),
)
BY_NAME = {component.name: component for component in ALL}


def named(name: str) -> Component:
    """The component of this name; UserError that lists all of them when there is none."""
    check_name(name, BY_NAME, "component")
    return BY_NAME[name]


def table() -> str:
    """All components in lines, for people."""
    lines = ["component    tokens           sessions  species  licence    source"]
    for each in ALL:
        source = f"{each.archive}:{each.identifier}"
        lines.append(
            f"{each.name:12} {each.tokens:15,}  {each.sessions:8}  {each.species:7}  "
            f"{each.licence or 'see page':9}  {source}  {each.page}"
        )
        if each.rule:
            lines.append(f"             {each.rule}")
    return "\n".join(lines)
