"""Names in a section of a config and what they stand for.

In: a section with `name` and other settings, and the components that there are; out: the component,
holding the settings as its arguments, or one sentence on what nobody knows.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping

from sensojax.errors import UserError, check_name, nearest


def settings(section: Mapping) -> tuple[str, dict]:
    """A section as its name and the other settings."""
    plain = dict(section)
    return plain.pop("name"), plain


def call(known: Mapping[str, Callable], what: str, section: Mapping, **more):
    """Calls what a section names with the section's settings; UserError for what nobody knows."""
    return chosen(known, what, section, more)(**more)


def chosen(
    known: Mapping[str, Callable], what: str, section: Mapping, more: Iterable[str] = ()
) -> Callable:
    """What a section names, holding the section's settings; `more` are arguments yet to come."""
    name, given = settings(section)
    check_name(name, sorted(known), f"{what}.name")
    accepted = [argument for argument in arguments(known[name]) if argument not in more]
    for key in given:
        if key not in accepted:
            raise UserError(
                f"found {what}.{key}, which {name!r} does not have; it has {', '.join(accepted)}"
                f"{nearest(key, accepted) or '.'}"
            )
    return functools.partial(known[name], **given)


def arguments(component: Callable) -> list[str]:
    """Names of what a function or class is called with."""
    # Of a Flax module, `inspect.signature(module)` sees only the metaclass.
    made_by = component.__init__ if inspect.isclass(component) else component
    return [name for name in inspect.signature(made_by).parameters if name != "self"]


def components(package, role: str) -> dict[str, Callable]:
    """Every file of a package that holds the class `role`, by the name of the file."""
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    modules = {name: importlib.import_module(f"{package.__name__}.{name}") for name in names}
    return {name: getattr(module, role) for name, module in modules.items()}


def functions(module) -> dict[str, Callable]:
    """The public functions and classes that a module itself defines, by name."""
    members = inspect.getmembers(module, callable)
    return {
        name.lower(): member
        for name, member in members
        if member.__module__ == module.__name__ and not name.startswith("_")
    }
