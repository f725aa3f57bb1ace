"""Turns a folder of images into features, on a cluster of Spark's.

    pip install vitral pyspark pandas pyarrow
    spark-submit spark_embed.py photos/ features/ --model dinov2-small

Writes Parquet with the columns `image` and `features`: the rows of `vitral embed`, to the bit. Each of Spark's Python workers loads the
model once. A task whose worker dies is done again by Spark. Images must be at the same path on every machine.
"""

import argparse
import os
import sys

from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, FloatType

import vitral


def embedder(model, pool, threads):
    """What a worker calls once; it gives what the worker calls for each batch."""

    def make():
        loaded = vitral.Model.load(model, threads=threads)
        return lambda images: loaded.embed(list(images), pool=pool)

    return make


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("output", help="a folder for Parquet files")
    parser.add_argument("--model", help="as for vitral.Model.load [default: the built-in model]")
    parser.add_argument("--pool", default="pooled")
    parser.add_argument("--master", help="Spark's master, such as `local[2]` [default: that of spark-submit]")
    parser.add_argument("--threads", type=int, default=1, help="threads of each worker")
    parser.add_argument("--rows", type=int, default=64, help="images of a partition, the part that is done again after a failure")
    arguments = parser.parse_args()

    # On this machine, workers run in the environment of this program.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("vitral embed")
    spark = (builder.master(arguments.master) if arguments.master else builder).getOrCreate()
    paths = vitral.images_in(os.path.abspath(arguments.images))
    parts = max(1, -(-len(paths) // arguments.rows))
    embed = predict_batch_udf(
        embedder(arguments.model, arguments.pool, arguments.threads), return_type=ArrayType(FloatType()), batch_size=arguments.rows
    )
    images = spark.sparkContext.parallelize([(path,) for path in paths], parts).toDF("image string")
    images.withColumn("features", embed("image")).write.mode("errorifexists").parquet(arguments.output)
    print(f"{len(paths)} images to {arguments.output}")
    spark.stop()


if __name__ == "__main__":
    main()
