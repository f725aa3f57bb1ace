"""Turns a folder of images into features, on as many machines as Ray has.

    pip install vitral 'ray[data]'
    python ray_embed.py photos/ features/ --model dinov2-small --workers 8

Writes Parquet with the columns `image` and `features`: the rows of `vitral embed`, to the bit. Each worker is an actor that loads the
model once. A block whose worker dies is done again by Ray, on another one. Images must be at the same path on every machine.
"""

import argparse
import os

import numpy as np
import ray

import vitral


class Embed:
    """One worker: a model, and batches of paths."""

    def __init__(self, model, pool, threads):
        self.model, self.pool = vitral.Model.load(model, threads=threads), pool

    def __call__(self, batch):
        features = self.model.embed(list(batch["image"]), pool=self.pool)
        return {"image": batch["image"], "features": features}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("output", help="a folder for Parquet files")
    parser.add_argument("--model", help="as for vitral.Model.load [default: the built-in model]")
    parser.add_argument("--pool", default="pooled")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="threads of each worker")
    parser.add_argument("--rows", type=int, default=64, help="images of a block, the part that is done again after a failure")
    arguments = parser.parse_args()

    paths = vitral.images_in(os.path.abspath(arguments.images))
    blocks = max(1, -(-len(paths) // arguments.rows))
    # The order of the output is that of the input.
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    data = ray.data.from_items([{"image": path} for path in paths], override_num_blocks=blocks)
    data = data.map_batches(
        Embed,
        fn_constructor_args=(arguments.model, arguments.pool, arguments.threads),
        batch_size=arguments.rows,
        compute=ray.data.ActorPoolStrategy(size=arguments.workers),
        num_cpus=arguments.threads,
    )
    data.write_parquet(arguments.output)
    print(f"{len(paths)} images to {arguments.output}, {np.dtype(np.float32)} features")


if __name__ == "__main__":
    main()
