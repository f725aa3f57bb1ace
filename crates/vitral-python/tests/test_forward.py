"""Tensors in and out."""

import numpy as np
import pytest

import vitral


@pytest.fixture
def pixels(model, images):
    return model.preprocess(images)


def shares(a, b):
    return a.__array_interface__["data"][0] == b.__array_interface__["data"][0]


def test_results_are_arrays_that_others_can_take(model, pixels):
    out = model.forward(pixels)["logits"]
    assert shares(np.from_dlpack(out), out)
    assert out.flags.writeable and out.flags.c_contiguous and out.dtype == np.float32
    torch = pytest.importorskip("torch")
    assert torch.from_dlpack(out).data_ptr() == out.__array_interface__["data"][0]


def test_tensors_of_other_libraries(model, pixels):
    expected = model.forward(pixels)["logits"]
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(pixels.copy())
    assert np.array_equal(model.forward(tensor)["logits"], expected)
    assert shares(vitral._images.array(tensor), tensor.numpy())
    assert np.array_equal(model.forward(tensor.clone().requires_grad_())["logits"], expected)
    # Not in order in memory: copied.
    turned = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))).permute(0, 3, 1, 2)
    assert np.array_equal(model.forward(turned)["logits"], expected)


def test_jax(model, pixels):
    jax = pytest.importorskip("jax")
    assert np.array_equal(model.forward(jax.numpy.asarray(pixels))["logits"], model.forward(pixels)["logits"])


def test_batches_do_not_matter(model, pixels):
    many = np.concatenate([pixels] * 7)
    whole = model.forward(many, hidden_states=True)
    for batch in [1, 2, 5, 100]:
        part = model.forward(many, hidden_states=True, batch_size=batch)
        assert all(np.array_equal(part[name], whole[name]) for name in whole)


def test_masks(golden):
    model = vitral.Model.load(golden("hf_vit_masked"))
    height, width = model.image_size
    pixels = np.random.default_rng(1).normal(size=(2, 3, height, width)).astype(np.float32)
    patch = model.info["config"]["patch_size"]
    grid = (height // patch, width // patch)
    mask = np.ones((2, *grid), bool)
    # With a mask, attention takes another path, which rounds otherwise.
    assert np.allclose(model.forward(pixels, mask=mask)["features"], model.forward(pixels)["features"], atol=1e-5)
    mask[:, 0] = False
    found = model.forward(pixels, mask=mask.astype(np.uint8), attentions=True, batch_size=1)
    hidden = found["attentions.0"][..., 1 : 1 + grid[1]]
    assert not hidden.any() and not np.allclose(found["features"], model.forward(pixels)["features"], atol=1e-5)
    with pytest.raises(vitral.ConfigError, match="expected `mask` of shape"):
        model.forward(pixels, mask=mask[:1])
    with pytest.raises(vitral.ConfigError, match="expected `mask` in uint8 or bool"):
        model.forward(pixels, mask=mask.astype(np.float32))


@pytest.mark.parametrize(
    "wrong, said",
    [
        (np.zeros((1, 3, 32, 32)), "expected `pixel_values` in float32"),
        (np.zeros((3, 32, 32), np.float32), "expected `pixel_values` in float32"),
        (np.zeros((1, 1, 32, 32), np.float32), "expected `pixel_values` of shape"),
        (np.zeros((0, 3, 32, 32), np.float32), "at least one image"),
        (np.zeros((1, 3, 0, 0), np.float32), ""),
        (np.zeros((1, 3, 31, 33), np.float32), ""),
    ],
)
def test_what_does_not_fit(model, wrong, said):
    with pytest.raises(vitral.ConfigError) as fault:
        model.forward(wrong)
    assert said in str(fault.value)
    with pytest.raises(vitral.ConfigError):
        model.forward(np.zeros((1, 3, 32, 32), np.float32), batch_size=0)
