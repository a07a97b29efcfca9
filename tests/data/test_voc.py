"""The VOC layout against its published facts, files made by hand, Pillow and the real photos."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from toyfcn.data import png, voc
from toyfcn.data import source as source_module
from toyfcn.data.image_io import read_image, read_mask
from toyfcn.data.source import palette
from toyfcn.data.splits import read_list
from toyfcn.data.voc import CLASSES, VOCReader, find_voc

LISTS = "ImageSets/Segmentation"


def decoded(path):
    """Pillow's decoding as (3, H, W)."""
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


def smooth(height=24, width=40):
    """A photo that JPEG hardly changes: red rises to the right, green downwards."""
    rows, columns = np.mgrid[:height, :width]
    planes = (columns * 255 / width, rows * 255 / height, np.full((height, width), 90))
    return np.stack(planes, 2).astype(np.uint8)


def assert_near(image, array, within=6):
    assert image.dtype == torch.uint8
    assert image.shape == (3, *array.shape[:2])
    assert (image.permute(1, 2, 0).int() - torch.from_numpy(array).int()).abs().max() <= within


@pytest.fixture
def source(tiny_voc):
    return voc.voc_source(find_voc(tiny_voc, 2007))


# ---- palette and classes ----


def test_palette_interleaves_bits():
    expected = []
    for label in range(256):
        r = g = b = 0
        left = label
        for j in range(7, -1, -1):
            r |= (left & 1) << j
            g |= (left >> 1 & 1) << j
            b |= (left >> 2 & 1) << j
            left >>= 3
        expected += [r, g, b]
    assert palette() == expected


@pytest.mark.parametrize(
    ("label", "color"),
    [
        (0, (0, 0, 0)),
        (1, (128, 0, 0)),
        (2, (0, 128, 0)),
        (15, (192, 128, 128)),
        (20, (0, 64, 128)),
        (255, (224, 224, 192)),
    ],
)
def test_known_colors(label, color):
    assert tuple(palette()[3 * label : 3 * label + 3]) == color


def test_classes_in_vocs_order():
    assert len(CLASSES) == 21
    assert list(CLASSES[1:]) == sorted(CLASSES[1:])  # alphabetical but for background
    assert (CLASSES[0], CLASSES[15]) == ("background", "person")


# ---- find_voc ----


@pytest.mark.parametrize("inside", ["", "VOCdevkit", "TrainVal/VOCdevkit"])
@pytest.mark.parametrize("year", [2007, 2011, "2012"])
def test_every_root_layout_is_found(tmp_path, inside, year):
    folder = tmp_path / inside / f"VOC{year}"
    (folder / LISTS).mkdir(parents=True)
    root = folder
    while root != tmp_path.parent:  # the year's folder and every one above it
        assert find_voc(root, year).resolve() == folder
        assert find_voc(str(root), year).resolve() == folder
        root = root.parent


def test_another_years_folder_is_not_taken(tmp_path):
    for year in (2007, 2012):
        (tmp_path / f"VOC{year}" / LISTS).mkdir(parents=True)
    assert find_voc(tmp_path, 2012).name == "VOC2012"
    with pytest.raises(ValueError, match="VOC2007"):
        find_voc(tmp_path / "VOC2012", 2007)


def test_a_missing_root_names_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match="no VOC2011 found") as caught:
        find_voc(tmp_path / "nowhere", 2011)
    text = str(caught.value)
    for folder in ("VOC2011", "VOCdevkit/VOC2011", "TrainVal/VOCdevkit/VOC2011"):
        assert str(tmp_path / "nowhere" / folder) in text
    for advice in ("data.root", "TOYFCN_VOC", "toyfcn-data download"):
        assert advice in text


# ---- split lists ----


