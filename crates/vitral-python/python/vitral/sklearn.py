"""Estimators for scikit-learn: features of a Vision Transformer, and a linear classifier on them.

``X`` is a sequence of images: paths, bytes, arrays ``[height, width, 3]`` of ``uint8``, images of Pillow's, or one array ``[images,
height, width, 3]``. With ``image_shape``, ``X`` may also be a matrix with the pixels of one image in each row, as in scikit-learn's
own data sets.
"""

from __future__ import annotations

import os
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d

from ._model import Model

__all__ = ["ViTClassifier", "ViTFeatures"]


class _OnImages(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: how images come, and the model."""

    model: Any
    image_shape: tuple[int, ...] | None
    threads: int | None
    device: str

    def _load(self) -> None:
        given = self.model
        self.model_ = given if isinstance(given, Model) else Model.load(given, threads=self.threads, device=self.device)

    def _images(self, X: Any, *, fitting: bool = False) -> Any:
        """The images in ``X``, one after the other."""
        if self.image_shape is None:
            if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype != object:
                raise ValueError(
                    f"expected images, found a matrix of shape {X.shape}; set `image_shape` if each row holds the pixels of one"
                )
            images = list(X)
            if not images:
                raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required: expected images")
            return images
        X = check_array(X)
        if fitting:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features as input"
            )
        return list(self._pixels(X))

    def _pixels(self, X: NDArray[Any]) -> NDArray[np.uint8]:
        """Rows of pixels as images."""
        if X.shape[1] != np.prod(self.image_shape):  # type: ignore[arg-type]
            raise ValueError(f"expected {np.prod(self.image_shape)} pixels {self.image_shape}, found {X.shape[1]}")  # type: ignore[arg-type]
        rounded = np.clip(np.rint(X), 0, 255).astype(np.uint8)
        if not np.array_equal(rounded, X):
            raise ValueError("expected pixels from 0 to 255 in whole numbers, found others; scale them")
        images: NDArray[np.uint8] = rounded.reshape(len(rounded), *self.image_shape)  # type: ignore[misc]
        return images

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = self.image_shape is None
        tags.input_tags.string = self.image_shape is None
        # The features do not depend on `y`, nor on other images.
        tags.no_validation = False
        return tags


class ViTFeatures(TransformerMixin, _OnImages):  # type: ignore[misc]
    """Turns images into feature vectors, ``float32 [images, width]``. It learns nothing.

    :param model: a :class:`vitral.Model`, or what :meth:`vitral.Model.load` takes; the built-in model, if left out.
    :param pool: as for :meth:`vitral.Model.embed`; not ``tokens``.
    :param image_shape: the shape of the image in each row of ``X``, ``(height, width)`` or ``(height, width, 3)``, if ``X`` is a
        matrix.
    :param batch_size: images that go through the model together. Results do not depend on it.
    """

    def __init__(
        self,
        model: Union[str, os.PathLike[str], Model, None] = None,
        *,
        pool: Any = "pooled",
        image_shape: tuple[int, ...] | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
        device: str = "auto",
    ) -> None:
        self.model = model
        self.pool = pool
        self.image_shape = image_shape
        self.batch_size = batch_size
        self.threads = threads
        self.device = device

    def fit(self, X: Any, y: Any = None) -> ViTFeatures:
        """Loads the model. Images are not looked at."""
        self._images(X, fitting=True)
        self._load()
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The features of images, ``float32 [images, width]``."""
        check_is_fitted(self, "model_")
        if self.pool == "tokens":
            raise ValueError("expected one vector for each image: `pool` cannot be `tokens`")
        return self.model_.embed(self._images(X), pool=self.pool, batch_size=self.batch_size)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """``vit0``, ``vit1``…"""
        check_is_fitted(self, "model_")
        width = self.model_.embed(np.zeros((32, 32, 3), np.uint8), pool=self.pool).shape[1]
        return np.asarray([f"vit{i}" for i in range(width)], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = []
        return tags


class ViTClassifier(ClassifierMixin, _OnImages):  # type: ignore[misc]
    """Classifies images by a linear classifier (logistic regression) on the features of a frozen model.

    :param model: as for :class:`ViTFeatures`; it needs no classifier of its own.
    :param pool: as for :class:`ViTFeatures`.
    :param C: the inverse of the strength of the penalty.
    :param max_iter: iterations of the solver, at most.
    :param image_shape: as for :class:`ViTFeatures`.
    """

    def __init__(
        self,
        model: Union[str, os.PathLike[str], Model, None] = None,
        *,
        pool: Any = "pooled",
        C: float = 1.0,
        max_iter: int = 1000,
        image_shape: tuple[int, ...] | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
        device: str = "auto",
    ) -> None:
        self.model = model
        self.pool = pool
        self.C = C
        self.max_iter = max_iter
        self.image_shape = image_shape
        self.batch_size = batch_size
        self.threads = threads
        self.device = device

    def fit(self, X: Any, y: Any) -> ViTClassifier:
        """Fits the classifier on images and their labels."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        images = self._images(X, fitting=True)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if len(images) != len(y):
            raise ValueError(f"expected one label for each image, found {len(images)} images and {len(y)} labels")
        if len(np.unique(y)) < 2:
            raise ValueError(f"expected labels of at least two classes, found one class: {y[0]}")
        self._load()
        # Features differ in scale; the solver and its penalty do not want them to.
        self.head_ = make_pipeline(StandardScaler(), LogisticRegression(C=self.C, max_iter=self.max_iter))
        self.head_.fit(self._features(images), y)
        self.classes_ = self.head_.classes_
        self.n_iter_ = self.head_[-1].n_iter_
        return self

    def decision_function(self, X: Any) -> NDArray[np.floating[Any]]:
        """Scores of the classes, ``[images, classes]``; with two classes, of the second one, ``[images]``."""
        check_is_fitted(self, "head_")
        scores: NDArray[np.floating[Any]] = self.head_.decision_function(self._features(self._images(X)))
        return scores

    def predict_proba(self, X: Any) -> NDArray[np.floating[Any]]:
        """Probabilities of the classes, ``[images, classes]``."""
        check_is_fitted(self, "head_")
        shares: NDArray[np.floating[Any]] = self.head_.predict_proba(self._features(self._images(X)))
        return shares

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable class of each image."""
        check_is_fitted(self, "head_")
        classes: NDArray[Any] = self.head_.predict(self._features(self._images(X)))
        return classes

    def _features(self, images: Any) -> NDArray[np.float32]:
        return self.model_.embed(images, pool=self.pool, batch_size=self.batch_size)
