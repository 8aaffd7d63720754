"""Core and readout of the published models by themselves; runs beside torch, in the worker.

In: a model of the kits and a batch as their loaders give it; out: features, and seconds of one pass
through a part. What lies between core and readout is said here in our words, since the published
models do it inside their `forward` (baselines 6).
"""

from collections.abc import Callable

import torch
from peer_device import now


def seconds(net: torch.nn.Module, work: Callable, backward: bool) -> float:
    """Of work(), in evaluation mode without gradients; backward: in training, and from squares."""
    net.train(backward)
    began = now()
    if backward:
        work().square().mean().backward()
    else:
        with torch.no_grad():
            work()
    taken = now() - began
    net.zero_grad(set_to_none=True)
    return taken


def features(net: torch.nn.Module, batch) -> torch.Tensor:
    """What the core makes of a batch, and the recurrence behind it: [batch*time channel h w]."""
    seen, clips = batch.videos, len(batch.videos)
    if seen.ndim == 4:  # images
        return net.core(seen)
    if net.twoD_core:
        seen = seen.transpose(1, 2)
        seen = seen.reshape(-1, *seen.shape[2:])
    seen = net.core(seen)
    if net.use_gru:
        if net.twoD_core:
            seen = seen.reshape(clips, -1, *seen.shape[1:]).transpose(1, 2)
        seen = net.gru_module(seen)
        seen = seen[-1] if isinstance(seen, list) else seen
    seen = seen.transpose(1, 2)
    return seen.reshape(-1, *seen.shape[2:])


def read(net: torch.nn.Module, mouse: str, batch, known: torch.Tensor) -> torch.Tensor:
    """What the readout makes of a batch's features, at points that the pupil shifts."""
    shift, shifters = None, getattr(net, "shifter", None)
    if shifters:
        frames = len(known) // len(batch.videos)
        pupil = batch.pupil_center[:, :, -frames:].transpose(1, 2)
        shift = shifters[mouse](pupil.reshape(-1, pupil.shape[-1]))
    return net.readout(known, data_key=mouse, shift=shift)
