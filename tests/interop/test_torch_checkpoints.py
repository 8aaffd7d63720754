"""Reading what torch.save wrote: every type, views, shared storages, and what is around them."""

import jax.numpy as jnp
import numpy as np
import pytest

from sensojax.errors import UserError
from sensojax.interop import state_dicts, torch_checkpoints
from tests import real_data
from tests.interop import torch_files as files

RNG = np.random.default_rng(0)
ARRAYS = {
    "float32": RNG.normal(size=(3, 4)).astype(np.float32),
    "float64": RNG.normal(size=5),
    "float16": RNG.normal(size=(2, 2)).astype(np.float16),
    "bfloat16": RNG.normal(size=(2, 3)).astype(jnp.bfloat16),
    "int64": RNG.integers(-9, 9, (4, 1)),
    "int32": np.int32([[1, -2]]),
    "uint8": np.uint8([0, 255]),
    "bool": np.array([True, False, True]),
    "complex64": np.complex64([1 + 2j]),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
}


def test_every_type_comes_back_with_its_numbers_and_its_shape(tmp_path):
    path = files.save_arrays(tmp_path / "a.pth", ARRAYS, modules=["", "core", "core.nonlin"])
    found = torch_checkpoints.load(path)
    assert found.modules == ("", "core", "core.nonlin")
    assert list(found) == list(ARRAYS)
    for name, tensor in found.items():
        array = np.asarray(tensor)
        assert (tensor.shape, tensor.dtype) == (ARRAYS[name].shape, ARRAYS[name].dtype), name
        np.testing.assert_array_equal(array, ARRAYS[name], strict=True, err_msg=name)
        assert array.size == 0 or not array.flags.writeable


def test_views_of_one_storage_show_its_own_elements(tmp_path):
    numbers = np.arange(24, dtype=np.float32)
    stored = files.storage("0", "FloatStorage", 24)
    views = {
        "whole": files.tensor(stored, (4, 6), (6, 1)),
        "turned": files.tensor(stored, (6, 4), (1, 6)),
        "middle": files.tensor(stored, (2, 3), (12, 2), offset=3),
        "last": files.tensor(stored, (), (), offset=23),
    }
    path = files.save(tmp_path / "a.pth", files.ordered(views), {"0": numbers.tobytes()})
    found = {name: np.asarray(each) for name, each in torch_checkpoints.load(path).items()}
    np.testing.assert_array_equal(found["turned"], numbers.reshape(4, 6).T)
    np.testing.assert_array_equal(found["middle"], [[3, 5, 7], [15, 17, 19]])
    assert found["last"] == 23
    assert np.shares_memory(found["whole"], found["turned"])


def test_parameters_byte_storages_and_plain_values_are_understood(tmp_path):
    three = np.float32([1, 2, 3])
    parts = (text("storage"), files.name("torch.storage", "UntypedStorage"), text("0"))
    untyped = files.several(*parts, text("cpu"), files.integer(12)) + files.PERSISTENT
    shape = (files.integer(0), files.sizes([3]), files.sizes([1]), files.FALSE, files.ordered({}))
    typed = files.call(
        files.name("torch._utils", "_rebuild_tensor_v3"),
        untyped, *shape, files.name("torch", "float32"), files.EMPTY_DICT,
    )  # fmt: skip
    parameter = files.call(
        files.name("torch._utils", "_rebuild_parameter"), typed, files.FALSE, files.ordered({})
    )
    device = files.call(files.name("torch", "device"), text("cuda"))
    saved = files.ordered(
        dict(weights=files.ordered(dict(w=parameter)), epoch=files.integer(-300), device=device)
    )
    found = torch_checkpoints.load(files.save(tmp_path / "a.pth", saved, {"0": three.tobytes()}))
    np.testing.assert_array_equal(found["weights"]["w"], three)
    assert found["epoch"] == -300
    assert found["device"] == "cuda"


def test_single_numbers_of_numpy_become_plain_ones(tmp_path):
    values = dict(best=np.float64(0.25), step=np.int64(-3), swapped=np.float32(2).astype(">f4"))
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        saved = {name: files.number(value, module) for name, value in values.items()}
        found = torch_checkpoints.load(files.save(tmp_path / "a.pth", files.ordered(saved)))
        assert found == values
        assert {type(each) for each in found.values()} == {int, float}