@pytest.mark.parametrize(
    "content",
    [
        b"a\nb_1\n2007_000032\n",
        b"a\r\nb_1\r\n2007_000032",
        b"\xef\xbb\xbf\n a \n\nb_1\t\n2007_000032",
    ],
    ids=["plain", "CRLF", "BOM and blanks"],
)
def test_lists_keep_their_order_whatever_the_line_ends(tmp_path, content):
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    assert read_list(path) == ("a", "b_1", "2007_000032")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no image"),
        (b" \r\n\n", "no image"),
        (b"a\nb\na\n", "'a' twice"),
        (b"a\n../../etc/passwd\n", "passwd"),
        (b"/etc/passwd\n", "passwd"),
        (b"..\n", r"'\.\.'"),
        (b"a\\b\n", "not an image id"),
        (b"a b\n", "'a b'"),
        (b"a\x00b\n", "not an image id"),
        (b"\xff\xfea\n", "cannot read"),
    ],
)
def test_a_bad_list_is_named(tmp_path, content, told):
    path = tmp_path / "odd.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=told) as caught:
        read_list(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_list_names_those_there(source):
    with pytest.raises(ValueError, match="test") as caught:
        source.ids("test")
    assert "train, trainval, val" in str(caught.value)
    assert str(source.lists / "test.txt") in str(caught.value)


def test_ids_keep_the_lists_order(source):
    (source.lists / "val.txt").write_text("000005\n000001\n")
    assert source.ids("val") == ("000005", "000001")
    assert len(source.ids("trainval")) == 6


@pytest.mark.parametrize("where", ["image_path", "mask_path"])
def test_an_id_without_file_is_named(source, where):
    path = getattr(source, where)("000002")
    path.unlink()
    with pytest.raises(ValueError, match="'000002'") as caught:
        source.ids("train")
    assert str(path) in str(caught.value)
    assert source.ids("val") == ("000004", "000005")


# ---- masks ----


def test_masks_keep_palette_indices(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    mask = Image.fromarray(labels)
    mask.putpalette(palette())
    mask.save(tmp_path / "mask.png")
    read = read_mask(tmp_path / "mask.png")
    assert read.dtype == torch.uint8
    assert np.array_equal(read.numpy(), labels)


def test_masks_of_few_bits_and_odd_palettes(tmp_path):
    labels = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    mask = Image.fromarray(labels)
    mask.putpalette([9, 9, 9, 9, 9, 9, 0, 255, 0])  # two labels of one color
    mask.save(tmp_path / "mask.png", bits=2)
    assert read_mask(tmp_path / "mask.png").tolist() == labels.tolist()


def test_gray_masks_are_labels(tmp_path):
    Image.fromarray(np.array([[0, 20], [255, 3]], np.uint8)).save(tmp_path / "gray.png")
    assert read_mask(tmp_path / "gray.png").tolist() == [[0, 20], [255, 3]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "1", "I;16", "LA"])
def test_masks_without_labels_are_refused(tmp_path, mode):
    path = tmp_path / "color.png"
    Image.new(mode, (4, 4)).save(path)
    with pytest.raises(ValueError, match=f"mode is {mode}") as caught:
        read_mask(path)
    assert str(path) in str(caught.value)


def test_values_outside_the_classes_are_named(source):
    path = source.mask_path("000000")
    labels = np.array(Image.open(path))
    labels[0, :3] = (21, 254, 254)
    Image.fromarray(labels).save(path)
    with pytest.raises(ValueError, match=r"\[21, 254\]") as caught:
        source.mask("000000")
    assert str(path) in str(caught.value)
    assert source.mask("000001").unique().tolist() == [0, 2, 20, 255]


# ---- photos ----


def test_jpeg_and_png_content(tmp_path):
    photo = smooth()
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=98)
    Image.fromarray(photo).save(tmp_path / "b.jpg", format="PNG")  # its name lies
    assert_near(read_image(tmp_path / "a.jpg"), photo)
    assert_near(read_image(tmp_path / "b.jpg"), photo, within=0)


def test_gray_jpeg(tmp_path):
    gray = smooth()[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.jpg", quality=98)
    assert_near(read_image(tmp_path / "gray.jpg"), np.stack([gray] * 3, 2))


def test_cmyk_jpeg(tmp_path):
    photo = smooth()
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    assert_near(read_image(tmp_path / "cmyk.jpg"), photo, within=12)


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "CMYK"), ("PNG", "RGB")])
def test_exif_orientation(tmp_path, kind, mode):
    """Orientation 6: the camera was turned, and 90° clockwise put its photo upright."""
    stored, exif = smooth(), Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(stored).convert(mode).save(path, format=kind, exif=exif, quality=98)
    assert_near(read_image(path), np.rot90(stored, -1).copy(), within=12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_a_truncated_photo_is_named(tmp_path, kind, share):
    path = tmp_path / "cut.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path, format=kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="cannot read the photo") as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_photo_that_is_none_or_missing_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("no photo at all")
    for name in ("text.jpg", "missing.jpg"):
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)
        with pytest.raises(ValueError, match=name):
            read_mask(tmp_path / name)


def test_a_photo_of_too_many_pixels_is_refused(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "big.jpg")
    with pytest.raises(ValueError, match=r"big\.jpg.*40 x 24"):
        read_image(tmp_path / "big.jpg", limit=24 * 40 - 1)


