"""Checkpoints: the whole state of a run on disk, newest first, each describing itself.

In: a pytree of arrays and a dictionary of plain values; out: the same, from the newest checkpoint
that can be read. Orbax writes in the background and renames when complete, so a killed run leaves
either a whole checkpoint or none. Arrays are stored under their paths in the tree, with a SHA-256
of all their bytes: a checkpoint that was damaged later is recognised, said, and the one before is
used. What a killed run left half-written is removed when the next one begins.
"""

import hashlib
import logging
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from sensojax.errors import UserError, is_full_disk

FOLDER = "checkpoints"
FORMAT = 1


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths: `weights/params/core/layers/0/spatial`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def digest(leaves: dict[str, Any]) -> str:
    """SHA-256 over names, shapes, dtypes and bytes."""
    total = hashlib.sha256()
    for name in sorted(leaves):
        array = np.ascontiguousarray(np.asarray(leaves[name]))
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(array.data)
    return total.hexdigest()


def finished(workdir: str | Path) -> bool:
    """Whether a run folder holds a whole checkpoint."""
    return any(path.name.isdigit() for path in (Path(workdir) / FOLDER).glob("*"))


class Checkpoints:
    """The checkpoints of one run folder. keep: how many stay; at least 2, for the fall-back.

    read_only: for whoever looks at a run that may still be going; changes nothing on disk.
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        keep: int = 2,
        read_only: bool = False,
        say: Callable[[str], None] = print,
    ):
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax narrates every save
        self.folder = Path(workdir).resolve() / FOLDER
        self._say = say
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True)
        else:
            # Here and not by Orbax, whose clean-up goes on in a thread after an early exit.
            if jax.process_index() == 0:
                _remove_unfinished(self.folder)
            options = ocp.CheckpointManagerOptions(max_to_keep=max(keep, 2))
        self._manager = ocp.CheckpointManager(self.folder, options=options)
        self._show_unraisable = sys.unraisablehook
        sys.unraisablehook = self._ignore_stragglers

    def save(self, step: int, state: Any, about: dict) -> None:
        """Writes a checkpoint in the background; waits for the one before to be complete."""
        self._manager.wait_until_finished()
        if step in self._manager.all_steps():
            return
        leaves = flatten(state)
        about = {**about, "format": FORMAT, "digest": digest(leaves), "shapes": _shapes(leaves)}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(leaves), about=ocp.args.JsonSave(about)
            ),
        )

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, newest first."""
        return sorted(self._manager.all_steps(), reverse=True)

    def about(self, step: int) -> dict:
        """What a checkpoint says of itself."""
        about = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))
        return about["about"]

    def restore_newest(self, like: Callable[[dict], Any]) -> tuple[Any, dict] | None:
        """The newest readable checkpoint as (state, about), or None when there is none.

        like: makes, from `about`, a tree with the arrays (or shapes) that the state must have.
        Raises UserError when checkpoints exist and none can be read, or when shapes differ.
        """
        steps = self.steps()
        for step in steps:
            try:
                about = self.about(step)
                if about["format"] != FORMAT:
                    raise UserError(
                        f"checkpoint {self.folder / str(step)} has format {about['format']}, "
                        f"expected {FORMAT}; use the version of sensojax that wrote it."
                    )
                return self._restore(step, like(about), about), about
            except UserError:
                raise
            except Exception as error:
                if is_full_disk(error):
                    raise
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                self._say(
                    f"checkpoint {self.folder / str(step)} is damaged ({reason}); "
                    "using the one before."
                )
        if steps:
            raise UserError(
                f"found {len(steps)} checkpoints in {self.folder}, all damaged; restore the folder "
                "from a copy, or start again in another work folder."
            )
        return None

    def _restore(self, step, like, about):
        wanted = flatten(like)
        self._check_shapes(step, about["shapes"], _shapes(wanted))
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
        how = ocp.args.Composite(arrays=ocp.args.StandardRestore(abstract))
        found = self._manager.restore(step, args=how)["arrays"]
        if digest(found) != about["digest"]:
            raise OSError("its arrays are not those that were written")
        leaves = [found[name] for name in wanted]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _check_shapes(self, step, stored, wanted):
        for name in sorted({**stored, **wanted}):
            if stored.get(name) != wanted.get(name):
                raise UserError(
                    f"{name} has shape {stored.get(name, 'none')} in checkpoint "
                    f"{self.folder / str(step)} and {wanted.get(name, 'none')} in this run; was "
                    "the store or the config changed after training? Use another work folder."
                )

    def drop_after(self, step: int) -> None:
        """Deletes checkpoints of later steps: damaged ones that the run will write again."""
        for later in self.steps():
            if later > step:
                self._manager.delete(later)

    def wait(self) -> None:
        """Returns when everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is on disk and lets go of the folder."""
        try:
            self._manager.close()
        finally:
            sys.unraisablehook = self._show_unraisable

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:  # the rest of a failed save has nothing to add to its error
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            time.sleep(0.2)
        try:
            self.close()
        except Exception:
            if kind is None:  # else the first error says it
                raise

    def _ignore_stragglers(self, unraisable) -> None:
        """Keeps quiet about Orbax's other files when one has failed: their event loop is closed."""
        if "Event loop is closed" not in str(unraisable.exc_value):
            self._show_unraisable(unraisable)


def check_mice(trained: Mapping[str, Mapping], present: Mapping[str, Mapping]) -> None:
    """UserError unless the stores at hand are those that a checkpoint was trained on.

    Both: {mouse: {"neurons": count, "fingerprint": of its store}}. A checkpoint that was imported
    without a store has the fingerprint "" and takes any store with as many neurons.
    """
    for mouse in {**trained, **present}:
        before, now = trained.get(mouse), present.get(mouse)
        unknown = before is not None and now is not None and not before["fingerprint"]
        if before != now and not (unknown and before["neurons"] == now["neurons"]):
            raise UserError(
                f"mouse {mouse}: the checkpoint was trained on {_described(before)}, and now there "
                f"is {_described(now)}; was the store rebuilt? Use that store again, or another "
                "--workdir."
            )


def _described(mouse: Mapping | None) -> str:
    if mouse is None:
        return "no such mouse"
    return f"one of {mouse['neurons']} neurons (store {mouse['fingerprint'][:12] or 'not known'})"


def _remove_unfinished(folder: Path) -> None:
    """Removes what a killed run was still writing: all that is not named by a step."""
    for path in folder.glob("*"):
        if path.is_dir() and not path.name.isdigit():
            shutil.rmtree(path)


def _shapes(leaves: dict[str, Any]) -> dict[str, list[int]]:
    return {name: list(leaf.shape) for name, leaf in leaves.items()}
