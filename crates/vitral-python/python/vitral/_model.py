"""Models: classify, embed, look inside."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, overload

import numpy as np
from numpy.typing import NDArray

from . import _images, _native
from ._errors import ConfigError, ImageError
from ._explanation import Map

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

    from ._images import DLPack, Image, Images

    Path: TypeAlias = Union[str, "os.PathLike[str]"]
    Pool = Literal["pooled", "class", "mean", "class-and-mean", "tokens"]
    Precision = Literal["f32", "tf32", "bf16", "f16", "int8"]


class Prediction(NamedTuple):
    """One class that an image may belong to."""

    label: str
    """Its name."""
    score: float
    """Its probability; for a regression the number itself."""
    class_index: int
    """Its number."""
    logit: float
    """What the model gave for it."""


class Model:
    """A Vision Transformer: architecture, weights, and what the model's own files say about preprocessing and labels.

    Use :meth:`load`. A model may be used by several threads at once, also after a fork; it pickles by its path and options,
    not by its weights.
    """

    _native: _native.Model
    _options: dict[str, Any]

    def __init__(self, path: Path | None = None, **options: Any) -> None:
        """The same as :meth:`load`."""
        options = {**_DEFAULTS, **options}
        unknown = set(options) - set(_DEFAULTS)
        if unknown:
            raise TypeError(f"unexpected option `{sorted(unknown)[0]}`; expected one of `{'`, `'.join(_DEFAULTS)}`")
        if options["threads"] is not None and not 1 <= options["threads"] <= 1024:
            raise ConfigError(f"`threads`: expected 1 to 1024, or None for all, found {options['threads']}")
        # As it is pickled: paths mean the same from any folder, and an iterator is used up once.
        ignore = options["ignore"]
        options["ignore"] = [ignore] if isinstance(ignore, str) else list(ignore)
        for side in ("config", "cuda_path"):
            options[side] = None if options[side] is None else _whole(options[side])
        self._options = {"path": path if path is None else _whole(path), **options}
        self._native = _native.Model.load(
            None if path is None else os.fspath(path),
            config=options["config"],
            ignore=options["ignore"],
            precision=options["precision"],
            device=options["device"],
            threads=options["threads"] or 0,
            cuda_path=options["cuda_path"],
            image_size=options["image_size"],
            without_head=options["without_head"],
            backend=options["backend"],
            max_pixels=options["max_pixels"],
            sample_range=str(options["sample_range"]),
            labels=None if options["labels"] is None else _strings("labels", options["labels"]),
            template=_strings("template", options["template"]),
        )

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        *,
        config: Path | None = None,
        ignore: str | Iterable[str] = (),
        precision: Precision | None = None,
        device: str = "auto",
        threads: int | None = None,
        cuda_path: Path | None = None,
        image_size: int | None = None,
        without_head: bool = False,
        backend: Literal["pil", "torchvision"] | None = None,
        max_pixels: int | None = None,
        sample_range: Literal["full", "auto"] | int = "full",
        labels: Iterable[str] | None = None,
        template: str | Iterable[str] = (),
    ) -> Model:
        """Loads a model.

        :param path: a Hugging Face or timm folder, a Vitral bundle, a checkpoint with ``config``, a JAX ``.npz``, or a name
            on the hub such as ``hf:google/vit-base-patch16-224`` or ``timm/…``; without one, the small model that is built
            in. A name is downloaded into the cache of Hugging Face's tools.
        :param config: the file that describes a checkpoint that does not describe itself.
        :param ignore: tensors that may be missing or left over, by name; ``*`` matches anything.
        :param precision: of matrix products; as the model's bundle says, else ``f32`` (on a GPU ``bf16``).
        :param device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ``reference``.
        :param threads: all, unless a number is given. Results do not depend on it.
        :param cuda_path: the folder of NVIDIA's libraries, if they are not found automatically.
        :param image_size: another side in pixels than the model's own: positions are resampled, preprocessing follows.
        :param without_head: leaves the classifier out.
        :param backend: whose arithmetic resizes and normalizes images for Hugging Face's models, as in transformers: ``pil``,
            or ``torchvision``, its default for most models; as the model's bundle says, else ``pil``.
        :param max_pixels: the largest image to decode, in pixels.
        :param sample_range: the range of samples that maps to black through white, of images of more than 8 bits: ``full``,
            ``auto``, or so many bits.
        :param labels: classes in words, for a model of images and texts (CLIP, SigLIP), which then classifies by them.
        :param template: the text for a label, which takes the place of ``{}``, or several, whose mean is used.
        :raises WeightsError: if its files are missing or damaged, or do not fit each other.
        :raises ConfigError: if an option is not valid.
        """
        return cls(
            path,
            config=config,
            ignore=ignore,
            precision=precision,
            device=device,
            threads=threads,
            cuda_path=cuda_path,
            image_size=image_size,
            without_head=without_head,
            backend=backend,
            max_pixels=max_pixels,
            sample_range=sample_range,
            labels=labels if labels is None else _strings("labels", labels),
            template=_strings("template", template),
        )

    # A string or bytes is an iterable, too, but one image.
    @overload
    def classify(  # type: ignore[overload-overlap]
        self, images: Image, top_k: int = ..., *, batch_size: int | None = ..., skip_errors: Literal[False] = ...
    ) -> list[Prediction]: ...
    @overload
    def classify(
        self, images: Iterable[Image], top_k: int = ..., *, batch_size: int | None = ..., skip_errors: Literal[False] = ...
    ) -> list[list[Prediction]]: ...
    @overload
    def classify(
        self, images: Images, top_k: int = ..., *, batch_size: int | None = ..., skip_errors: bool
    ) -> list[Prediction] | list[list[Prediction] | None] | None: ...
    def classify(
        self, images: Images, top_k: int = 5, *, batch_size: int | None = None, skip_errors: bool = False
    ) -> Any:
        """Classifies one image, or several.

        :param images: a path, bytes, a file object, an image of Pillow's, an array ``[height, width, 3]`` of ``uint8`` (NumPy's,
            or by DLPack), or an iterable of such; several arrays may be one, ``[images, height, width, 3]``.
        :param top_k: so many classes of each image, at most.
        :param batch_size: images that go through the model together. Results do not depend on it.
        :param skip_errors: an image that cannot be read gives ``None`` and a warning in the log, instead of an error.
        :returns: for one image the best classes, best first; for several a list of such lists.
        """
        if top_k < 1:
            raise ConfigError(f"`top_k`: expected at least 1, found {top_k}")
        found: list[Any] = []
        for places, rows in self._batches(images, "classify", batch_size, skip_errors, top_k=top_k):
            _extend(found, places, rows, lambda row: [Prediction(*each) for each in row])
        return found[0] if _images.is_one(images) else found

    def embed(
        self, images: Images, pool: Pool = "pooled", *, batch_size: int | None = None, skip_errors: bool = False
    ) -> NDArray[np.float32]:
        """Turns images into feature vectors, with the bits of ``vitral embed``.

        :param images: as for :meth:`classify`.
        :param pool: the model's own pooling (``pooled``), the ``class`` token, the ``mean`` of the patch tokens, both
            (``class-and-mean``), or all ``tokens``, after the final norm.
        :param batch_size: images that go through the model together. Results do not depend on it.
        :param skip_errors: an image that cannot be read gives a row of NaN and a warning in the log, instead of an error.
        :returns: ``float32 [images, width]``; with ``tokens``, ``[images, tokens, width]``. One image is one row.
        """
        return self._gather(images, "embed", batch_size, skip_errors, pool=pool)

    def embed_batches(
        self, images: Iterable[Image], pool: Pool = "pooled", *, batch_size: int | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """The rows of :meth:`embed`, batch by batch, from an iterable that need not fit into memory."""
        for _, rows in self._batches(images, "embed", batch_size, False, pool=pool):
            yield rows

    def preprocess(
        self, images: Images, *, batch_size: int | None = None, skip_errors: bool = False
    ) -> NDArray[np.float32]:
        """What the model sees of images: resized, cropped and normalized as its own files say.

        :returns: ``pixel_values``, ``float32 [images, channels, height, width]``.
        """
        return self._gather(images, "preprocess", batch_size, skip_errors)

    def forward(
        self,
        pixel_values: NDArray[np.float32] | DLPack,
        *,
        mask: NDArray[Any] | DLPack | None = None,
        hidden_states: bool = False,
        attentions: bool = False,
        batch_size: int | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Runs the model on preprocessed pixels.

        :param pixel_values: ``float32 [images, channels, height, width]``; a tensor of another library is not copied on its way
            here.
        :param mask: ``[images, grid height, grid width]``, 1 where a patch is attended to.
        :param hidden_states: adds ``hidden_states.0``, the input of the first block, and ``hidden_states.l`` after block ``l``,
            ``[images, tokens, width]``.
        :param attentions: adds ``attentions.i`` of block ``i``, ``[images, heads, tokens, tokens]``.
        :param batch_size: images that go through the model together. Results do not depend on it.
        :returns: ``logits [images, classes]`` if there is a head, ``features [images, width]``, and what was asked for, under the
            names of ``vitral forward``.
        """
        values = _images.array(pixel_values)
        if values.dtype != np.float32 or values.ndim != 4:
            raise ConfigError(
                "expected `pixel_values` in float32, [images, channels, height, width], found "
                f"{values.dtype} {list(values.shape)}"
            )
        return self._native.forward(
            np.ascontiguousarray(values),
            mask=None if mask is None else _mask(_images.array(mask)),
            hidden_states=hidden_states,
            attentions=attentions,
            batch_size=_positive(batch_size),
        )

    def explain(
        self,
        image: Image,
        method: str = "attention",
        target: str | int | None = None,
        *,
        layer: int | None = None,
        head: int | None = None,
        at: tuple[int, int] | None = None,
        fusion: Literal["mean", "max", "min"] = "mean",
        discard: float = 0.0,
        identity: bool = True,
        mass: float = 0.6,
        steps: int = 32,
        samples: int = 16,
        noise: float = 0.15,
        masks: int = 1000,
        window: int = 3,
        seed: int = 0,
        opacity: float = 0.65,
    ) -> Map:
        """A map over an image: what the model attends to, or what its answer depends on.

        :param image: as for :meth:`classify`.
        :param method: one of :data:`vitral.METHODS`: ``attention``, ``rollout``, ``chefer``, ``gradcam``, ``similarity``…
        :param target: the class to explain, by name or number; the most likely one, if left out. ``"feature"`` explains the
            pooled features, of models without a classifier.
        :param layer: from 0 at the input, or from -1 at the output; the last, if left out.
        :param head: from 0, or from -1 at the end; the mean of all, if left out.
        :param at: column and row of the pixel, in the image file, whose patch ``patch`` and ``similarity`` are about.
        :param fusion: how rollout combines heads.
        :param discard: the fraction of attention weights, weakest first, that rollout drops.
        :param identity: whether rollout counts the residual connection.
        :param mass: the fraction of each head's attention that ``dino`` keeps.
        :param steps: of integrated gradients.
        :param samples: noisy images of SmoothGrad, with ``noise`` as a fraction of the range of the pixels.
        :param masks: of RISE.
        :param window: side of the square that occlusion hides, in patches.
        :param seed: for masks, noise and random maps.
        :param opacity: of the map over its image.
        """
        if method not in METHODS:
            raise ConfigError(f"`method`: expected one of `{'`, `'.join(METHODS)}`, found `{method}`")
        options = dict(
            method=method,
            target=target if target is None or isinstance(target, str) else operator.index(target),
            layer=layer,
            head=head,
            at=at,
            fusion=fusion,
            discard=discard,
            identity=identity,
            mass=mass,
            steps=steps,
            samples=samples,
            noise=noise,
            masks=masks,
            window=window,
            seed=seed,
            opacity=opacity,
        )
        return Map(method, self._native.explain(_images.source(image, self._native.takes_bands()), options))

    def evaluate(
        self,
        data: Path,
        *,
        split: Literal["train", "validation", "test"] = "test",
        mirror: bool = False,
        five_crops: bool = False,
        batch_size: int = 16,
    ) -> dict[str, Any]:
        """Measures a classifier on labeled images: accuracy, loss, calibration, each class; the keys of
        ``vitral evaluate --json``.

        :param data: a folder with one sub-folder for each class, an archive of one, a list, Parquet, idx or CIFAR files.
        :param split: the part to use, if the data has parts.
        :param mirror: averages the logits of each image and its mirror image.
        :param five_crops: averages those of the center and four corner crops.
        """
        options = dict(split=split, mirror=mirror, five_crops=five_crops, batch_size=batch_size)
        found: dict[str, Any] = json.loads(self._native.evaluate(os.fspath(data), **options))  # type: ignore[arg-type]
        return found

    def probe(
        self,
        data: Path,
        *,
        test: Path | None = None,
        pool: Literal["pooled", "class", "mean", "class-and-mean"] = "pooled",
        neighbors: Sequence[int] = (1, 5, 20),
        shots: Sequence[int] = (1, 5, 10, 25),
        batch_size: int = 16,
    ) -> dict[str, Any]:
        """Measures a model's features by nearest neighbors and linear classifiers; the keys of ``vitral probe --json``.

        :param data: labeled images, as for :meth:`evaluate`.
        :param test: test images; those next to the training images, or a tenth split off, if left out.
        """
        found: dict[str, Any] = json.loads(
            self._native.probe(
                os.fspath(data),
                test=None if test is None else os.fspath(test),
                pool=pool,
                neighbors=list(neighbors),
                shots=list(shots),
                batch_size=batch_size,
            )
        )
        return found

    @property
    def info(self) -> dict[str, Any]:
        """What ``vitral info --json`` says: origin, architecture, parameters, cost, preprocessing, labels, license."""
        found: dict[str, Any] = json.loads(self._native.info())
        return found

    @property
    def labels(self) -> list[str] | None:
        """The names of the classes, if the model has any."""
        return self._native.labels

    @property
    def classes(self) -> int:
        """The number of classes; 0 without a classifier."""
        return self._native.classes

    @property
    def name(self) -> str:
        """The model's name."""
        return self._native.name

    @property
    def path(self) -> str | None:
        """The folder or file that it was loaded from; ``None`` for the built-in model."""
        found = self._native.path
        return None if found is None else os.fspath(found)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the model's own images."""
        return self._native.image_size

    @property
    def precision(self) -> str:
        """What matrix products are computed in."""
        return self._native.precision

    @property
    def device(self) -> str:
        """The device: ``cpu``, ``cuda`` or ``reference``."""
        return self._native.device

    @property
    def threads(self) -> int:
        """Threads that decode images, and on the CPU compute."""
        return self._native.threads

    def __repr__(self) -> str:
        return f"Model({self.name!r}, device={self.device!r}, precision={self.precision!r}, threads={self.threads})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._options,)

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: Any) -> Model:
        # It does not change.
        return self

    def _batches(
        self, images: Images, task: str, batch_size: int | None, skip_errors: bool, **options: Any
    ) -> Iterator[tuple[list[int], Any]]:
        """Places and results of the images of each batch; without ``skip_errors``, the first fault is an error."""
        in_step = batch_size == 1 and hasattr(images, "__next__")
        stream = self._native.stream(
            iter(_images.sources(images, self._native.takes_bands())), task, batch_size=_positive(batch_size), in_step=in_step, **options
        )
        for places, faults, found in stream:
            for place, fault in faults:
                if not skip_errors:
                    raise ImageError(fault)
                _native.warn(f"skipped: {fault}")
                yield [place], None
            if places:
                yield places, found

    def _gather(
        self, images: Images, task: str, batch_size: int | None, skip_errors: bool, **options: Any
    ) -> NDArray[np.float32]:
        parts: list[NDArray[np.float32]] = []
        missing: list[int] = []
        order: list[int] = []
        for places, rows in self._batches(images, task, batch_size, skip_errors, **options):
            if rows is None:
                missing += places
                continue
            if parts and parts[0].shape[1:] != rows.shape[1:]:
                raise ImageError(
                    f"image {places[0]}: expected a result of shape {list(parts[0].shape[1:])}, like those before it, found "
                    f"{list(rows.shape[1:])}; put images of different sizes in separate calls"
                )
            order += places
            parts.append(rows)
        if len(parts) == 1 and not missing:
            return parts[0]
        if not parts:
            return np.full((len(missing), 0), np.nan, np.float32)
        if not missing:
            return np.concatenate(parts)
        whole = np.full((len(order) + len(missing), *parts[0].shape[1:]), np.nan, np.float32)
        whole[order] = np.concatenate(parts)
        return whole


