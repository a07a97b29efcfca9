"""toyfcn-data download: fetch a VOC year."""

from __future__ import annotations

from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.data.tools.command_line import data_options
from toyfcn.data.tools.download import download_voc


def run(config: DataCommandConfig) -> int:
    """Fetch a VOC year and say how to go on; return 0."""
    print(download_voc(config))
    chosen = data_options(config.data.name, {"root": config.data.root})
    print(f"check it:    toyfcn-data check {chosen}\ntrain on it: toyfcn-train {chosen}")
    return 0
