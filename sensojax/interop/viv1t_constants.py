"""The arrays of a published ViV1T that follow from its settings, which PyTorch asks for as well.

In: a model, and what its mice are called there; out: {name: array}: scales of attention, the angles
of rotary codes, tables of sines, weights of penalties (0). They also tell another reader, ours
among them, what the weights do not: how wide a head is, and which position codes there are.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from sensojax.models import outputs, rotary, token_places
from sensojax.models.cores import viv1t2023
from sensojax.models.encoder import Encoder
from sensojax.models.readouts import attention
from sensojax.models.transformer import Parallel, Stack

Named = Iterator[tuple[str, np.ndarray]]
LONGEST = 300  # frames of their tables of sines, whatever the model's longest clip is
LINEAR_ABOVE = 20  # where their softplus becomes a line


def of(model: Encoder, mice: Mapping[str, str], frame_size: tuple[int, int]) -> dict:
    """mice: {mouse: its name there}; frame_size: (height, width) of videos, pixels."""
    found, core = {}, model.core
    of_2023 = isinstance(core, viv1t2023.Core)
    grid = core.map_size(*frame_size)
    prefix = "core.vivit.tokenizer." if of_2023 else "core.tokenizer."
    found |= _tables(core.places, prefix, grid, core.num_features)
    found["core.vivit.reg_scale"] = np.float32(0)
    for axis, stack in (("spatial", core.in_space), ("temporal", core.in_time)):
        turned = getattr(core.places, "space_code" if axis == "spatial" else "time_code")
        here = f"core.vivit.{axis}_transformer.blocks."
        found |= dict(_blocks(stack, here, of_2023, turned == "rotary"))
    for mouse, name in mice.items():
        found |= dict(_of_mouse(model, mouse, name, of_2023))
    if model.shared is not None:
        code = attention.position_code(*grid, core.num_features)
        found["readouts.position_embedding.twod_pe"] = code.reshape(-1, core.num_features).T
    return found


def _tables(places, prefix: str, grid: tuple[int, int], features: int) -> dict:
    found = {}
    if places.space_code == "sines":
        table = token_places.sines(grid[0] * grid[1], features)
        found[f"{prefix}spatial_pos_embedding.pos_encoding"] = table[None, None]
    if places.time_code == "sines":
        table = token_places.sines(LONGEST, features)
        found[f"{prefix}temporal_pos_encoding.pos_encoding"] = table[None, :, None]
    return found


def _blocks(stack: Stack, prefix: str, of_2023: bool, turned: bool) -> Named:
    for number, block in enumerate(stack.blocks):
        here, settings = f"{prefix}{number}.", block.settings
        if isinstance(block, Parallel):
            yield f"{here}scale", np.float32(settings.head_width**-0.5)
        else:
            yield f"{here}attention.scale", np.float32(settings.features**-0.5)
        if of_2023:
            for branch in (1, 2):
                yield f"{here}drop_path{branch}.keep_prob", np.float32(1 - settings.drop_path)
        if turned:
            rates, bases = rotary.rates_and_bases(settings.head_width)
            yield f"{here}rotary_position_embedding.inv_freq", rates
            yield f"{here}rotary_position_embedding.scale", bases


def _of_mouse(model: Encoder, mouse: str, name: str, of_2023: bool) -> Named:
    yield f"readouts.{name}.reg_scale", np.float32(0)
    if mouse in model.shifters:
        yield f"shifters.{name}.reg_scale", np.float32(0)
    if isinstance(model.readouts[mouse], attention.Readout):
        yield f"readouts.{name}.scale", np.float32(model.core.num_features**-0.5)
        yield f"readouts.{name}.T", np.float32(1)
    if of_2023:
        return
    if isinstance(model.output[mouse], outputs.Softplus):
        yield f"output_activation.{name}.threshold", np.int64(LINEAR_ABOVE)
    elif isinstance(model.output[mouse], outputs.Elu):
        yield f"output_activation.{name}.one", np.float32(1)
