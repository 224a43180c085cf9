"""What stages leave on disk, and what they refuse of what others left."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from encoders.errors import DataError
from encoders.training.checkpoints import differences, digest, load_result, load_state, plain, save_result, save_state
from encoders.training.data import read_training_set


@dataclass(frozen=True)
class Inner:
    width: int = 3
    sides: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Config:
    recipe: str = "mine"
    inner: Inner = field(default_factory=Inner)


def test_differences_name_the_values_however_deep():
    other = Config("theirs", Inner(4))
    assert list(differences(plain(other), plain(Config()))) == ["recipe 'theirs', not 'mine'", "inner.width 4, not 3"]
    assert list(differences(plain(Config()), plain(Config()))) == []
    assert list(differences({}, {"batch": 3})) == ["batch None, not 3"]


def test_a_digest_changes_with_every_part(data_folder):
    torch.manual_seed(0)
    layer, data = nn.Linear(2, 2), read_training_set(data_folder)
    parts = [Config(), [1, 2], layer, data]
    whole = digest(*parts)
    assert whole == digest(Config(), (1, 2), layer, read_training_set(data_folder))
    changed = nn.Linear(2, 2)
    moved = replace(data, boxes=[data.boxes[0] + 0.01, *data.boxes[1:]])
    for place, other in enumerate((Config(inner=Inner(4)), [2, 1], changed, moved)):
        assert digest(*(other if i == place else part for i, part in enumerate(parts))) != whole
    elsewhere = replace(data, photos=[Path("/elsewhere") / path.name for path in data.photos])
    assert digest(elsewhere) == digest(data)  # a folder may move


def test_no_checkpoint_means_from_the_start(tmp_path):
    model = nn.Linear(2, 2)
    before = model.weight.clone()
    assert load_state(tmp_path / "none.pt", Config(), model=model) == {}
    assert torch.equal(model.weight, before)


def test_a_run_that_began_in_full_precision_goes_on_in_half(tmp_path):
    off, on = (torch.amp.GradScaler("cpu", init_scale=8.0, enabled=enabled) for enabled in (False, True))
    save_state(tmp_path / "run.pt", Config(), {"epoch": 1}, scaler=off)
    assert load_state(tmp_path / "run.pt", Config(), scaler=on) == {"epoch": 1}
    assert on.get_scale() == 8


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path):
    path, first = tmp_path / "run.pt", nn.Linear(2, 2)
    save_state(path, Config(), {"epoch": 3}, model=first)

    class Full:
        def state_dict(self) -> dict:
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save_state(path, Config(), {"epoch": 4}, model=nn.Linear(2, 2), broken=Full())
    restored = nn.Linear(2, 2)
    assert load_state(path, Config(), model=restored) == {"epoch": 3}
    assert torch.equal(restored.weight, first.weight)
    save_state(path, Config(), {"epoch": 5}, model=first)
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]  # nothing half-written is left beside it


def test_a_result_is_read_back_by_its_own_configuration_only(tmp_path):
    path, layer = tmp_path / "objects.pt", nn.Linear(2, 2)
    with pytest.raises(DataError, match=r"objects\.pt: no such result; run `compsketch train objects`"):
        load_result(path, Config())
    save_result(path, Config(), layer.state_dict(), vocabulary=["cat"])
    stored = load_result(path, Config())
    assert stored["vocabulary"] == ["cat"]
    assert torch.equal(stored["weights"]["weight"], layer.weight)
    with pytest.raises(
        DataError, match=r"objects\.pt was made by another configuration \(recipe 'mine', not 'paper'\)"
    ):
        load_result(path, Config("paper"))


def test_a_damaged_file_is_told_in_words(tmp_path):
    for content in (b"", b"no checkpoint", b"\x80\x02}q"):
        (tmp_path / "objects.pt").write_bytes(content)
        with pytest.raises(DataError, match=r"objects\.pt is damaged"):
            load_result(tmp_path / "objects.pt", Config())
