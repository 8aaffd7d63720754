"""Taking over a trained part of a model: its arrays are copied, and may be kept as they are.

In: a module of ours, trained or new; out: the same module with other arrays, or with arrays that
no optimiser and no batch norm will change. Frozen arrays are `layers.Fixed`, so `separate` puts
them where neither gradients nor optimiser moments are made for them.
"""

from flax import nnx

from sensojax.models.layers import Fixed


def freeze(module: nnx.Module) -> None:
    """Turns every array of a module into a fixed one; call it with `train=False` from then on."""
    for _, part in nnx.iter_modules(module):
        for name, held in vars(part).items():
            if isinstance(held, nnx.Variable) and not isinstance(held, Fixed):
                setattr(part, name, Fixed(held[...]))


def arrays(module: nnx.Module) -> dict:
    """All arrays of a module, frozen or not, in nested dictionaries."""
    return nnx.to_pure_dict(nnx.state(module))


def copy_arrays(source: nnx.Module, target: nnx.Module) -> None:
    """Gives `target` the arrays of `source`, a module of the same structure, frozen or not.

    Raises ValueError when names or shapes differ.
    """
    theirs = arrays(source)
    ours = nnx.state(target)
    found, expected = shapes(theirs), shapes(arrays(target))
    for name in sorted({**found, **expected}, key=str):
        if found.get(name) != expected.get(name):
            raise ValueError(
                f"{'/'.join(map(str, name))} has shape {found.get(name)} in one and "
                f"{expected.get(name)} in the other"
            )
    nnx.replace_by_pure_dict(ours, theirs)
    nnx.update(target, ours)


def shapes(tree: dict, path: tuple = ()) -> dict[tuple, tuple[int, ...]]:
    """The shape of every array in nested dictionaries, by its path."""
    found = {}
    for name, held in tree.items():
        inner = isinstance(held, dict)
        found |= shapes(held, (*path, name)) if inner else {(*path, name): held.shape}
    return found
