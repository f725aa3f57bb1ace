"""Functions on files: conversion, checks, evaluation, fine-tuning."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union

from . import _native
from ._errors import ConfigError
from ._model import Model

if TYPE_CHECKING:
    from ._model import Path


class Difference(NamedTuple):
    """What a converted model does not keep."""

    field: str
    model: str
    target: str


def create_model(
    name: str,
    pretrained: Union[Path, bool] = True,
    *,
    num_classes: int | None = None,
    img_size: int | None = None,
    **load: Any,
) -> Model:
    """A model by the name of its architecture, in timm's way.

    :param name: ``vit_base_patch16_224``, ``B/16``…; the weights must be of this size.
    :param pretrained: the path of the weights, or a name on the hub; ``True`` is timm's own, ``timm/NAME`` on the hub.
    :param num_classes: ``0`` leaves the classifier out.
    :param img_size: another side in pixels: positions are resampled.
    :param load: options of :meth:`Model.load`.
    """
    if pretrained is False:
        raise ConfigError(
            "expected `pretrained` to be True or a path, found False: models come with weights here; `vitral train` makes new ones"
        )
    model = Model(
        f"timm/{name}" if pretrained is True else pretrained, image_size=img_size, without_head=num_classes == 0, **load
    )
    # timm adds a tag of where the weights are from.
    model._native.check_named(name.split(".")[0])
    if num_classes not in (None, 0, model.classes):
        raise ConfigError(
            f"`{name}`: expected {model.classes} classes, as the weights have, or 0, found {num_classes}; `finetune` makes a new "
            "classifier"
        )
    return model


def convert(
    model: Path,
    destination: Path,
    to: str,
    *,
    config: Path | None = None,
    allow: Union[str, Iterable[str]] = (),
    image_size: int | None = None,
    dtype: Literal["f32", "bf16", "f16"] = "f32",
) -> list[Difference]:
    """Writes a model in another library's format. What was written is loaded again and must compute the same.

    :param model: as for :meth:`Model.load`.
    :param destination: a new folder, or a ``.npz`` file for ``jax`` and ``big_vision``.
    :param to: ``huggingface``, ``timm``, ``jax``, ``big_vision``, ``torchvision`` or ``bundle``.
    :param allow: what may differ in the target, by the name in the refusal.
    :returns: the differences that were allowed.
    """
    found = _native.convert(
        os.fspath(model),
        os.fspath(destination),
        to,
        config=None if config is None else os.fspath(config),
        allow=[allow] if isinstance(allow, str) else list(allow),
        image_size=image_size,
        dtype=dtype,
    )
    return [Difference(*each) for each in found]


def doctor(model: Path, *, config: Path | None = None) -> list[dict[str, str]]:
    """Checks that a model is complete and consistent: its findings, each with ``severity`` (``good``, ``note``, ``warning``,
    ``fault``), ``subject`` and ``text``."""
    found = _native.doctor(os.fspath(model), config=None if config is None else os.fspath(config))
    findings: list[dict[str, str]] = json.loads(found)["findings"]
    return findings


def evaluate(model: Union[Path, Model, None], data: Path, **options: Any) -> dict[str, Any]:
    """:meth:`Model.evaluate`, of a model or of the one at a path."""
    return _model(model).evaluate(data, **options)


def probe(model: Union[Path, Model, None], data: Path, **options: Any) -> dict[str, Any]:
    """:meth:`Model.probe`, of a model or of the one at a path."""
    return _model(model).probe(data, **options)


def finetune(
    model: Path,
    data: Path,
    out: Path,
    *,
    test: Path | None = None,
    recipe_file: Path | None = None,
    lora_rank: int | None = None,
    image_size: int | None = None,
    on_epoch: Callable[[dict[str, Any]], object] | None = None,
    device: str = "auto",
    threads: int | None = None,
    cuda_path: Path | None = None,
    **recipe: Any,
) -> dict[str, Any]:
    """Fine-tunes a model on labeled images, or goes on with the run in ``out``, however it was stopped.

    Ctrl-C stops after the step in progress and leaves a run that the same call resumes, with the same bits as without the
    interruption.

    :param model: what to start from: a path, or a name on the hub.
    :param data: the images: a folder with one sub-folder for each class, an archive of one, a list, Parquet…
    :param out: the run's folder: recipe, journal, checkpoints, the ``best`` model, a report.
    :param test: validation images; those next to the training images, or a tenth split off, if left out.
    :param recipe_file: a recipe (TOML) in place of the default one.
    :param lora_rank: trains only low-rank updates of this rank, and the classifier.
    :param image_size: another side in pixels; positions are resampled.
    :param on_epoch: called after each epoch with the journal's entry, and ``best``. An exception in it stops the run as Ctrl-C does.
    :param recipe: keys of the recipe, as with ``--set``: ``run={"epochs": 5}``, or ``**{"run.epochs": 5}``.
    :returns: ``best_accuracy``, ``epoch``, ``chosen_on``, ``test_accuracy``, and the paths ``model`` and ``report``.
    """

    if threads is not None and not 1 <= threads <= 1024:
        raise ConfigError(f"`threads`: expected 1 to 1024, or None for all, found {threads}")

    def told(entry: str, best: bool) -> None:
        if on_epoch is not None:
            on_epoch({**json.loads(entry), "best": best})

    found: dict[str, Any] = json.loads(
        _native.finetune(
            os.fspath(model),
            os.fspath(data),
            os.fspath(out),
            test=None if test is None else os.fspath(test),
            recipe=None if recipe_file is None else os.fspath(recipe_file),
            lora=lora_rank,
            image_size=image_size,
            settings=[f"{key}={_toml(value)}" for key, value in _flat(recipe)],
            callback=None if on_epoch is None else told,
            device=device,
            threads=threads or 0,
            cuda_path=None if cuda_path is None else os.fspath(cuda_path),
        )
    )
    return found


def images_in(folder: Path) -> list[str]:
    """The images in a folder and its sub-folders, in the order of the command line. Nothing is opened."""
    return [os.fspath(path) for path in _native.images_in(os.fspath(folder))]


def _model(model: Union[Path, Model, None]) -> Model:
    return model if isinstance(model, Model) else Model(model)


def _flat(recipe: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a recipe, with those of tables written out: ``run.epochs``."""
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in value.items())} }}"
    # A string of JSON's is one of TOML's.
    return json.dumps(os.fspath(value), ensure_ascii=False)
