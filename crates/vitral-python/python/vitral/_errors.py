"""The exceptions. Their texts are those of the command line."""


class Error(Exception):
    """Any error of Vitral's."""


class ConfigError(Error, ValueError):
    """An option, a configuration, a recipe or an input that is not valid, or does not fit the model."""


class WeightsError(Error, OSError, ValueError):
    """A model's files are missing or damaged, or do not fit each other."""


class ImageError(Error, OSError, ValueError):
    """An image cannot be read, or cannot be preprocessed."""


for _class in (Error, ConfigError, WeightsError, ImageError):
    _class.__module__ = "vitral"
del _class
