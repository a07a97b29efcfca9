"""toyfcn-data draw: a shapes world of any size."""

from __future__ import annotations

from pathlib import Path

from toyfcn.config.data import ShapesConfig
from toyfcn.config.data_commands import DataCommandConfig
from toyfcn.data.datasets import draw_world
from toyfcn.data.tools.command_line import data_options
from toyfcn.files import write_errors


def run(config: DataCommandConfig) -> int:
    """Draw a shapes world and say how to train on it; return 0.

    Raises:
        ValueError: another data set is chosen, or the folder holds something else.
    """
    data = config.data
    if not isinstance(data, ShapesConfig):
        raise ValueError(f"draw makes shapes worlds, not data={data.name}: set data=shapes")
    folder = Path(data.root)
    existed = (folder / "world.json").is_file()
    with write_errors(f"draw into {folder}"):
        draw_world(data)
    counts = f"{data.train_images} + {data.val_images} + {data.test_images}"
    print(
        f"{folder} {'holds this world already' if existed else 'is drawn'}: {counts} photos "
        f"(train, val, test) of {data.size[1]}x{data.size[0]} pixels"
    )
    default = ShapesConfig()
    settings = {key: getattr(data, key) for key in ShapesConfig.__annotations__}
    chosen = {key: value for key, value in settings.items() if value != getattr(default, key)}
    print(f"train on it: toyfcn-train {data_options('shapes', chosen)}")
    return 0
