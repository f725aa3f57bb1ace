"""Loading, converting, checking."""

import importlib.metadata
import logging
import subprocess
import sys

import numpy as np
import pytest

import vitral
from conftest import ROOT


def test_the_package_has_its_licenses():
    files = {file.name: file for file in importlib.metadata.files("vitral") if ".dist-info/licenses/" in str(file)}
    assert sorted(files) == ["LICENSE-APACHE", "LICENSE-MIT"]
    for name, file in files.items():
        assert file.read_text() == (ROOT / name).read_text()
    assert importlib.metadata.metadata("vitral")["License-Expression"] == "MIT OR Apache-2.0"


def test_converted_models_compute_the_same(golden, images, tmp_path):
    source = golden("hf_vit_classifier")
    with pytest.raises(vitral.WeightsError, match="norm_epsilon"):
        vitral.convert(source, tmp_path / "timm", "timm")
    assert vitral.convert(source, tmp_path / "timm", "timm", allow="norm_epsilon") == [("norm_epsilon", "1e-12", "1e-6")]
    assert vitral.convert(source, tmp_path / "bundle", "bundle") == []
    model = vitral.Model.load(tmp_path / "bundle")
    assert np.array_equal(model.embed(images), vitral.Model.load(source).embed(images))
    found = vitral.convert(source, tmp_path / "half", "huggingface", dtype="bf16")
    assert found == [] and vitral.Model.load(tmp_path / "half").info["origin"]["stored_as"] == ["BFloat16"]
    with pytest.raises(vitral.WeightsError, match="cannot convert"):
        vitral.convert(source, tmp_path / "timm", "timm")
    with pytest.raises(vitral.ConfigError, match="expected one of huggingface"):
        vitral.convert(source, tmp_path / "x", "keras")
    with pytest.raises(vitral.ConfigError, match="`dtype`"):
        vitral.convert(source, tmp_path / "x", "timm", dtype="f8")


def test_models_by_the_name_of_their_size(golden, images, tmp_path):
    source = golden("timm_avg")
    with pytest.raises(vitral.ConfigError, match="expected a model of width 768"):
        vitral.create_model("vit_base_patch16_224", source)
    with pytest.raises(vitral.ConfigError, match="unknown name"):
        vitral.create_model("resnext", source)
    with pytest.raises(vitral.ConfigError, match="found False"):
        vitral.create_model("vit_base_patch16_224", pretrained=False)
    transformers = pytest.importorskip("transformers")
    small = transformers.ViTConfig(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768)
    transformers.ViTForImageClassification(small).save_pretrained(tmp_path)
    transformers.ViTImageProcessorPil().save_pretrained(tmp_path)
    model = vitral.create_model("vit_tiny_patch16_224", pretrained=tmp_path, num_classes=0)
    assert model.classes == 0 and model.embed(images).shape == (3, 192)
    assert vitral.create_model("Ti/16", tmp_path, img_size=96).preprocess(images).shape == (3, 3, 96, 96)
    with pytest.raises(vitral.ConfigError, match="found 10"):
        vitral.create_model("vit_tiny_patch16_224", tmp_path, num_classes=10)


def test_loading(golden, caplog):
    with caplog.at_level(logging.INFO, "vitral"):
        model = vitral.Model.load(golden("hf_vit_classifier"), threads=2, device="cpu")
    assert "huggingface-vit names" in caplog.text
    assert model.path == str(golden("hf_vit_classifier")) and (model.device, model.threads) == ("cpu", 2)
    assert vitral.Model.load(device="reference").device == "reference"
    for options, said in [
        (dict(device="tpu"), "`device`"),
        (dict(precision="f64"), "`precision`"),
        (dict(precision="f16"), "f16"),
        (dict(sample_range="dark"), "`sample_range`"),
    ]:
        with pytest.raises(vitral.ConfigError, match=said):
            vitral.Model.load(**options)
    with pytest.raises(TypeError):
        vitral.Model(thread=2)
    for threads in (-1, 0, 5000):
        with pytest.raises(vitral.ConfigError, match="`threads`"):
            vitral.Model.load(threads=threads)


def test_faults_of_a_model_are_found(golden, tmp_path):
    findings = vitral.doctor(golden("hf_vit_classifier"))
    assert {"severity", "subject", "text"} == findings[0].keys()
    (tmp_path / "config.json").write_text("{}")
    assert any(each["severity"] == "fault" for each in vitral.doctor(tmp_path))


def test_exceptions_derive_from_pythons_own():
    assert issubclass(vitral.ImageError, (vitral.Error,)) and issubclass(vitral.ImageError, OSError)
    for kind in (vitral.ConfigError, vitral.WeightsError, vitral.ImageError):
        assert issubclass(kind, vitral.Error) and issubclass(kind, ValueError)
        assert kind.__module__ == "vitral"


def test_types_are_those_of_the_stubs():
    pytest.importorskip("mypy")
    allowed = str(ROOT / "crates" / "vitral-python" / "tests" / "only_for_types.txt")
    settings = str(ROOT / "crates" / "vitral-python" / "pyproject.toml")
    for command in (
        ["mypy.stubtest", "vitral", "--ignore-missing-stub", "--mypy-config-file", settings, "--allowlist", allowed],
        ["mypy", "--config-file", settings, "-p", "vitral"],
    ):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
