"""Writes goldens/image/tensorflow_resized.safetensors: the small images resized by `tf.image.resize`, as Google's JAX code
calls it.

    python tools/golden/preprocess_tensorflow.py

Needs NumPy, Pillow, safetensors and TensorFlow (2.21), and the images that `preprocess.py` writes.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image
from safetensors.numpy import save_file

OUT = Path(__file__).resolve().parents[2] / "goldens" / "image"
SIZES = [(2, 3), (7, 5), (24, 24), (20, 61), (70, 9)]


def main():
    resized = {}
    for source in ["rgb.png", "tall.png"]:
        pixels = np.array(Image.open(OUT / source).convert("RGB"))
        for height, width in SIZES:
            resized[f"{source} {height} {width}"] = tf.image.resize(pixels, [height, width]).numpy()
    save_file(resized, OUT / "tensorflow_resized.safetensors")


if __name__ == "__main__":
    main()
