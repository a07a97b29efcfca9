"""Files that other tools have written, against masks that they drew themselves.

In exports/: three photos with four overlapping shapes each, as datumaro 1.13 exports them for CVAT
and COCO, and Ultralytics 8.4 (``convert_coco(use_segments=True)``) for YOLO. The masks in truth/
are datumaro's own rasterization of its CVAT file.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from toyfcn.config.data_commands import ConvertConfig
from toyfcn.data.tools import run_convert

EXPORTS = Path(__file__).with_name("exports")
CLASSES = ["cat", "dog", "bird"]


@pytest.mark.parametrize(
    ("format_", "source"),
    [("cvat", "cvat"), ("coco", "coco/instances_train.json"), ("yolo", "yolo/data.yaml")],
)
def test_exports_of_other_tools_become_the_masks_they_mean(
    format_: str, source: str, tmp_path: Path
) -> None:
    exports = shutil.copytree(EXPORTS, tmp_path / "exports")
    shutil.copytree(exports / "images", exports / "yolo" / "images" / "train")
    content = {"train": "images/train", "names": CLASSES}
    (exports / "yolo" / "data.yaml").write_text(yaml.safe_dump(content))
    photos = None if format_ == "yolo" else str(exports / "images")
    config = ConvertConfig(
        from_=format_, source=str(exports / source), photos=photos, out=str(tmp_path / "out")
    )
    assert run_convert.run(config) == 0
    for truth in sorted((EXPORTS / "truth").iterdir()):
        with Image.open(truth) as wanted, Image.open(tmp_path / "out/masks" / truth.name) as made:
            assert (np.asarray(made) == np.asarray(wanted)).all(), truth.name
