"""Every form in which images come, and what is wrong with some."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest

import vitral


def pixels(path):
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def test_all_forms_give_the_same(model, images):
    from PIL import Image

    path, data, array = images[0], Path(images[0]).read_bytes(), pixels(images[0])
    expected = model.embed(path)
    assert expected.shape == (1, 128)
    padded = np.zeros((*array.shape[:2], 4), np.uint8)
    padded[..., :3] = array
    forms = [Path(path), data, bytearray(data), memoryview(data), io.BytesIO(data), Image.open(path), array, padded[..., :3], padded]
    for form in forms:
        assert np.array_equal(model.embed(form), expected), type(form)
    gray = array[..., 0]
    assert np.array_equal(model.embed(gray), model.embed(np.stack([gray] * 3, -1)))
    assert np.array_equal(model.embed(gray[..., np.newaxis]), model.embed(gray))
    with open(path, "rb") as file:
        assert np.array_equal(model.embed(file), expected)


def test_several_images(model, images):
    expected = model.embed(images)
    arrays = [pixels(path) for path in images]
    assert np.array_equal(model.embed(path for path in images), expected)
    assert np.array_equal(model.embed(tuple(arrays)), expected)
    assert np.array_equal(model.embed(iter(arrays), batch_size=1), expected)
    assert np.array_equal(model.embed(np.stack([arrays[0]] * 3)), np.concatenate([expected[:1]] * 3))
    assert np.array_equal(np.concatenate(list(model.embed_batches(iter(images), batch_size=2))), expected)
    assert [each[0].label for each in model.classify(images)] == ["automobile", "bird", "cat"]
    assert np.array_equal(model.embed(np.array(images)), expected)
    assert np.array_equal(model.embed(np.array(images, dtype=object)), expected)
    assert model.classify([]) == [] and model.embed([]).shape[0] == 0
    assert isinstance(model.classify(images[0])[0], vitral.Prediction)
    assert model.classify([images[0]]) == [model.classify(images[0])]


def test_tensors_of_other_libraries(model, images):
    torch = pytest.importorskip("torch")
    array = pixels(images[0])
    expected = model.embed(array)
    assert np.array_equal(model.embed(torch.from_numpy(array.copy())), expected)
    assert np.array_equal(model.embed(torch.from_numpy(np.stack([array] * 2)))[:1], expected)
    assert np.array_equal(model.embed([torch.from_numpy(array.copy())]), expected)


def test_an_iterable_is_read_as_it_is_needed(model, images):
    taken = []

    def endless():
        while True:
            taken.append(images[0])
            yield images[0]

    stream = model.embed_batches(endless(), batch_size=2)
    assert next(stream).shape == (2, 128)
    assert len(taken) < 60
    one_by_one = vitral.pipeline("image-classification", model)(endless(), batch_size=1)
    before = len(taken)
    for count in range(1, 4):
        next(one_by_one)
        assert len(taken) == before + count


@pytest.mark.parametrize(
    "image, kind, said",
    [
        (b"", vitral.ImageError, "image 0: expected an image, found an empty file"),
        (b"%PDF-1.4 and so on", vitral.ImageError, "image 0: expected an image"),
        (np.zeros((3, 8, 8), np.uint8), vitral.ImageError, "expected pixels [height, width, 3], found an array of shape [3, 8, 8]; tran"),
        (np.zeros((8, 8, 3)), vitral.ImageError, "expected pixels of type uint8, from 0 to 255, found float64"),
        (np.zeros((0, 8, 3), np.uint8), vitral.ImageError, "at least one pixel"),
        ("https://example.org/cat.jpg", vitral.ImageError, "download it"),
        (7, TypeError, None),
        (io.StringIO("text"), TypeError, "binary mode"),
        (object(), TypeError, None),
    ],
)
def test_what_is_not_an_image(model, image, kind, said):
    with pytest.raises(kind, match=None) as fault:
        model.embed([image] if not hasattr(image, "read") else image)
    assert said is None or said in str(fault.value)
    if kind is vitral.ImageError:
        assert isinstance(fault.value, (OSError, ValueError, vitral.Error))


def test_a_fault_in_the_iterable_is_its_own(model, images):
    def broken():
        yield images[0]
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        model.classify(broken())


def test_images_can_be_skipped(model, images, tmp_path, caplog):
    mixed = [images[0], str(tmp_path / "absent.jpg"), b"nothing", images[2]]
    with caplog.at_level(logging.WARNING, "vitral"):
        rows = model.classify(mixed, skip_errors=True)
    assert [row and row[0].label for row in rows] == ["automobile", None, None, "cat"]
    assert [record.getMessage()[:9] for record in caplog.records] == ["skipped: "] * 2
    found = model.embed(mixed, skip_errors=True)
    assert np.isnan(found).all(axis=1).tolist() == [False, True, True, False]
    assert np.array_equal(found[3:], model.embed(images[2]))
    assert model.classify(b"nothing", skip_errors=True) is None
    assert np.isnan(model.embed([b"nothing"] * 2, skip_errors=True)).all()


def test_limits_and_sample_ranges(images, tmp_path, caplog):
    from PIL import Image

    with pytest.raises(vitral.ImageError, match="raise `max_pixels`"):
        vitral.Model.load(max_pixels=10).embed(images[0])
    dark = np.linspace(0, 4000, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    with caplog.at_level(logging.WARNING, "vitral"):
        plain = vitral.Model.load().preprocess(tmp_path / "dark.png")
    assert "`sample_range=\"12\"` stretches them" in caplog.text
    assert vitral.Model.load(sample_range=12).preprocess(tmp_path / "dark.png").max() > plain.max()
    # Pillow would cut off what is above 255.
    with Image.open(tmp_path / "dark.png") as opened:
        with pytest.raises(vitral.ImageError, match="8 bits, found one of Pillow's mode `I"):
            vitral.Model.load().preprocess(opened)
    with pytest.raises(vitral.ImageError, match="mode `F`"):
        vitral.Model.load().preprocess(Image.fromarray(dark.astype(np.float32)))


def test_folders(images, tmp_path):
    for place, name in enumerate(["b/2.jpg", "a.jpg", "b/1.JPG"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(Path(images[place]).read_bytes())
    (tmp_path / "notes.txt").write_text("not an image")
    found = [Path(path).relative_to(tmp_path).as_posix() for path in vitral.images_in(tmp_path)]
    assert found == ["a.jpg", "b/1.JPG", "b/2.jpg"]
    with pytest.raises(vitral.ImageError):
        vitral.images_in(tmp_path / "absent")


def test_damaged_images_never_do_more_than_fail(model, images):
    data, random = Path(images[0]).read_bytes(), np.random.default_rng(3)
    damaged = []
    for _ in range(200):
        copy = bytearray(data[: random.integers(1, len(data))])
        for place in random.integers(0, len(copy), 4):
            copy[place] = random.integers(0, 256)
        damaged.append(bytes(copy))
    rows = model.classify(damaged, skip_errors=True)
    assert len(rows) == 200