def test_a_pair_is_of_one_size(source):
    image, mask = source.pair("000001")
    assert (image.shape, mask.shape) == ((3, 40, 32), (40, 32))
    shutil.copy(source.image_path("000000"), source.image_path("000001"))
    with pytest.raises(ValueError, match=r"48 x 32.*000001\.png is 32 x 40"):
        source.pair("000001")


# ---- the diary's reader ----


def test_a_batch_is_named_from_the_split_and_belongs_together(tiny_voc, source):
    reader = VOCReader(tiny_voc, 2007, "train")
    for _ in range(20):
        batch = reader.next_train_batch(batch_sz=3)
        names = batch["names"]
        assert len(set(names)) == 3
        assert set(names) <= set(source.ids("train"))
        pairs = list(zip(batch["batch"], batch["annotations"], strict=True))
        for name, (image, mask) in zip(names, pairs, strict=True):
            assert image.equal(source.image(name))
            assert mask.equal(source.mask(name))


def test_nothing_opens_before_it_is_consumed(tiny_voc, monkeypatch):
    opened = []

    def noted(read):
        return lambda path, *given: (opened.append(path), read(path, *given))[1]

    for what in ("read_image", "read_mask_and_palette"):
        monkeypatch.setattr(source_module, what, noted(getattr(source_module, what)))
    reader = VOCReader(tiny_voc, 2007, "trainval")
    batch = reader.next_train_batch(batch_sz=4)
    iterators = batch["batch"], batch["annotations"]
    assert opened == []
    for turn, iterator in enumerate([*iterators, *iterators[::-1]], start=1):
        next(iterator)
        assert len(opened) == turn
    first, second = batch["names"][:2]
    found = [path.name for path in opened]
    assert found == [f"{first}.jpg", f"{first}.png", f"{second}.png", f"{second}.jpg"]


def test_every_image_is_as_likely(tiny_voc):
    reader = VOCReader(tiny_voc, 2007, "trainval", seed=3)
    places = np.zeros((2, 6))
    for _ in range(3000):
        for place, name in enumerate(reader.next_train_batch(batch_sz=2)["names"]):
            places[place, int(name)] += 1
    chi_square = ((places - 500) ** 2 / 500).sum(1)
    assert (chi_square < 20.5).all()  # 99.9 % quantile at 5 degrees of freedom


def test_the_seed_decides_the_batches(tiny_voc):
    def drawn(seed):
        reader = VOCReader(tiny_voc, 2007, "trainval", seed)
        return [reader.next_train_batch(batch_sz=3)["names"] for _ in range(5)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize("batch_sz", [0, -1, 5])
def test_batches_that_are_too_large(tiny_voc, batch_sz):
    reader = VOCReader(tiny_voc, 2007, "train")
    with pytest.raises(ValueError, match=f"batch_sz={batch_sz}.*4 images"):
        reader.next_train_batch(batch_sz=batch_sz)


def test_a_whole_split_is_a_batch(tiny_voc):
    reader = VOCReader(tiny_voc, 2007, "train")
    assert sorted(reader.next_train_batch(batch_sz=4)["names"]) == sorted(reader.names)


# ---- the real photos ----


@pytest.fixture(scope="session")
def real(voc_root):
    return voc.voc_source(find_voc(voc_root, 2007))


@pytest.mark.parametrize(("split", "size"), [("train", 209), ("val", 213), ("test", 210)])
def test_real_lists(real, split, size):
    assert len(real.ids(split)) == size


def test_real_masks_hold_every_class_and_the_palette(real):
    values = np.zeros(256, bool)
    for name in real.ids("train"):
        values[np.unique(real.mask(name).numpy())] = True
    assert values.nonzero()[0].tolist() == [*range(21), 255]
    with Image.open(real.mask_path(real.ids("train")[0])) as mask:
        assert mask.mode == "P"
        assert mask.getpalette() == palette()


def test_real_photos_equal_pillows_decoding(real):
    for name in real.ids("val")[::7]:
        image, mask = real.pair(name)
        assert mask.shape == image.shape[1:]
        assert image.equal(decoded(real.image_path(name))), name
        assert np.array_equal(mask.numpy(), np.array(Image.open(real.mask_path(name)))), name
        assert png.plain_png(real.mask_path(name).read_bytes()) is not None, name


def test_the_diary_on_real_photos(voc_root):
    batch = VOCReader(voc_root, 2007, "train").next_train_batch()
    assert len(set(batch["names"])) == 10
    for image, mask in zip(batch["batch"], batch["annotations"], strict=True):
        assert image.shape[1:] == mask.shape
