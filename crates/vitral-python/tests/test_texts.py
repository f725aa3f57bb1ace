"""Classes in words, beside those of transformers."""

import json

import numpy as np
import pytest

import vitral


@pytest.fixture(params=["clip", "siglip", "siglip2"])
def folder(request, golden):
    return golden("../texts/" + request.param)


def test_the_pipeline_answers_as_the_model(folder, images):
    ask = vitral.pipeline("zero-shot-image-classification", folder)
    labels = ["a cat", "a dog", "東京"]
    one = ask(images[0], candidate_labels=labels)
    assert sorted(each["label"] for each in one) == sorted(labels)
    scores = [each["score"] for each in one]
    assert scores == sorted(scores, reverse=True)
    assert ask(images, candidate_labels=labels) == [ask(image, labels) for image in images]
    model = vitral.Model.load(folder, labels=labels, template="This is a photo of {}.")
    found = model.classify(images[0], top_k=3)
    assert [(each.label, each.score) for each in found] == [(each["label"], each["score"]) for each in one]
    assert model.labels == labels


def test_texts(folder):
    texts = vitral.TextModel.load(folder)
    known = json.loads((folder / "tokens.json").read_text())
    labels = json.loads((folder / "labels.json").read_text())
    assert texts.tokens(labels[0]) == known["filled"]
    vectors = texts.embed(labels)
    assert vectors.dtype == np.float32 and vectors.shape[0] == len(labels)
    assert np.array_equal(texts.embed(labels[1]), vectors[1])
    assert texts.scale > 1 and texts.bias <= 0


def test_as_transformers(folder, images):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    pytest.importorskip("sentencepiece")
    if folder.name != "clip":
        pytest.skip("transformers' pipeline fills SigLIP's texts up to 64 tokens, and these small models take 24")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = transformers.AutoModel.from_pretrained(folder)
    theirs = transformers.pipeline(
        "zero-shot-image-classification", model=model, tokenizer=tokenizer, image_processor=processor
    )
    labels = ["a cat", "a dog", "birds", "the sea at night"]
    ours = vitral.pipeline("zero-shot-image-classification", folder)
    for image in images:
        expected = theirs(str(image), candidate_labels=labels)
        found = ours(image, candidate_labels=labels)
        assert [each["label"] for each in found] == [each["label"] for each in expected]
        assert np.allclose([each["score"] for each in found], [each["score"] for each in expected], atol=2e-5)


def test_what_is_refused(folder, images, golden):
    with pytest.raises(vitral.ConfigError, match="list of labels"):
        vitral.Model.load(folder, labels="cat")
    with pytest.raises(vitral.Error, match="twice"):
        vitral.Model.load(folder, labels=["cat", "cat"])
    with pytest.raises(vitral.ConfigError, match="no text tower"):
        vitral.Model.load(labels=["cat"])
    with pytest.raises(vitral.Error, match="text tower"):
        vitral.TextModel.load(golden("hf_vit_model"))
    with pytest.raises(vitral.ConfigError, match="candidate_labels"):
        vitral.pipeline("zero-shot-image-classification", folder)(images[0])
    with pytest.raises(vitral.Error, match="tokens"):
        vitral.TextModel.load(folder).embed("cat " * 200)
