"""Maps."""

import numpy as np
import pytest

import vitral


def model_side(path):
    from PIL import Image

    with Image.open(path) as image:
        return image.width


def test_a_map(model, images, tmp_path):
    found = model.explain(images[2], "chefer")
    assert found.values.shape == (8, 8) and found.values.dtype == np.float32
    assert found.explained == "class `cat`" and found.predictions == model.classify(images[2])
    assert found.image.shape == (32, 32, 3) and found.overlay.shape[2] == 3
    assert found._repr_png_().startswith(b"\x89PNG") and "chefer" in repr(found)
    assert np.array_equal(np.asarray(found), found.values)
    found.save(tmp_path / "map.npy")
    assert np.array_equal(np.load(tmp_path / "map.npy"), found.values)
    found.save(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes() == found._repr_png_()
    with pytest.raises(vitral.ConfigError, match="ends in .png or .npy"):
        found.save(tmp_path / "map.txt")
    with pytest.raises(OSError):
        found.save(tmp_path / "absent" / "map.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.npy", "map.png"]


@pytest.mark.parametrize("method", list(vitral.METHODS))
def test_every_method(model, images, method):
    found = model.explain(images[0], method, steps=2, samples=2, masks=20)
    assert np.isfinite(found.values).all()
    assert np.array_equal(found.values, model.explain(images[0], method, steps=2, samples=2, masks=20).values)


def test_targets_layers_and_heads(model, images):
    image = images[0]
    dog, number = model.explain(image, "gradcam", "dog"), model.explain(image, "gradcam", target=5)
    assert dog.explained == "class `dog`" and np.array_equal(dog.values, number.values)
    assert np.array_equal(dog.values, model.explain(image, "gradcam", target=np.int64(5)).values)
    assert not np.array_equal(dog.values, model.explain(image, "gradcam").values)
    for wrong in (-1, 10):
        with pytest.raises(vitral.ConfigError, match="a class from 0 to 9"):
            model.explain(image, "gradcam", target=wrong)
    assert model.explain(image, "gradient", "feature").explained == "the pooled features"
    last = model.explain(image, layer=-1, head=-1)
    assert np.array_equal(last.values, model.explain(image, layer=2, head=3).values)
    with pytest.raises(vitral.ConfigError, match="cropped away"):
        model.explain(image, "similarity", at=(0, 0))
    at = model.explain(image, "similarity", at=(model_side(image) // 2 - 40, 40))
    assert not np.array_equal(at.values, model.explain(image, "similarity").values)


@pytest.mark.parametrize(
    "options, said",
    [
        (dict(method="magic"), "expected one of"),
        (dict(target="zebra"), "zebra"),
        (dict(layer=3), "layers 0 to 2"),
        (dict(layer=-4), "-1 to -3"),
        (dict(head=4), "heads 0 to 3"),
        (dict(method="similarity", at=(10_000, 0)), "outside"),
        (dict(mass=1.5), "fraction"),
        (dict(steps=0), "at least 1"),
        (dict(fusion="sum"), "`mean`, `max` or `min`"),
    ],
)
def test_what_cannot_be_explained(model, images, options, said):
    with pytest.raises(vitral.ConfigError) as fault:
        model.explain(images[0], **options)
    assert said in str(fault.value)
