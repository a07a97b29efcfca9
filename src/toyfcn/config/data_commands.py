"""What toyfcn-data takes: see ``commands.py``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from toyfcn.config.data_options import DataConfig
from toyfcn.config.option import Checked, as_list, option


@dataclass
class DataCommandConfig(Checked):
    """Check every file of a data set, plan a training, draw shapes, or download PASCAL VOC.

    toyfcn-data check data=voc2007 data.root=FOLDER
    toyfcn-data plan data=voc2007 data.root=FOLDER minutes=10
    toyfcn-data draw data.root=world data.train_images=5000
    toyfcn-data download data=voc2012 data.root=FOLDER
    """

    data: DataConfig = field(default_factory=DataConfig)
    splits: list[str] | None = option(None, "check: lists to read, null: every list on disk")
    report: str | None = option(
        "data-report.json", "check: file for the JSON report, null: none", path=True
    )
    workers: int | None = option(
        None, "check: files read at once, null: as many as CPU cores", low=1, high=64
    )
    minutes: float = option(
        10, "plan: minutes that the training may take on this machine, scoring included", low=0.1
    )
    out: str = option("conf/experiment/planned.yaml", "plan: experiment file to write", path=True)
    mirrors: list[str] | None = option(
        None, "download: URLs of folders or of archives, tried in order; null: the official ones"
    )
    md5: list[str] | None = option(
        None, "download: checksum of each archive, null: the published ones"
    )
    keep: bool = option(False, "download: keep the archive beside what was unpacked from it")

    def refuse_others(self, word: str) -> None:
        """Check that no option is set that only another word has, as its meaning says.

        Raises:
            ValueError: naming it.
        """
        for item in dataclasses.fields(self):
            owner, colon, _ = item.metadata.get("meaning", "").partition(": ")
            if colon and owner != word and getattr(self, item.name) != item.default:
                raise ValueError(f"{item.name}= has no effect here: it is of toyfcn-data {owner}")


@dataclass
class ConvertConfig(Checked):
    """Turn annotations into photos, palette masks and a data config that trains at once.

    toyfcn-data convert from=labelme source=FOLDER out=street
    toyfcn-data convert from=coco source=[train.json,val.json] photos=FOLDER out=street
    toyfcn-data convert from=yolo source=data.yaml out=street
    """

    from_: str | None = option(
        None,
        "format: labelme's JSON files, COCO's JSON, CVAT for images 1.1, Label Studio's JSON, YOLO "
        "segmentation (required)",
        choices=("labelme", "coco", "cvat", "labelstudio", "yolo"),
    )
    source: Any = option(
        None,
        "file or folder of the annotations (required); or a list of these: where they are called "
        "after train, val and test, they become lists",
        path=True,
    )
    photos: Any = option(
        None,
        "folder that the annotations name photos from, or a list, one for each source; null: that "
        "of the annotations",
        path=True,
    )
    out: str = option(
        "converted",
        "folder to write, a new or empty one: images/, masks/, conf/data/NAME.yaml",
        path=True,
    )
    name: str | None = option(None, "name of the data set, as in data=NAME; null: that of out")
    classes: Any = option(
        None,
        "classes from label 1 on, as a list or a text file with one a line; null: in the format's "
        "order, or sorted where it has none",
        path=True,
    )
    void: list[str] = option(
        [], "labels that are neither learned nor scored; labelme's __ignore__ never is"
    )
    crowd: str = option(
        "void", "what COCO's crowds (iscrowd: 1) become", choices=("void", "class", "background")
    )
    empty: bool = option(True, "keep photos without a shape, as background; false: leave them out")
    link: bool = option(
        False, "hard links in place of copies of the photos: no space, but one file with two names"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("source", "photos", "classes"):
            if not all(isinstance(item, str | None) for item in as_list(getattr(self, key))):
                raise ValueError(f"{key}={getattr(self, key)} is no text, nor a list of texts")
