"""Where the published code computes, and what time it is when it has; runs beside torch.

On the first NVIDIA card if torch can use it, else on the CPU. A card works on after a function has
returned, so `now` waits for it, at the beginning of what is timed and at its end.
"""

import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAME = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"


def now() -> float:
    """Seconds of a clock, once all that was asked for is done."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def there(arrays: tuple) -> tuple:
    """The same named tuple of tensors on that device."""
    return type(arrays)(*(each.to(DEVICE) for each in arrays))
