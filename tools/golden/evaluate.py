"""Writes goldens/evaluate.safetensors: measures of made-up answers, and classifiers of made-up features, by NumPy.

    python tools/golden/evaluate.py

Needs numpy and safetensors. The ridge follows big_vision's `fewshot_lsr`; here it is solved without its shortcuts.
"""

import pathlib

import numpy as np
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "goldens" / "evaluate.safetensors"
CLASSES = 7


def measures(logits, labels):
    logits = logits.astype(np.float64)
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    predicted = logits.argmax(1)
    confusion = np.zeros((CLASSES, CLASSES))
    np.add.at(confusion, (labels, predicted), 1)
    right = np.diag(confusion)
    precision = right / np.maximum(confusion.sum(0), 1)
    recall = right / np.maximum(confusion.sum(1), 1)
    f1 = np.where(right > 0, 2 * precision * recall / np.maximum(precision + recall, 1e-300), 0)
    confidence, hit = probabilities.max(1), predicted == labels
    edges = np.linspace(0, 1, 16)
    error = 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    five = np.argsort(-logits, 1, kind="stable")[:, :5]
    loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    top5 = (five == labels[:, None]).any(1).mean()
    return {"summary": np.array([hit.mean(), top5, loss, error]), "confusion": confusion,
            "classes": np.stack([precision, recall, f1], 1)}


def neighbors(known, labels, unknown, k, temperature):
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit(unknown.astype(np.float64)) @ unit(known.astype(np.float64)).T
    found = []
    for row in cosine:
        near = np.argsort(-row, kind="stable")[:k]
        votes = np.zeros(CLASSES)
        for index in near:
            votes[labels[index]] += np.exp(row[index] / temperature) if temperature else 1
        found.append(next(labels[index] for index in near if votes[labels[index]] == votes.max()))
    return np.array(found)


def ridge(known, labels, unknown, l2, bias=100.0):
    known, unknown = known.astype(np.float64), unknown.astype(np.float64)
    mean, deviation = known.mean(0), known.std(0) + 1e-5
    extend = lambda x: np.pad((x - mean) / deviation, ((0, 0), (0, 1)), constant_values=bias)
    x, targets = extend(known), 2.0 * np.eye(CLASSES)[labels] - 1.0
    weights = np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ targets)
    return extend(unknown) @ weights


def main():
    rng = np.random.default_rng(17)
    labels = rng.integers(0, CLASSES - 1, 200)  # the last class has no images
    logits = (rng.standard_normal((200, CLASSES)) * 1.5 + 2.5 * np.eye(CLASSES)[labels]).astype(np.float32)
    tensors = {"logits": logits, "labels": labels} | measures(logits, labels)
    for name, count in [("many", 90), ("few", 15)]:
        centers = rng.standard_normal((CLASSES, 21)) * 0.7
        known_labels, unknown_labels = rng.integers(0, CLASSES, count), rng.integers(0, CLASSES, 40)
        known = (centers[known_labels] + rng.standard_normal((count, 21))).astype(np.float32)
        unknown = (centers[unknown_labels] + rng.standard_normal((40, 21))).astype(np.float32)
        known[:, 4] = 3.0  # a constant feature
        unknown[:, 4] = 3.0
        tensors |= {f"{name}.known": known, f"{name}.known_labels": known_labels, f"{name}.unknown": unknown,
                    f"{name}.unknown_labels": unknown_labels}
        for k, temperature in [(1, None), (5, None), (10, 0.07)]:
            tensors[f"{name}.neighbors.{k}"] = neighbors(known, known_labels, unknown, k, temperature)
        for l2 in [1, 1024]:
            tensors[f"{name}.ridge.{l2}"] = ridge(known, known_labels, unknown, float(l2))
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, OUT)
    print(f"{OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
