"""A TrialStore in memory, with known numbers, for tests of the pipeline alone."""

from types import SimpleNamespace

import numpy as np

FIELDS = ("video", "responses", "behavior", "pupil_center")


def smooth(rng, *shape):
    return rng.uniform(1.0, 2.0, size=shape)


class MemoryStore:
    """Trials of given lengths; every number of a trial tells its trial and frame."""

    def __init__(self, mouse="m", lengths=(9, 12, 10), official=None, neurons=5, seed=0):
        rng = np.random.default_rng(seed)
        self.mouse, self.height, self.width = mouse, 4, 6
        self.video_dtype = np.dtype(np.uint8)
        self.neurons = range(neurons)
        lengths = np.array(lengths)
        self.trials = SimpleNamespace(
            index=np.arange(len(lengths)),
            num_frames=lengths,
            official_frames=lengths if official is None else np.array(official),
            has_responses=np.ones(len(lengths), dtype=bool),
        )
        self.max_frames = int(lengths.max())
        self.reads = []
        self.content = [self._trial(row, t, neurons, rng) for row, t in enumerate(lengths)]
        self.statistics = SimpleNamespace(
            official=self._official(rng, neurons), per_neuron=self._per_neuron(rng, neurons)
        )

    def _trial(self, row, time, neurons, rng):
        return {
            "video": rng.integers(0, 256, (time, self.height, self.width), dtype=np.uint8),
            "responses": (row * 100 + np.arange(time)[:, None] + np.zeros(neurons)).astype("f4"),
            "behavior": rng.normal(size=(time, 2)).astype(np.float32),
            "pupil_center": rng.normal(size=(time, 2)).astype(np.float32),
        }

    def _official(self, rng, neurons):
        time = self.max_frames
        shapes = {
            "videos": (time, self.height, self.width),
            "responses": (time, neurons),
            "behavior": (time, 2),
            "pupil_center": (time, 2),
        }
        return {
            k: {"mean": smooth(rng, *shape), "std": smooth(rng, *shape)}
            for k, shape in shapes.items()
        }

    def _per_neuron(self, rng, neurons):
        shapes = {"videos": (), "responses": (neurons,), "behavior": (2,), "pupil_center": (2,)}
        return {
            k: {"mean": smooth(rng, *shape), "std": smooth(rng, *shape)}
            for k, shape in shapes.items()
        }

    def read(self, row, start=0, stop=None):
        assert 0 <= row < len(self.content)
        self.reads.append((row, start, stop))
        return {k: v[start:stop] for k, v in self.content[row].items()}

    def empty(self, shape):
        of = self.content[0]
        return {k: np.full((*shape, *v.shape[1:]), 77, v.dtype) for k, v in of.items()}

    def read_into(self, row, start, stop, arrays):
        recorded = self.read(row, start, stop)

        def wait():
            for name, array in arrays.items():
                array[:] = recorded[name]

        return wait
