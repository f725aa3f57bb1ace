"""Vision Transformers for images: classify, embed, look inside, fine-tune; with the weights of Hugging Face transformers, timm,
torchvision, lucidrains/vit-pytorch and Google's JAX code, and the numbers that these libraries compute.

>>> import vitral
>>> vitral.pipeline("image-classification")("cat.jpg")     # doctest: +SKIP
[{'label': 'cat', 'score': 0.8697...}, ...]
"""

from ._errors import ConfigError, Error, ImageError, WeightsError
from ._explanation import Map
from ._functions import Difference, convert, create_model, doctor, evaluate, finetune, images_in, probe
from ._model import METHODS, Model, Prediction
from ._native import __version__
from ._pipelines import (
    ImageClassificationPipeline,
    ImageFeatureExtractionPipeline,
    ZeroShotImageClassificationPipeline,
    pipeline,
)
from ._texts import TextModel

__all__ = [
    "METHODS",
    "ConfigError",
    "Difference",
    "Error",
    "ImageClassificationPipeline",
    "ImageError",
    "ImageFeatureExtractionPipeline",
    "Map",
    "Model",
    "Prediction",
    "TextModel",
    "WeightsError",
    "ZeroShotImageClassificationPipeline",
    "__version__",
    "convert",
    "create_model",
    "doctor",
    "evaluate",
    "finetune",
    "images_in",
    "pipeline",
    "probe",
]
