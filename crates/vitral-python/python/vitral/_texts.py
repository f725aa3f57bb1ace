"""Texts beside images."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import _native
from ._errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._model import Path


class TextModel:
    """The text tower of a model of images and texts (CLIP, SigLIP), with its tokenizer.

    Use :meth:`load`. Vectors of texts and of images (:meth:`Model.embed`) are compared by their cosine.
    """

    _tower: _native.TextModel

    def __init__(self, tower: _native.TextModel) -> None:
        self._tower = tower

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        config: Path | None = None,
        device: str = "auto",
        threads: int | None = None,
        cuda_path: Path | None = None,
    ) -> TextModel:
        """Loads the text tower beside the vision tower; options as in :meth:`Model.load`.

        :raises WeightsError: if there is no text tower or no tokenizer, or its files are damaged.
        """
        return cls(
            _native.TextModel.load(
                os.fspath(path),
                config=None if config is None else os.fspath(config),
                device=device,
                threads=threads or 0,
                cuda_path=None if cuda_path is None else os.fspath(cuda_path),
            )
        )

    def embed(self, texts: str | Iterable[str]) -> NDArray[np.float32]:
        """The vectors of texts, ``float32 [texts, width]``; of one text ``[width]``. A text has the same bits alone and among others.

        :raises ConfigError: if a text has more tokens than the model takes.
        """
        one = isinstance(texts, str)
        given = [texts] if isinstance(texts, str) else list(texts)
        if not given:
            raise ConfigError("expected at least one text")
        found = self._tower.embed(given)
        return found[0] if one else found

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, as the model gets them."""
        return self._tower.tokens(text)

    @property
    def scale(self) -> float:
        """What similarities of images and texts are multiplied by before they become probabilities."""
        return self._tower.scale_and_bias()[0]

    @property
    def bias(self) -> float:
        """What is added to them."""
        return self._tower.scale_and_bias()[1]
