"""What a file of published weights says of its model: the sections of a config, from names alone.

In: what a file tells before any array is read; out: an `Architecture`. Each family of models has a
module of its own, and is known by one name that all of its files have.
"""

from collections.abc import Callable

from sensojax.interop import dwiseneuro_architecture, kit_architecture, viv1t_architecture
from sensojax.interop.told import Architecture, File

# The first of these whose prefix some name of the file has; the kits' prefix is that of any core.
FAMILIES: dict[str, Callable[[File], Architecture]] = {
    "core.stem.": dwiseneuro_architecture.of,
    "core.vivit.": viv1t_architecture.of,
    "": kit_architecture.of,
}


def of(file: File) -> Architecture:
    """UserError for weights of none of these families, and for parts that we do not have."""
    for prefix, family in FAMILIES.items():
        if any(name.startswith(prefix) for name in file.shapes):
            return family(file)
    return kit_architecture.of(file)
