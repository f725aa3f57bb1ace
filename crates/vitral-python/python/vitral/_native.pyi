"""The compiled part of the package; use the package itself."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "__version__",
    "Model",
    "Stream",
    "Explained",
    "convert",
    "doctor",
    "images_in",
    "warn",
    "methods",
    "finetune",
]

__version__: str

_Ranked = tuple[str, float, int, float]

@final
class Model:
    @staticmethod
    def load(
        path: str | None,
        *,
        config: str | None,
        ignore: list[str],
        precision: str | None,
        device: str,
        threads: int,
        cuda_path: str | None,
        image_size: int | None,
        without_head: bool,
        backend: str | None,
        max_pixels: int | None,
        sample_range: str,
        labels: list[str] | None,
        template: list[str],
    ) -> Model: ...
    def stream(
        self,
        images: Iterator[str | bytes | NDArray[Any]],
        task: str,
        *,
        top_k: int = 0,
        apply: str | None = None,
        pool: str = "pooled",
        batch_size: int | None = None,
        in_step: bool = False,
    ) -> Stream: ...
    def forward(
        self,
        pixel_values: NDArray[np.float32],
        *,
        mask: NDArray[np.uint8] | None,
        hidden_states: bool,
        attentions: bool,
        batch_size: int | None,
    ) -> dict[str, NDArray[np.float32]]: ...
    def takes_bands(self) -> bool: ...
    def explain(self, image: str | bytes | NDArray[Any], options: dict[str, Any]) -> Explained: ...
    def evaluate(self, data: str, *, split: str, batch_size: int, mirror: bool, five_crops: bool) -> str: ...
    def probe(
        self, data: str, *, test: str | None, pool: str, neighbors: list[int], shots: list[int], batch_size: int
    ) -> str: ...
    def info(self) -> str: ...
    def check_named(self, name: str) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def labels(self) -> list[str] | None: ...
    @property
    def classes(self) -> int: ...
    @property
    def image_size(self) -> tuple[int, int]: ...
    @property
    def precision(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def threads(self) -> int: ...

@final
class TextModel:
    @staticmethod
    def load(path: str, *, config: str | None, device: str, threads: int, cuda_path: str | None) -> TextModel: ...
    def embed(self, texts: list[str]) -> NDArray[np.float32]: ...
    def tokens(self, text: str) -> list[int]: ...
    def scale_and_bias(self) -> tuple[float, float]: ...

@final
class Stream:
    def __iter__(self) -> Stream: ...
    def __next__(self) -> tuple[list[int], list[tuple[int, str]], Any]: ...

@final
class Explained:
    def values(self) -> NDArray[np.float32]: ...
    def overlay(self) -> NDArray[np.uint8]: ...
    def image(self) -> NDArray[np.uint8]: ...
    def png(self) -> bytes: ...
    @property
    def explained(self) -> str: ...
    @property
    def ranked(self) -> list[_Ranked]: ...

def warn(text: str) -> None: ...
def methods() -> list[tuple[str, str, str]]: ...
def convert(
    model: str,
    destination: str,
    to: str,
    *,
    config: str | None,
    allow: list[str],
    image_size: int | None,
    dtype: str,
) -> list[tuple[str, str, str]]: ...
def doctor(model: str, *, config: str | None) -> str: ...
def images_in(folder: str) -> list[Path]: ...
def finetune(
    model: str,
    data: str,
    out: str,
    *,
    test: str | None,
    recipe: str | None,
    lora: int | None,
    image_size: int | None,
    settings: list[str],
    callback: Callable[[str, bool], None] | None,
    device: str,
    threads: int,
    cuda_path: str | None,
) -> str: ...
