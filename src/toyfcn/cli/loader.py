"""Hydra's config loader, with what has to hold for every composed config."""

from __future__ import annotations

import importlib.util
import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hydra._internal import hydra as hydra_internal
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_search_path import ConfigSearchPath, SearchPathElement
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig

from toyfcn.cli import CONF
from toyfcn.cli.allowlist import refuse_untrusted
from toyfcn.cli.typed_text import keep_text

PACKAGES = "toyfcn.configs"  # the group of entry points by which packages offer configs


def own_folders() -> list[tuple[str, Path]]:
    """Return whose folders of configs Hydra looks into beside toyfcn's, without being asked to.

    They are those of the variable TOYFCN_CONF (separated as in PATH), and of installed packages
    with an entry point in the group ``toyfcn.configs``, whose value is a package that holds them.

    Raises:
        ValueError: a folder or package is not there.
    """
    found = []
    for text in filter(None, os.environ.get("TOYFCN_CONF", "").split(os.pathsep)):
        found.append((f"TOYFCN_CONF={text}", Path(text).expanduser().absolute()))
    for point in entry_points(group=PACKAGES):
        package = importlib.util.find_spec(point.value)
        places = list(package.submodule_search_locations or []) if package else []
        if not places:
            raise ValueError(f"{point.name}, an installed package, has no configs in {point.value}")
        found += [(point.name, Path(place)) for place in places[:1]]
    for provider, folder in found:
        if not folder.is_dir():
            raise ValueError(f"{provider}: {folder} is not a folder")
    return found


class CheckingLoader(ConfigLoaderImpl):
    """Refuses code that is not permitted and files that have no effect; keeps texts as they stand.

    Launchers hand it to their processes, so every job of a sweep is checked too.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        path = config_search_path.get_path()
        if str(CONF) not in [element.path for element in path]:  # with --config-path
            path.insert(-1, SearchPathElement("toyfcn", str(CONF)))  # the schema comes last
        for provider, folder in own_folders():
            path.insert(-1, SearchPathElement(provider, str(folder)))
        super().__init__(config_search_path)
        self.command, self.refused = "", ""

    def load_configuration(self, config_name: str | None, *args: Any, **kwargs: Any) -> DictConfig:
        """Compose, then check.

        Raises:
            ValueError: naming what is refused.
        """
        self.command, self.refused = str(config_name), ""
        try:
            composed = super().load_configuration(config_name, *args, **kwargs)
        except MissingConfigException as error:
            group = re.match(r"hydra/\w+|\w+(?=/)", str(error.missing_cfg_file))
            error.options = self.choices(group[0]) if group else None
            raise
        except HydraException:
            if self.refused:
                raise ValueError(self.refused) from None
            raise
        if self.refused:
            raise ValueError(self.refused)
        refuse_untrusted(composed)
        if composed.hydra.job.chdir:
            raise ValueError(
                "hydra.job.chdir=true is switched off: paths such as data.root would be looked for "
                "in the run's folder"
            )
        return composed

    def choices(self, group: str, prefix: str = "") -> list[str]:
        """Return the choices of a group, own ones and those in folders below included."""
        place = f"{group}/{prefix}".rstrip("/")
        here = [prefix + name for name in self.repository.get_group_options(place)]
        below = self.repository.get_group_options(place, ObjectType.GROUP)
        return here + [
            name for folder in below for name in self.choices(group, f"{prefix}{folder}/")
        ]

    def _load_single_config(self, default: Any, repo: Any) -> Any:
        """Read a file of the defaults list: of several with one name, the first."""
        found = super()._load_single_config(default, repo)
        name = f"{default.config_path.removesuffix('.yaml')}.yaml"
        folders = [Path(source.path) for source in repo.get_sources() if source.scheme() == "file"]
        own = [folder / name for folder in folders if folder != CONF and (folder / name).is_file()]
        read = Path(found.path.removeprefix("file://"), name)
        if read in own:
            try:
                keep_text(found.config, read, default.package, self.command)
            except ValueError as error:
                self.refused = f"in {name}: {error}"
        for file in own:
            if file != read and not (read.is_file() and file.read_bytes() == read.read_bytes()):
                first = f"{read} comes first" if read in own else f"toyfcn has a {name} of its own"
                self.refused = f"{file} is not used: {first}, so give yours another name"
        return found


def install() -> None:
    """Let Hydra compose through ``CheckingLoader`` from now on."""
    if not hasattr(hydra_internal, "ConfigLoaderImpl"):  # no assert: it must hold under python -O
        raise RuntimeError(
            "this version of Hydra composes otherwise: its configs cannot be checked"
        )
    hydra_internal.ConfigLoaderImpl = CheckingLoader
