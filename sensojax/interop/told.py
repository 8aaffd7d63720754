"""What a file of weights tells of its model before any array is read, and what that makes of it.

`File` goes into the modules `*_architecture`, one for each family of models that others publish; an
`Architecture` comes out: the settings that the file tells, those that no file tells with the values
that all published models have there, and those that nobody can know but the user.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensojax.interop.core_architecture import Found, Shapes


@dataclass(frozen=True)
class File:
    """shapes: of all arrays by name. modules: names of the modules they came from, if known.

    numbers: {name: value} of arrays without axes. given: {"section.setting": value} that the user
    has said. frame_size: (height, width) of a frame as the model sees it. path: of the file.
    """

    shapes: Shapes
    modules: frozenset[str] | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    frame_size: tuple[int, int] = (36, 64)
    path: Path = Path()


@dataclass(frozen=True)
class Architecture:
    """A model as far as its weights tell.

    page: which config says the rest: "images" (2022), "videos" (2023), "dwiseneuro", "viv1t2023" or
    "viv1t2025". sections: {section: {setting: value}} of a config, told and assumed. assumed:
    {"section.setting": value} of those that the weights do not tell. asked: {"section.setting":
    why} of those that only the user knows. mice: {mouse: number of neurons}, under their names in
    the file; spare: up to so many of a mouse's neurons may be nobody's. map_size: (height, width)
    that the features must have; None: any.
    """

    page: str
    sections: Mapping[str, Mapping[str, Any]]
    assumed: Mapping[str, Any]
    asked: Mapping[str, str]
    mice: Mapping[str, int]
    spare: int = 0
    map_size: tuple[int, int] | None = None


def together(
    page: str, found: Mapping[str, Found], mice: Mapping[str, int], **more: Any
) -> Architecture:
    """The architecture of what was found for each section of a config; more: its other fields."""
    return Architecture(
        page=page,
        sections={name: {**each.assumed, **each.told} for name, each in found.items()},
        assumed=_dotted({name: each.assumed for name, each in found.items()}),
        asked=_dotted({name: each.asked for name, each in found.items()}),
        mice=mice,
        **more,
    )


def _dotted(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        f"{section}.{name}": value
        for section, settings in sections.items()
        for name, value in settings.items()
    }
