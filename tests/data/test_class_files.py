"""Files of class names in the formats that tools write: the right names, or a refusal."""

from pathlib import Path

import pytest

from toyfcn.data.class_files import read_class_file

THREE = ["background", "cat", "traffic light"]
UNDERSTOOD = {
    "plain": "background\ncat\ntraffic light\n",
    "comments": "# label names\nbackground\n\n# animals\ncat\ntraffic light",
    "labelme": "__ignore__\nbackground\ncat\ntraffic light\n",
    "numbered": "0 background\n1 cat\n2 traffic light\n",
    "with colons": "0: background\n1: cat\n2: traffic light\n",
    "with dots": "0. background\n1. cat\n2. traffic light\n",
    "with tabs": "0\tbackground\n1\tcat\n2\ttraffic light\n",
    "Roboflow's table": "Pixel Value, Class\n0, background\n1, cat\n2, traffic light\n",
    "quoted": 'id,name\n0,"background"\n1,"cat"\n2,"traffic light"\n',
    "label behind": "background: 0\ncat: 1\ntraffic light: 2\n",
    "any order": "2 traffic light\n0 background\n1 cat\n",
    "void": "0 background\n1 cat\n2 traffic light\n255 void\n",
    "ignored": "-1 __ignore__\n0 background\n1 cat\n2 traffic light\n",
    "Windows": "\ufeff0 background\r\n1 cat\r\n2 traffic light\r\n",
}
REFUSED = {
    "CVAT": (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,9:head,tail:run\n",
        r"'data\.classes=\[background,cat\]'.*'data\.colours=\[\[0,0,0\],\[128,0,9\]\]'",
    ),
    "CamVid": ("64 128 64\tAnimal\n192 0 128\tArchway\n", r"\[Animal,Archway\].*\[\[64,128,64\]"),
    "a table of colors": ("name,r,g,b\nAnimal,64,128,64\nArch,192,0,128\n", r"\[Animal,Arch\]"),
    "from 1 on": ("1 wall\n2 sky\n", "0 has no name"),
    "below a heading": ("id name\n1 wall\n2 sky\n", "0 has no name"),
    "a gap": ("0 wall\n1 sky\n3 tree\n", "2 has no name"),
    "twice": ("0 wall\n1 sky\n1 tree\n", "2 has no name"),
    "JSON": ('{"names": ["a", "b"]}', "JSON"),
    "a list in JSON": ('[\n"a",\n"b"\n]', "JSON"),
    "YAML": ("names:\n  0: a\n  1: b\n", "YAML"),
    "a list in YAML": ("- a\n- b\n", "YAML"),
    "a label map": ("item {\n  id: 1\n  name: 'a'\n}\n", "label map"),
    "XML": ("<annotation>\n<name>a</name>\n</annotation>\n", "XML"),
    "Markdown": ("| 0 | a |\n| 1 | b |\n", "a table"),
}
AS_THEY_ARE = ("class 0\nclass 1\n", "background\n2 wheeler\n4 wheeler\n", "dog [/]\n[x] <b>\n")


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_file_that_is_understood(tmp_path: Path, name: str) -> None:
    (tmp_path / "names.txt").write_bytes(UNDERSTOOD[name].encode())
    assert read_class_file(tmp_path / "names.txt", 255) == THREE


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused(tmp_path: Path, name: str) -> None:
    content, why = REFUSED[name]
    (tmp_path / "names.txt").write_text(content)
    with pytest.raises(ValueError, match=why) as caught:
        read_class_file(tmp_path / "names.txt", 255)
    assert str(tmp_path / "names.txt") in str(caught.value)


@pytest.mark.parametrize("content", AS_THEY_ARE)
def test_names_that_only_look_like_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "names.txt").write_text(content)
    assert read_class_file(tmp_path / "names.txt", 255) == content.splitlines()
