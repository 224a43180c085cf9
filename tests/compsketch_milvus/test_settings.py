"""A flag beats the environment, which beats the file, which beats the default; and errors in words, without secrets."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest
from pydantic import SecretStr

from compsketch_milvus import settings as settings_module
from compsketch_milvus.errors import SettingsError
from compsketch_milvus.settings import VARIABLES, default_uri, load_settings


@pytest.fixture
def file(monkeypatch, tmp_path) -> Path:
    """The settings file, in a folder of the test's."""
    path = tmp_path / "config.env"
    monkeypatch.setattr(settings_module, "config_file", lambda: path)
    return path


def test_default(file) -> None:
    loaded = load_settings()
    assert loaded.uri == default_uri() == str(Path(platformdirs.user_data_dir("compsketch")) / "photos.db")
    assert (loaded.token, loaded.db_name, loaded.device) == (None, None, None)
    assert (loaded.encoder, loaded.collection) == ("default", "photos")
    assert loaded.runtime == "auto"


def test_file_beats_default(file) -> None:
    file.write_text("# mine\nCOMPSKETCH_COLLECTION=from_file\nMILVUS_URI='file ü.db'\n", encoding="utf-8")
    assert load_settings().collection == "from_file"
    assert load_settings().uri == "file ü.db"
    assert load_settings().encoder == "default"


def test_environment_beats_file(file, monkeypatch) -> None:
    file.write_text("COMPSKETCH_COLLECTION=from_file\n")
    monkeypatch.setenv("COMPSKETCH_COLLECTION", "from_environment")
    assert load_settings().collection == "from_environment"


def test_flag_beats_environment(file, monkeypatch) -> None:
    file.write_text("COMPSKETCH_COLLECTION=from_file\n")
    monkeypatch.setenv("COMPSKETCH_COLLECTION", "from_environment")
    assert load_settings(collection="from_flag").collection == "from_flag"
    assert load_settings(collection=None).collection == "from_environment"


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_every_setting_has_its_variable(file, monkeypatch, name) -> None:
    value = {"device": "cuda:1", "runtime": "torch", "tracing": "1"}.get(name, "some_value")
    other = {"user": "password", "password": "user"}.get(name)  # they go together
    if other:
        monkeypatch.setenv(VARIABLES[other][0], "other")

    def plain(loaded):
        if loaded is True:
            return "1"
        return loaded.get_secret_value() if isinstance(loaded, SecretStr) else loaded

    monkeypatch.setenv(VARIABLES[name][0], value)
    assert plain(getattr(load_settings(), name)) == value
    monkeypatch.delenv(VARIABLES[name][0])
    assert plain(getattr(load_settings(**{name: value}), name)) == value


def test_an_empty_variable_counts_as_not_set(file, monkeypatch) -> None:
    monkeypatch.setenv("COMPSKETCH_COLLECTION", "")
    assert load_settings().collection == "photos"


def test_a_misspelt_variable_suggests_the_near_one(file, monkeypatch) -> None:
    monkeypatch.setenv("COMPSKETCH_COLECTION", "x")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == (
        "COMPSKETCH_COLECTION in the environment is no setting; did you mean COMPSKETCH_COLLECTION?"
    )


def test_a_variable_like_none_lists_those_there_are(file, monkeypatch) -> None:
    monkeypatch.setenv("COMPSKETCH_Q", "x")
    with pytest.raises(SettingsError, match="known are COMPSKETCH_COLLECTION, COMPSKETCH_DEVICE, COMPSKETCH_ENCODER"):
        load_settings()


def test_a_misspelt_line_of_the_file(file) -> None:
    file.write_text("COMPSKETCH_DEVISE=cpu\n")
    with pytest.raises(SettingsError, match=r"COMPSKETCH_DEVISE in .*config\.env .* did you mean COMPSKETCH_DEVICE\?"):
        load_settings()


def test_a_file_that_is_no_text(file) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"config\.env: cannot be read as UTF-8"):
        load_settings()


def test_an_error_names_variable_value_and_type(file, monkeypatch) -> None:
    monkeypatch.setenv("COMPSKETCH_DEVICE", "tpu")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == "COMPSKETCH_DEVICE: 'tpu' does not fit; it has to be cpu, cuda or cuda:N"


@pytest.mark.parametrize("value", ["tpu", "Torch", "onnx"])
def test_a_runtime_that_is_none(file, monkeypatch, value) -> None:
    monkeypatch.setenv("COMPSKETCH_RUNTIME", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == f"COMPSKETCH_RUNTIME: {value!r} does not fit; it has to be auto, torch or openvino"
    assert load_settings(runtime="openvino").runtime == "openvino"  # a flag beats what is wrong in the environment


def test_an_error_of_a_flag_names_the_flag(file) -> None:
    with pytest.raises(SettingsError, match=r"^collection=: 'a b' does not fit; it has to be letters, digits"):
        load_settings(collection="a b")


def test_an_unknown_flag(file) -> None:
    with pytest.raises(SettingsError, match=r"no setting is called \['url'\]"):
        load_settings(url="x")


def test_a_token_is_never_shown(file, monkeypatch) -> None:
    monkeypatch.setenv("MILVUS_TOKEN", "root:hunter2")
    monkeypatch.setenv("COMPSKETCH_DEVICE", "tpu")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)
    monkeypatch.delenv("COMPSKETCH_DEVICE")
    assert "hunter2" not in repr(load_settings())
    with pytest.raises(SettingsError, match=r"^token=: its value does not fit") as refused:
        load_settings(token=["hunter3"])
    assert "hunter3" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_user_and_password_are_a_token(file, monkeypatch) -> None:
    monkeypatch.setenv("MILVUS_USER", "ada")
    monkeypatch.setenv("MILVUS_PASSWORD", "with:colon")
    assert load_settings().token.get_secret_value() == "ada:with:colon"
    assert load_settings(token="a flag").token.get_secret_value() == "a flag"
    assert "with:colon" not in repr(load_settings())


@pytest.mark.parametrize(("there", "missing"), [("MILVUS_USER", "MILVUS_PASSWORD"), ("MILVUS_PASSWORD", "MILVUS_USER")])
def test_half_a_login(file, monkeypatch, there, missing) -> None:
    monkeypatch.setenv(there, "hunter2")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == f"{there} is set and {missing} is not: set both, or MILVUS_TOKEN"


def test_two_logins(file, monkeypatch) -> None:
    file.write_text("MILVUS_USER=ada\nMILVUS_PASSWORD=hunter2\n")
    monkeypatch.setenv("MILVUS_TOKEN", "hunter3")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == "MILVUS_TOKEN and MILVUS_USER are both set, two ways to log in: unset one of them"


def test_a_user_with_a_colon_would_be_cut_at_it(file, monkeypatch) -> None:
    """And the password may be behind it."""
    monkeypatch.setenv("MILVUS_USER", "ada:hunter2")
    monkeypatch.setenv("MILVUS_PASSWORD", "hunter2")
    with pytest.raises(SettingsError, match=r"MILVUS_USER: its value does not fit; .*without a colon") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_the_file_lies_in_the_users_configuration_folder() -> None:
    folder = Path(platformdirs.user_config_dir("compsketch"))
    assert settings_module.Settings.model_config.get("env_file") is None  # given at each call, not at import
    assert folder.name == "compsketch"
