"""Pipelines, called and answering as those of Hugging Face transformers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Union, overload

import numpy as np

from . import _images
from ._errors import ConfigError
from ._model import Model, _positive

if TYPE_CHECKING:
    from ._images import Image, Images

    Answer = list[dict[str, Any]]


class ImageClassificationPipeline:
    """Classifies images; see :func:`pipeline`."""

    task = "image-classification"

    def __init__(
        self,
        model: Model,
        *,
        top_k: int | None = 5,
        function_to_apply: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.model = model
        self._defaults: dict[str, Any] = dict(top_k=top_k, function_to_apply=function_to_apply, batch_size=batch_size)

    def __call__(
        self,
        inputs: Images | None = None,
        *,
        images: Images | None = None,
        top_k: Any = ...,
        function_to_apply: Any = ...,
        batch_size: Any = ...,
    ) -> Any:
        """Classifies one image, several, or those of a generator.

        :param inputs: as for :meth:`Model.classify`; also under the name ``images``.
        :param top_k: so many classes of each image, at most; ``None`` is all.
        :param function_to_apply: what logits become: ``softmax``, ``sigmoid`` or ``none``; as the model's files say, if left out.
        :param batch_size: images that go through the model together. Results do not depend on it.
        :returns: for one image a list of ``{"label", "score"}``, best first; for a list of images a list of such lists; for
            any other iterable an iterator of them.
        """
        given = dict(top_k=top_k, function_to_apply=function_to_apply, batch_size=batch_size)
        options: dict[str, Any] = {name: self._defaults[name] if value is ... else value for name, value in given.items()}
        inputs = _given(inputs, images)
        return _answer(inputs, self._answers(inputs, **options))

    def _answers(
        self, inputs: Images, top_k: int | None, function_to_apply: str | None, batch_size: int | None
    ) -> Iterator[Answer]:
        if top_k is not None and top_k < 1:
            raise ConfigError(f"`top_k`: expected at least 1, or None for all, found {top_k}")
        options = dict(top_k=self.model.classes if top_k is None else top_k, apply=function_to_apply)
        for _, rows in self.model._batches(inputs, "classify", _positive(batch_size), False, **options):
            for row in rows:
                yield [{"label": label, "score": score} for label, score, _, _ in row]


class ImageFeatureExtractionPipeline:
    """Turns images into features; see :func:`pipeline`."""

    task = "image-feature-extraction"

    def __init__(
        self, model: Model, *, pool: bool = False, return_tensors: bool = False, batch_size: int | None = None
    ) -> None:
        self.model = model
        self._defaults: dict[str, Any] = dict(pool=pool, return_tensors=return_tensors, batch_size=batch_size)

    def __call__(
        self,
        inputs: Images | None = None,
        *,
        images: Images | None = None,
        pool: Any = ...,
        return_tensors: Any = ...,
        batch_size: Any = ...,
    ) -> Any:
        """The features of one image, of several, or of those of a generator.

        :param inputs: as for :meth:`Model.classify`; also under the name ``images``.
        :param pool: the pooled features, ``[1, width]``, in place of all tokens after the final norm, ``[1, tokens, width]``.
        :param return_tensors: NumPy arrays in place of nested lists.
        :param batch_size: images that go through the model together. Results do not depend on it.
        :returns: for one image its features; for a list of images a list of them; for any other iterable an iterator.
        """
        given = dict(pool=pool, return_tensors=return_tensors, batch_size=batch_size)
        options: dict[str, Any] = {name: self._defaults[name] if value is ... else value for name, value in given.items()}
        inputs = _given(inputs, images)
        return _answer(inputs, self._answers(inputs, **options))

    def _answers(self, inputs: Images, pool: bool, return_tensors: bool, batch_size: int | None) -> Iterator[Any]:
        kind = "pooled" if pool else "tokens"
        for _, rows in self.model._batches(inputs, "embed", _positive(batch_size), False, pool=kind):
            for row in rows:
                yield row[np.newaxis] if return_tensors else [row.tolist()]


class ZeroShotImageClassificationPipeline:
    """Classifies images by words; see :func:`pipeline`."""

    task = "zero-shot-image-classification"

    def __init__(
        self,
        model: Model,
        *,
        candidate_labels: Iterable[str] | None = None,
        hypothesis_template: str = "This is a photo of {}.",
        batch_size: int | None = None,
    ) -> None:
        self.model = model
        self._defaults: dict[str, Any] = dict(
            candidate_labels=candidate_labels, hypothesis_template=hypothesis_template, batch_size=batch_size
        )
        self._last: tuple[Any, Model] | None = None

    def __call__(
        self,
        inputs: Images | None = None,
        candidate_labels: Any = ...,
        *,
        image: Images | None = None,
        images: Images | None = None,
        hypothesis_template: Any = ...,
        batch_size: Any = ...,
    ) -> Any:
        """Classifies one image, several, or those of a generator.

        :param inputs: as for :meth:`Model.classify`; also under the names ``image`` and ``images``.
        :param candidate_labels: the classes, in words: a list, or a string with commas.
        :param hypothesis_template: the text for a label, which takes the place of ``{}``.
        :param batch_size: images that go through the model together. Results do not depend on it.
        :returns: for one image a list of ``{"score", "label"}``, best first; for a list of images a list of such lists; for any
            other iterable an iterator of them.
        """
        given = dict(candidate_labels=candidate_labels, hypothesis_template=hypothesis_template, batch_size=batch_size)
        options: dict[str, Any] = {name: self._defaults[name] if value is ... else value for name, value in given.items()}
        inputs = _given(inputs, images if image is None else image)
        return _answer(inputs, self._answers(inputs, **options))

    def _answers(
        self, inputs: Images, candidate_labels: Any, hypothesis_template: str, batch_size: int | None
    ) -> Iterator[Answer]:
        if candidate_labels is None:
            raise ConfigError("`candidate_labels`: expected the classes in words")
        labels = candidate_labels.split(",") if isinstance(candidate_labels, str) else list(candidate_labels)
        model = self._classifier([label.strip() for label in labels], hypothesis_template)
        for _, rows in model._batches(inputs, "classify", _positive(batch_size), False, top_k=len(labels), apply=None):
            for row in rows:
                yield [{"score": score, "label": label} for label, score, _, _ in row]

    def _classifier(self, labels: list[str], template: str) -> Model:
        """The model with these classes; that of the last call is kept."""
        asked = (tuple(labels), template)
        if self._last is None or self._last[0] != asked:
            self._last = asked, Model(**{**self.model._options, "labels": labels, "template": template})
        return self._last[1]


def _given(inputs: Any, images: Any) -> Any:
    if (inputs is None) == (images is None):
        raise TypeError("expected images, as the first argument or as `images`")
    return images if inputs is None else inputs


def _answer(inputs: Any, answers: Iterator[Any]) -> Any:
    if _images.is_one(inputs):
        return next(answers)
    if isinstance(inputs, (list, tuple)) or hasattr(inputs, "shape"):
        return list(answers)
    return answers


_TASKS: dict[str, Any] = {
    "image-classification": ImageClassificationPipeline,
    "image-feature-extraction": ImageFeatureExtractionPipeline,
    "zero-shot-image-classification": ZeroShotImageClassificationPipeline,
}

_OPTIONS: dict[str, tuple[str, ...]] = {
    "image-classification": ("top_k", "function_to_apply", "batch_size"),
    "image-feature-extraction": ("pool", "return_tensors", "batch_size"),
    "zero-shot-image-classification": ("candidate_labels", "hypothesis_template", "batch_size"),
}


@overload
def pipeline(
    task: Literal["image-classification"],
    model: Union[str, os.PathLike[str], Model, None] = ...,
    *,
    top_k: int | None = ...,
    function_to_apply: str | None = ...,
    batch_size: int | None = ...,
    **load: Any,
) -> ImageClassificationPipeline: ...
@overload
def pipeline(
    task: Literal["image-feature-extraction"],
    model: Union[str, os.PathLike[str], Model, None] = ...,
    *,
    pool: bool = ...,
    return_tensors: bool = ...,
    batch_size: int | None = ...,
    **load: Any,
) -> ImageFeatureExtractionPipeline: ...
@overload
def pipeline(
    task: Literal["zero-shot-image-classification"],
    model: Union[str, os.PathLike[str], Model, None] = ...,
    *,
    candidate_labels: Iterable[str] | None = ...,
    hypothesis_template: str = ...,
    batch_size: int | None = ...,
    **load: Any,
) -> ZeroShotImageClassificationPipeline: ...
def pipeline(task: str, model: Any = None, **options: Any) -> Any:
    """A pipeline, called and answering as those of Hugging Face transformers.

    :param task: ``image-classification``, ``image-feature-extraction`` or ``zero-shot-image-classification``.
    :param model: a :class:`Model`, or what :meth:`Model.load` takes; the built-in model, if left out.
    :param options: defaults for the calls (``top_k``, ``batch_size``…), and options of :meth:`Model.load`.
    """
    kind = _TASKS.get(task)
    if kind is None:
        raise ConfigError(f"expected a task among `{'`, `'.join(_TASKS)}`, found `{task}`")
    defaults = {name: options.pop(name) for name in _OPTIONS[task] if name in options}
    if isinstance(model, Model):
        if options:
            raise TypeError(f"`{sorted(options)[0]}` is an option of `Model.load`, and the model is loaded already")
    else:
        model = Model(model, **options)
    return kind(model, **defaults)