def text(value: str) -> bytes:
    return files.text(value)


def test_numbers_of_a_big_endian_machine_are_read_as_such(tmp_path):
    values = files.ordered(
        {
            "single": files.tensor(files.storage("0", "FloatStorage", 2), (2,), (1,)),
            "brain": files.tensor(files.storage("1", "BFloat16Storage", 2), (2,), (1,)),
        }
    )
    brain = np.array([0.5, -3], jnp.bfloat16).view(np.uint16).byteswap().tobytes()
    storages = {"0": np.array([0.5, -3], ">f4").tobytes(), "1": brain}
    path = tmp_path / "a.pth"
    files.save(path, values, storages, members={"byteorder": b"big"})
    for tensor in torch_checkpoints.load(path).values():
        np.testing.assert_array_equal(np.asarray(tensor, np.float32), [0.5, -3])


def test_weights_are_found_among_other_parts_and_without_the_words_of_wrappers(tmp_path):
    weights, average = (
        files.ordered({"module.w": files.tensor(files.storage(k, "FloatStorage", 1), (1,), (1,))})
        for k in "01"
    )
    epoch = files.integer(3)
    storages = {"0": np.float32(1).tobytes(), "1": np.float32(2).tobytes()}
    one = files.ordered(dict(epoch=epoch, model=weights))
    both = files.ordered(dict(model=weights, average=average))
    path = files.save(tmp_path / "one.pth", one, storages)
    np.testing.assert_array_equal(state_dicts.read(path).tensors["w"], [1])
    path = files.save(tmp_path / "both.pth", both, storages)
    np.testing.assert_array_equal(state_dicts.read(path, "average").tensors["w"], [2])
    with pytest.raises(
        UserError, match=r"found 2 dicts of weights .*--part with 'model' or 'average'"
    ):
        state_dicts.read(path)
    with pytest.raises(UserError, match=r"no weights under 'averag' .*did you mean 'average'"):
        state_dicts.read(path, "averag")
    path = files.save(tmp_path / "none.pth", files.ordered(dict(epoch=epoch)))
    with pytest.raises(UserError, match="found no weights"):
        state_dicts.read(path)


def test_safetensors_bring_back_names_types_shapes_and_notes(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {n: a for n, a in ARRAYS.items() if n != "complex64"} | {"turned": ARRAYS["int64"].T}
    state_dicts.write(path, arrays, {"note": "of ours"})
    found = state_dicts.read(path)
    assert found.notes == {"note": "of ours"} and found.modules is None
    assert found.shapes == {name: array.shape for name, array in arrays.items()}
    for name, tensor in found.tensors.items():
        np.testing.assert_array_equal(np.asarray(tensor), arrays[name], strict=True)
    with pytest.raises(UserError, match=r"--part x for .*, which has no parts"):
        state_dicts.read(path, "x")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"a\.safetensors is damaged"):
        state_dicts.read(path)
    with pytest.raises(UserError, match="found no file"):
        state_dicts.read(tmp_path / "b.safetensors")


@pytest.mark.parametrize(("model", "arrays"), [("sota", 39), ("ln", 31)])
def test_a_released_checkpoint_has_the_published_arrays(model, arrays):
    folder = real_data.found("sensorium2022_models")
    found = torch_checkpoints.load(folder / f"sensorium_{model}_model.pth")
    assert len(found) == arrays
    readout = "readout.26872-17-20."
    assert found[f"{readout}source_grid"].shape == (7776, 2)
    assert np.abs(np.asarray(found[f"{readout}source_grid"])).max() == 1
    batches = np.asarray(found["core.features.layer0.norm.num_batches_tracked"])
    assert batches == {"sota": 1470, "ln": 1855}[model]
    laplace = np.asarray(found["core._input_weights_regularizer.laplace.filter"])[0, 0]
    np.testing.assert_array_equal(laplace, [[0, -1, 0], [-1, 4, -1], [0, -1, 0]])
