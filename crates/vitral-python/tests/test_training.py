"""Fine-tuning, stopped and resumed."""

import json
import logging
import os
import signal
from pathlib import Path

import pytest

import vitral

RECIPE = dict(run={"epochs": 3, "batch": 6, "checkpoint_every": 1}, **{"schedule.warmup_epochs": 0})


def weights(folder):
    return (Path(folder) / "best" / "model.safetensors").read_bytes()


def test_a_run_and_its_model(golden, flowers, tmp_path, caplog):
    seen = []
    with caplog.at_level(logging.INFO, "vitral"):
        found = vitral.finetune(golden("hf_vit_classifier"), flowers, tmp_path / "run", on_epoch=seen.append, **RECIPE)
    assert [entry["epoch"] for entry in seen] == [1, 2, 3] and {"train_loss", "best"} <= seen[0].keys()
    assert "epoch 3 of 3" in caplog.text
    assert found["model"] == str(tmp_path / "run" / "best") and os.path.exists(found["report"])
    model = vitral.Model.load(found["model"])
    assert model.labels == ["blue", "green", "red"]
    report = model.evaluate(flowers, mirror=True)
    assert 0 <= report["top1"] <= 1 and report["precision"] == "f32"
    assert abs(model.evaluate(flowers)["top1"] - found["best_accuracy"]) < 1e-6
    # Run again, there is nothing to do.
    assert vitral.finetune(golden("hf_vit_classifier"), flowers, tmp_path / "run", **RECIPE) == found


def test_stopped_runs_go_on(golden, flowers, tmp_path):
    path = golden("hf_vit_classifier")
    vitral.finetune(path, flowers, tmp_path / "whole", **RECIPE)

    def interrupt(entry):
        if entry["epoch"] == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        vitral.finetune(path, flowers, tmp_path / "stopped", on_epoch=interrupt, **RECIPE)

    def fail(entry):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        vitral.finetune(path, flowers, tmp_path / "stopped", on_epoch=fail, **RECIPE)
    vitral.finetune(path, flowers, tmp_path / "stopped", **RECIPE)
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    lines = (tmp_path / "stopped" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_the_command_line_makes_the_same(cli, golden, flowers, tmp_path):
    settings = ["run.epochs=1", "run.batch=6", "lora.rank=2", "augment.horizontal_flip=0.0", "run.seed=3"]
    arguments = [each for setting in settings for each in ("--set", setting)]
    cli("finetune", "--model", golden("hf_vit_model"), flowers, "--out", tmp_path / "cli", *arguments)
    recipe = dict(run=dict(epochs=1, batch=6, seed=3), lora={"rank": 2}, augment={"horizontal_flip": 0.0})
    vitral.finetune(golden("hf_vit_model"), flowers, tmp_path / "python", **recipe)
    assert weights(tmp_path / "python") == weights(tmp_path / "cli")


def test_what_is_refused(golden, flowers, tmp_path):
    path = golden("hf_vit_classifier")
    for recipe, said in [
        ({"run.epoch": 3}, "epoch"),
        ({"run": {"epochs": 0}}, "`run.epochs`"),
        ({"schedule.learning_rate": "fast"}, "schedule.learning_rate"),
    ]:
        with pytest.raises(vitral.ConfigError) as fault:
            vitral.finetune(path, flowers, tmp_path / "run", **recipe)
        assert said in str(fault.value)
    with pytest.raises(vitral.Error):
        vitral.finetune(path, tmp_path / "absent", tmp_path / "run")
    with pytest.raises(vitral.WeightsError):
        vitral.finetune(tmp_path / "absent", flowers, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(vitral.ConfigError, match="`split`"):
        vitral.evaluate(path, flowers, split="all")
    with pytest.raises(vitral.ConfigError, match="`pool`"):
        vitral.probe(path, flowers, pool="none")
