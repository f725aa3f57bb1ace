"""The estimators, by scikit-learn's own checks."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.neighbors import KNeighborsClassifier  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

import vitral  # noqa: E402
from vitral.sklearn import ViTClassifier, ViTFeatures  # noqa: E402


class _AnyRow:
    """Draws any row of numbers as an image, so that scikit-learn's checks, which know nothing of images, can be run."""

    def _pixels(self, X):
        X = X.astype(np.float64)
        bound = np.abs(X).max(axis=1, keepdims=True) + 1e-12
        levels = np.rint(127.5 + 127.5 * X / bound).astype(np.uint8)
        # Wide bars, which survive resizing.
        return np.repeat(levels[:, np.newaxis], 4, axis=1)


class RowFeatures(_AnyRow, ViTFeatures):
    def __init__(self, model=None, *, pool="pooled", image_shape=(1, 1), batch_size=None, threads=1, device="cpu"):
        super().__init__(model, pool=pool, image_shape=image_shape, batch_size=batch_size, threads=threads, device=device)


class RowClassifier(_AnyRow, ViTClassifier):
    def __init__(
        self, model=None, *, pool="pooled", C=1.0, max_iter=1000, image_shape=(1, 1), batch_size=None, threads=1, device="cpu"
    ):
        super().__init__(
            model, pool=pool, C=C, max_iter=max_iter, image_shape=image_shape, batch_size=batch_size, threads=threads, device=device
        )


#: Checks that cannot hold, and why.
EXPECTED = {}


@parametrize_with_checks([RowFeatures(), RowClassifier()], expected_failed_checks=lambda estimator: EXPECTED)
@pytest.mark.filterwarnings("ignore")
def test_checks(estimator, check):
    check(estimator)


def test_images_of_all_forms(model, images):
    features = ViTFeatures(model).fit(images).transform(images)
    assert np.array_equal(features, model.embed(images))
    assert ViTFeatures(model).fit(images).get_feature_names_out()[-1] == "vit127"
    many = images * 4
    labels = ["car", "bird", "cat"] * 4
    classifier = ViTClassifier(model).fit(many, labels)
    assert classifier.predict(images).tolist() == labels[:3] and classifier.score(many, labels) == 1
    assert classifier.predict_proba(images).shape == (3, 3)
    again = pickle.loads(pickle.dumps(classifier))
    assert again.predict(images).tolist() == labels[:3]
    assert clone(classifier).model is model
    with pytest.raises(ValueError, match="set `image_shape`"):
        ViTFeatures(model).fit(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="0 sample"):
        ViTFeatures(model).fit([])
    with pytest.raises(ValueError, match="from 0 to 255"):
        ViTFeatures(model, image_shape=(2, 2)).fit([[0, 1, 2, 3]]).transform([[0, 1, 2, 300]])


def test_digits_in_rows(model):
    digits = load_digits(n_class=4)
    rows, labels = (digits.data[:240] * 15).astype(np.uint8), digits.target[:240]
    classifier = ViTClassifier(model, pool="mean", image_shape=(8, 8))
    assert cross_val_score(classifier, rows, labels, cv=3).mean() > 0.8
    search = GridSearchCV(classifier, {"C": [0.1, 1.0]}, cv=2).fit(rows, labels)
    assert search.best_score_ > 0.8
    nearest = make_pipeline(ViTFeatures(model, pool="mean", image_shape=(8, 8)), KNeighborsClassifier(3)).fit(rows, labels)
    assert nearest.score(rows, labels) > 0.7
