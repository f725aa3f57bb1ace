"""The same bits as the command line."""

import json

import numpy as np
import pytest

import vitral


def tensors(path):
    """The tensors of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(body[slice(*each["data_offsets"])], np.float32).reshape(each["shape"])
        for name, each in header.items()
    }


@pytest.mark.parametrize("pool", ["pooled", "mean", "tokens"])
@pytest.mark.parametrize("threads, batch", [(1, 3), (2, None), (3, 1)])
def test_embed(cli, photos, tmp_path, pool, threads, batch):
    cli("embed", *photos, "--pool", pool, "--output", tmp_path / "f.npy", "--threads", 2)
    found = vitral.Model.load(threads=threads).embed(photos, pool=pool, batch_size=batch)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.load(tmp_path / "f.npy"))


@pytest.mark.parametrize("name", ["hf_vit_classifier", "hf_dinov2_model", "hf_clip_vision_projection", "timm_avg", "hf_deit_teacher"])
def test_every_kind_of_model(cli, golden, images, tmp_path, name):
    model = vitral.Model.load(golden(name))
    cli("preprocess", "--model", golden(name), *images, "--output", tmp_path / "in.safetensors")
    pixels = model.preprocess(images)
    assert np.array_equal(pixels, tensors(tmp_path / "in.safetensors")["pixel_values"])
    wanted = ["--hidden-states", "--attentions"]
    cli("forward", golden(name), "--input", tmp_path / "in.safetensors", "--output", tmp_path / "out.safetensors", *wanted)
    expected = tensors(tmp_path / "out.safetensors")
    found = model.forward(pixels, hidden_states=True, attentions=True, batch_size=2)
    assert found.keys() == expected.keys() and len(found) > 4
    for key, values in expected.items():
        assert found[key].shape == values.shape and np.array_equal(found[key], values), key
    assert model.forward(pixels).keys() <= {"logits", "features"}


def test_backend(cli, golden, images, tmp_path):
    name = golden("hf_clip_classifier")
    for backend in ["pil", "torchvision"]:
        cli("preprocess", "--model", name, *images, "--backend", backend, "--output", tmp_path / backend)
        found = vitral.Model.load(name, backend=backend).preprocess(images)
        assert np.array_equal(found, tensors(tmp_path / backend)["pixel_values"])
    assert not np.array_equal(found, vitral.Model.load(name).preprocess(images))
    with pytest.raises(vitral.ConfigError, match="`backend`: expected `pil` or `torchvision`, found `numpy`"):
        vitral.Model.load(name, backend="numpy")
    with pytest.raises(vitral.ConfigError, match="leave out the backend `torchvision`"):
        vitral.Model.load(golden("timm_avg"), backend="torchvision")


@pytest.mark.parametrize("backend", ["pil", "torchvision"])
@pytest.mark.parametrize("name", ["hf_vit_classifier", "hf_dinov2_classifier", "hf_clip_vision", "hf_siglip_classifier", "hf_deit_model"])
def test_backend_of_transformers(golden, photos, backend, name):
    pytest.importorskip("torchvision")
    transformers = pytest.importorskip("transformers")
    from PIL import Image

    processor = transformers.AutoImageProcessor.from_pretrained(golden(name), backend=backend)
    model = vitral.Model.load(golden(name), backend=backend)
    for photo in photos:
        with Image.open(photo) as image:
            expected = processor(image.convert("RGB"), return_tensors="np")["pixel_values"]
        assert np.array_equal(model.preprocess(photo), expected), photo


def test_classify(cli, photos):
    lines = [json.loads(line) for line in cli("classify", *photos, "--json").splitlines()]
    rows = vitral.Model.load().classify(photos)
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines):
        expected = [(each["label"], each["class"], np.float32(each["probability"])) for each in line["labels"]]
        assert [(each.label, each.class_index, np.float32(each.score)) for each in row] == expected


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_precisions(cli, golden, images, tmp_path, precision):
    name = golden("hf_vit_classifier")
    cli("embed", "--model", name, *images, "--precision", precision, "--output", tmp_path / "f.npy")
    model = vitral.Model.load(name, precision=precision)
    assert model.precision == precision
    assert np.array_equal(model.embed(images), np.load(tmp_path / "f.npy"))


@pytest.mark.parametrize("method", ["attention", "rollout", "chefer", "gradcam", "integrated-gradients", "occlusion"])
def test_explain(cli, model, images, tmp_path, method):
    cli("explain", images[0], "--method", method, "--numbers", "npy", "--output", tmp_path)
    found = model.explain(images[0], method)
    written = [path for path in tmp_path.rglob("*.npy") if path.stem.endswith(method)]
    assert np.array_equal(found.values, np.load(written[0]))
    found.save(tmp_path / "map.png")
    drawn = next(path for path in tmp_path.rglob(f"{method}.png"))
    assert (tmp_path / "map.png").read_bytes() == drawn.read_bytes()


def test_info(cli, golden):
    assert vitral.Model.load().info == json.loads(cli("info", "--json"))
    name = golden("hf_vit_classifier")
    assert vitral.Model.load(name).info == json.loads(cli("info", "--model", name, "--json"))
    found = vitral.doctor(name)
    assert {"findings": found} == json.loads(cli("doctor", name, "--json"))


def test_evaluate_and_probe(cli, golden, flowers):
    model = vitral.Model.load(golden("hf_vit_classifier"))
    arguments = ["--model", golden("hf_vit_classifier"), flowers, "--json"]
    assert vitral.probe(model, flowers, shots=[1, 2]) == json.loads(cli("probe", *arguments, "--shots", "1,2"))
    # The model does not know these classes by name, and has another number of them.
    with pytest.raises(vitral.Error) as fault:
        model.evaluate(flowers)
    assert str(fault.value) in cli("evaluate", *arguments, code=1)


def test_errors_have_the_same_texts(cli, golden, model, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of an image")
    for image in [tmp_path / "broken.jpg", tmp_path / "absent.png", tmp_path]:
        with pytest.raises(vitral.ImageError) as fault:
            model.classify(image)
        if image != tmp_path:
            assert str(fault.value) in cli("classify", image, code=1)
    for path in [tmp_path, tmp_path / "absent", tmp_path / "broken.jpg"]:
        with pytest.raises(vitral.WeightsError) as fault:
            vitral.Model.load(path)
        assert str(fault.value) in cli("info", "--model", path, code=1)
    with pytest.raises(vitral.ConfigError) as fault:
        vitral.Model.load(golden("hf_vit_model")).classify("any.jpg")
    assert str(fault.value) in cli("classify", "--model", golden("hf_vit_model"), "any.jpg", code=1)
