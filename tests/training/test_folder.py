"""A work folder belongs to one config and to one process at a time."""

import json
import subprocess
import sys

import pytest

from sensojax import writing
from sensojax.errors import UserError
from sensojax.training import folder

CONFIG = {"seed": 0, "data": {"folder": "a", "batch_size": 8}, "core": {"channels": (4, 8)}}


def with_checkpoint(workdir):
    (workdir / "checkpoints" / "5").mkdir(parents=True)
    return workdir


def claim(workdir, config, **how):
    with folder.claimed(workdir, config, **how):
        pass


def test_new_folder_says_whose_it_is(tmp_path):
    claim(tmp_path / "deep" / "run", CONFIG)
    assert json.loads((tmp_path / "deep/run/config.json").read_text()) == writing.plain(CONFIG)


def test_same_config_continues(tmp_path):
    claim(with_checkpoint(tmp_path), CONFIG)
    claim(tmp_path, CONFIG)


def test_every_difference_of_another_config_is_named(tmp_path):
    claim(with_checkpoint(tmp_path), CONFIG)
    other = {"seed": 1, "data": {"folder": "a", "batch_size": 4}, "core": {"channels": (4, 9)}}
    with pytest.raises(UserError) as refused:
        claim(tmp_path, other)
    for difference in (
        "seed was 0 and is 1",
        "data.batch_size was 8 and is 4",
        "core.channels was [4, 8] and is [4, 9]",
    ):
        assert difference in str(refused.value)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_setting_that_came_or_went_is_a_difference(tmp_path):
    claim(with_checkpoint(tmp_path), CONFIG)
    with pytest.raises(UserError, match="shifter was None and is x"):
        claim(tmp_path, CONFIG | {"shifter": "x"})


def test_settings_that_change_no_result_may_change(tmp_path):
    claim(with_checkpoint(tmp_path), CONFIG)
    claim(tmp_path, CONFIG | {"data": {"folder": "moved", "batch_size": 8}})


def test_run_without_a_checkpoint_gives_way(tmp_path):
    """A first attempt with a wrong setting must not cost a folder name."""
    claim(tmp_path, CONFIG | {"seed": 3})
    claim(tmp_path, CONFIG)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_report_is_kept_from_other_configs_even_without_checkpoints(tmp_path):
    claim(tmp_path, CONFIG)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UserError, match="another config"):
        claim(tmp_path, CONFIG | {"seed": 3})


def test_unreadable_config_of_a_run_is_refused(tmp_path):
    (with_checkpoint(tmp_path) / "config.json").write_text('{"seed": ')
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        claim(tmp_path, CONFIG)


def test_second_run_in_a_folder_is_refused_while_the_first_works(tmp_path):
    program = (
        "from sensojax.training import folder; from sensojax.errors import UserError\n"
        f"try:\n    folder.claimed({str(tmp_path)!r}, {CONFIG!r}).__enter__()\n"
        "except UserError as error:\n    print(error)"
    )
    with folder.claimed(tmp_path, CONFIG):
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"another run at work in {tmp_path} (process" in said.stdout, said.stderr
    claim(tmp_path, CONFIG)


def test_process_that_does_not_lead_writes_nothing(tmp_path):
    claim(tmp_path / "run", CONFIG, writes=False)
    assert not (tmp_path / "run").exists()


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.json"
    writing.write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        writing.write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
