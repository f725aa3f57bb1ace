"""Maps over images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray

from ._errors import ConfigError

if TYPE_CHECKING:
    from . import _native
    from ._model import Prediction


class Map:
    """A map over an image. In a notebook it shows itself, drawn over the image."""

    def __init__(self, method: str, native: _native.Explained) -> None:
        self._native = native
        #: The method that made it.
        self.method = method
        #: The numbers, ``float32 [rows, columns]``: of patches, or of pixels.
        self.values: NDArray[np.float32] = native.values()
        #: What was explained, in words.
        self.explained: str = native.explained

    @property
    def predictions(self) -> list[Prediction]:
        """The most likely classes, best first; empty without a classifier."""
        from ._model import Prediction

        return [Prediction(*each) for each in self._native.ranked]

    @property
    def image(self) -> NDArray[np.uint8]:
        """What the model sees of the image, ``uint8 [height, width, 3]``."""
        return self._native.image()

    @property
    def overlay(self) -> NDArray[np.uint8]:
        """The map over the image, ``uint8 [height, width, 3]``."""
        return self._native.overlay()

    def save(self, path: Union[str, os.PathLike[str]]) -> None:
        """Writes the map: the drawing as ``.png``, or the numbers as ``.npy``."""
        path = os.fspath(path)
        ending = os.path.splitext(path)[1].lower()
        if ending not in (".png", ".npy"):
            raise ConfigError(f"`{path}`: expected a name that ends in .png or .npy, found `{ending}`")
        # Not at the top: it takes longer to import than all of this package.
        import tempfile

        # The file appears when it is complete.
        folder = os.path.dirname(path) or "."
        with tempfile.NamedTemporaryFile(dir=folder, suffix=ending, delete=False) as file:
            try:
                if ending == ".png":
                    file.write(self._native.png())
                else:
                    np.save(file, self.values)
                file.close()
                os.chmod(file.name, 0o666 & ~_umask())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.values if dtype is None else self.values.astype(dtype)

    def _repr_png_(self) -> bytes:
        return self._native.png()

    def __repr__(self) -> str:
        rows, columns = self.values.shape
        return f"Map({self.method!r}, {rows} x {columns}, of {self.explained})"


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
