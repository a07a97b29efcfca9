"""The data options as a config made in Python, in Hydra and in old files has them."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from toyfcn.config.data import FolderConfig, VOCConfig, without_removed
from toyfcn.config.data_options import DataConfig


@pytest.mark.parametrize("kind", [DataConfig, VOCConfig])
@pytest.mark.parametrize(("variable", "root"), [(None, "data"), ("/photos", "/photos")])
def test_a_config_made_in_python_knows_its_root(
    kind: type[DataConfig], variable: str | None, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOYFCN_VOC", raising=False)
    if variable is not None:
        monkeypatch.setenv("TOYFCN_VOC", variable)
    assert kind().root == root
    assert kind(root="elsewhere").root == "elsewhere"
    assert FolderConfig().root == "."


def test_hydra_and_stored_configs_keep_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run stores is an interpolation, so that it is resolved where the run goes on."""
    schema = OmegaConf.structured(VOCConfig)
    assert OmegaConf.to_container(schema)["root"] == "${oc.env:TOYFCN_VOC,data}"
    stored: Any = OmegaConf.create({"root": "${oc.env:TOYFCN_VOC,data}", "year": 2012})
    monkeypatch.setenv("TOYFCN_VOC", "/photos")
    config = OmegaConf.to_object(OmegaConf.merge(schema, stored))
    assert isinstance(config, VOCConfig)
    assert (config.root, config.year) == ("/photos", 2012)


def test_options_that_no_longer_exist_are_left_out() -> None:
    assert without_removed({"year": 2012, "device_transforms": True}) == {"year": 2012}