#: The kinds of maps that :meth:`Model.explain` makes, by name, each with what it means.
METHODS: dict[str, str] = {name: f"{title}. {meaning}" for name, title, meaning in _native.methods()}

_DEFAULTS: dict[str, Any] = dict(
    config=None,
    ignore=(),
    precision=None,
    device="auto",
    threads=None,
    cuda_path=None,
    image_size=None,
    without_head=False,
    backend=None,
    max_pixels=None,
    sample_range="full",
    labels=None,
    template=(),
)


def _strings(name: str, given: str | Iterable[str]) -> list[str]:
    if isinstance(given, str) and name == "labels":
        raise ConfigError(f"`labels`: expected a list of labels, found one string; write `[{given!r}]`")
    found = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(each, str) for each in found):
        raise ConfigError(f"`{name}`: expected strings")
    return found


def _again(options: dict[str, Any]) -> Model:
    return Model(**options)


def _whole(path: Path) -> str:
    """A path that means the same from any folder; a name on a hub stays what it is."""
    return os.path.abspath(path) if os.path.exists(path) else os.fspath(path)


def _positive(batch_size: int | None) -> int | None:
    if batch_size is not None and batch_size < 1:
        raise ConfigError(f"`batch_size`: expected at least 1, found {batch_size}; leave it out for the default")
    return batch_size


def _mask(mask: NDArray[Any]) -> NDArray[np.uint8]:
    if mask.dtype not in (np.uint8, np.bool_) or mask.ndim != 3:
        raise ConfigError(
            "expected `mask` in uint8 or bool, [images, grid height, grid width], 1 where a patch is attended to, found "
            f"{mask.dtype} {list(mask.shape)}"
        )
    return np.ascontiguousarray(mask).view(np.uint8)


def _extend(found: list[Any], places: list[int], rows: Any, form: Any) -> None:
    """Puts the results of a batch in their places."""
    found.extend([None] * (max(places) + 1 - len(found)))
    for place, row in zip(places, [None] * len(places) if rows is None else rows):
        found[place] = None if row is None else form(row)
