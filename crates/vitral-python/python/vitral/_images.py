"""The forms in which images come."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Union

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

    class ArrayLike(Protocol):
        """Anything that NumPy makes an array of without copying it."""

        @property
        def __array_interface__(self) -> dict[str, Any]: ...

    class DLPack(Protocol):
        """A tensor of another library, as by the DLPack protocol."""

        def __dlpack__(self) -> Any: ...
        def __dlpack_device__(self) -> tuple[int, int]: ...

    class PillowImage(Protocol):
        """An image of Pillow's."""

        def getexif(self) -> Any: ...
        def convert(self, mode: str) -> Any: ...

    Image: TypeAlias = Union[
        str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, PillowImage, NDArray[np.uint8], ArrayLike, DLPack
    ]
    Images: TypeAlias = Union[Image, Iterable[Image]]


def array(tensor: Any) -> NDArray[Any]:
    """A tensor as a NumPy array; without a copy where its library allows it.

    Takes NumPy arrays and whatever has ``__dlpack__`` (PyTorch, JAX, CuPy on the CPU), ``__array_interface__`` or
    ``__array__``.
    """
    if isinstance(tensor, np.ndarray):
        return tensor
    detach = getattr(tensor, "detach", None)
    if detach is not None:
        # PyTorch does not export what is still on its tape.
        tensor = detach()
    if hasattr(tensor, "__dlpack__"):
        try:
            return np.from_dlpack(tensor)
        except (BufferError, RuntimeError, TypeError):
            # A type that DLPack does not have, or a tensor on a GPU: NumPy may still know how to get at the values.
            pass
    return np.asarray(tensor)


def is_one(images: Any) -> bool:
    """Whether this is one image, not several."""
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)) or _is_pillow(images):
        return True
    if hasattr(images, "read"):
        return True
    shape = getattr(images, "shape", None)
    # An array of paths is several images.
    return shape is not None and len(shape) in (2, 3)


def sources(images: Images, bands: bool = False) -> Iterator[str | bytes | NDArray[Any]]:
    """Each image in a form that the compiled part takes: a path, bytes, or pixels ``[height, width, 3]``; with ``bands``, samples
    ``[height, width, bands]`` or ``[bands, height, width]``."""
    if is_one(images):
        yield source(images, bands)  # type: ignore[arg-type]
        return
    if hasattr(images, "__dlpack__") or hasattr(images, "__array_interface__"):
        images = array(images)
    several: Any = images
    for image in several:
        yield source(image, bands)


def source(image: Image, bands: bool = False) -> str | bytes | NDArray[Any]:
    """An image in a form that the compiled part takes."""
    if isinstance(image, str):
        if image.startswith(("http://", "https://")):
            raise _image_error(f"`{image}`: expected a file, found an address; download it, and pass its bytes")
        return image
    if isinstance(image, bytes):
        return image
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, os.PathLike):
        return os.fspath(image)
    if _is_pillow(image):
        return _of_pillow(image, bands)
    if hasattr(image, "read"):
        data = image.read()
        if not isinstance(data, bytes):
            raise TypeError(f"expected a file opened in binary mode, found one that gives {type(data).__name__}")
        return data
    if not (hasattr(image, "__dlpack__") or hasattr(image, "__array_interface__") or hasattr(image, "__array__")):
        raise TypeError(
            "expected an image: a path, bytes, a file object, an image of Pillow's, or an array [height, width, 3] of uint8; "
            f"found {type(image).__name__}"
        )
    return _samples(array(image)) if bands else _pixels(array(image))


def _samples(samples: NDArray[Any]) -> NDArray[Any]:
    if samples.dtype in (np.uint8, np.uint16, np.float32):
        return samples
    if samples.dtype in (np.float16, np.float64):
        return samples.astype(np.float32)
    raise _image_error(f"expected samples of type uint8, uint16 or float32, found {samples.dtype}; convert them")


def _pixels(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8:
        raise _image_error(
            f"expected pixels of type uint8, from 0 to 255, found {pixels.dtype}; convert them, or pass what is already "
            "preprocessed to `forward`"
        )
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] not in (3, 4)):
        hint = "; transpose it" if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) else ""
        raise _image_error(f"expected pixels [height, width, 3], found an array of shape {list(pixels.shape)}{hint}")
    return pixels


def _is_pillow(image: Any) -> bool:
    # Without importing Pillow, which need not be there.
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(image).__mro__)


def _of_pillow(image: Any, bands: bool) -> NDArray[Any]:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        if bands and upright.mode != "I":
            samples = np.asarray(upright)[:, :, np.newaxis]
            # Also in the byte order of another machine.
            return samples.astype(samples.dtype.newbyteorder("="))
        raise _image_error(
            f"expected an image of 8 bits, found one of Pillow's mode `{upright.mode}`, whose samples Pillow would cut off at 255; "
            "pass the file's path or its bytes, or scale it to 8 bits"
        )
    return np.asarray(upright.convert("RGB"))


def _image_error(text: str) -> Exception:
    from ._errors import ImageError

    return ImageError(text)
