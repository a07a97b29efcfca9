"""toyfcn-data convert: annotations of a labeling tool into a data set that trains at once."""

from __future__ import annotations

import re
import shlex
from importlib import resources
from pathlib import Path

from toyfcn.config.data_commands import ConvertConfig
from toyfcn.config.extras import import_extra
from toyfcn.data.tools.convert import gather, write


def run(config: ConvertConfig) -> int:
    """Convert, and say how to go on; return 0.

    Raises:
        ValueError: an option is missing, an annotation is faulty, or ``out`` is not empty.
    """
    for option, value in (("from", config.from_), ("source", config.source)):
        if not value:
            raise ValueError(f"{option}= is missing: see toyfcn-data convert --help")
    if config.from_ != "labelme":
        import_extra("pycocotools", "convert", f"from={config.from_}")
    name = config.name or re.sub(r"\W+", "_", Path(config.out).absolute().name)
    taken = (resources.files("toyfcn") / f"conf/data/{name}.yaml").is_file()
    if taken or not re.fullmatch(r"\w+", name):
        why = "is a data set of toyfcn's own" if taken else "has more than letters, digits and _"
        raise ValueError(f"name={name} {why}: choose another name=")
    conversion = gather(config)
    write(conversion, config, name)
    crowds = sum(shape.crowd for photo in conversion.photos.values() for shape in photo.shapes)
    print(
        f"wrote {len(conversion.photos)} photos ({'linked' if config.link else 'copied'}) and "
        f"masks of {len(conversion.classes)} classes, background included, into {config.out}"
    )
    if lists := conversion.splits:
        print("lists: " + ", ".join(f"{split} {len(ids)}" for split, ids in lists.items()))
    if crowds:
        print(f"crowds: {crowds}, painted as {config.crowd} (crowd=…)")
    chosen = f"--config-dir {shlex.quote(str(Path(config.out) / 'conf'))} data={name}"
    print(f"check it:    toyfcn-data check {chosen}\ntrain on it: toyfcn-train {chosen}")
    return 0
