"""Pipelines, beside those of transformers."""

import types

import numpy as np
import pytest

import vitral


def test_classification(model, images):
    classify = vitral.pipeline("image-classification")
    one = classify(images[0])
    assert [sorted(each) for each in one] == [["label", "score"]] * 5
    assert one[0]["label"] == "automobile" and abs(one[0]["score"] - 0.911) < 1e-3
    assert classify(images) == [classify(image) for image in images]
    assert classify([images[0]]) == [one] and classify(images=images[0]) == one
    assert classify([]) == []
    found = classify(image for image in images)
    assert isinstance(found, types.GeneratorType) and list(found) == classify(images)
    assert len(classify(images[0], top_k=100)) == len(classify(images[0], top_k=None)) == 10
    assert len(vitral.pipeline("image-classification", model, top_k=2)(images[0])) == 2
    assert classify(images, batch_size=2) == classify(images)
    raw = classify(images[0], function_to_apply="none")
    assert [each["score"] for each in raw] == [each.logit for each in model.classify(images[0])]
    assert 0 < classify(images[0], function_to_apply="sigmoid")[0]["score"] < 1


def test_features(golden, images):
    path = golden("hf_vit_model")
    model = vitral.Model.load(path)
    extract = vitral.pipeline("image-feature-extraction", path)
    tokens = extract(images[0])
    assert isinstance(tokens, list) and np.asarray(tokens).shape == (1, *model.embed(images[0], pool="tokens").shape[1:])
    array = extract(images, return_tensors=True)
    assert len(array) == 3 and array[0].dtype == np.float32 and np.array_equal(array[0], np.asarray(tokens, np.float32))
    assert np.array_equal(extract(images[0], pool=True, return_tensors=True), model.embed(images[0]))


def test_what_is_refused(model, golden):
    for wrong in [dict(task="translation"), dict(task="image-classification", model="absent")]:
        with pytest.raises(vitral.Error):
            vitral.pipeline(**wrong)
    with pytest.raises(TypeError):
        vitral.pipeline("image-classification", model, threads=2)
    with pytest.raises(TypeError):
        vitral.pipeline("image-classification", nothing=1)
    classify = vitral.pipeline("image-classification", model)
    for options in [dict(top_k=0), dict(function_to_apply="tanh"), dict(batch_size=0)]:
        with pytest.raises(vitral.ConfigError):
            classify(b"", **options)
    with pytest.raises(vitral.ConfigError, match="has no classifier; use `embed`"):
        vitral.pipeline("image-classification", golden("hf_vit_model"))(b"")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A small ViT with random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("vit")
    labels = {index: f"label {index}" for index in range(7)}
    config = transformers.ViTConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, image_size=64, patch_size=8,
        id2label=labels, label2id={name: index for index, name in labels.items()}, initializer_range=0.2,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def test_beside_transformers(theirs, photos):
    import transformers

    processor = transformers.ViTImageProcessorPil.from_pretrained(theirs)
    reference = transformers.pipeline("image-classification", str(theirs), image_processor=processor)
    ours = vitral.pipeline("image-classification", theirs)
    for found, expected in zip(ours(photos), reference(photos)):
        assert [each["label"] for each in found] == [each["label"] for each in expected]
        assert np.allclose([each["score"] for each in found], [each["score"] for each in expected], atol=2e-5)
    one, other = ours(photos[0], top_k=2), reference(photos[0], top_k=2)
    assert [each["label"] for each in one] == [each["label"] for each in other]
    extract = transformers.pipeline("image-feature-extraction", str(theirs), image_processor=processor)
    found = vitral.pipeline("image-feature-extraction", theirs)(photos[0])
    assert np.allclose(found, extract(photos[0]), atol=2e-4)


def test_preprocessing_equals_that_of_transformers(theirs, photos, tmp_path):
    import transformers
    from PIL import Image

    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    kinds = [
        (transformers.ViTImageProcessorPil, dict(size={"height": 64, "width": 64}, resample=3, image_mean=mean, image_std=std)),
        (transformers.ViTImageProcessorPil, dict(size={"height": 64, "width": 64})),
        (transformers.BitImageProcessorPil, dict(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64})),
        (transformers.CLIPImageProcessorPil, dict(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})),
        (transformers.DeiTImageProcessorPil, dict(size={"height": 80, "width": 80}, crop_size={"height": 64, "width": 64})),
    ]
    for kind, options in kinds:
        processor = kind(**options)
        processor.save_pretrained(theirs)
        expected = processor([Image.open(path).convert("RGB") for path in photos], return_tensors="np")["pixel_values"]
        found = vitral.Model.load(theirs).preprocess(photos)
        assert np.array_equal(found, expected), kind.__name__
    transformers.ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(theirs)
