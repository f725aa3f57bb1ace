"""The package's logger."""

import logging

logger = logging.getLogger("vitral")
logger.addHandler(logging.NullHandler())
