"""Measures of made-up answers to images with several labels, by scikit-learn: the numbers in the test of
`crates/vitral-train/src/evaluate/several.rs`. Needs numpy and scikit-learn; prints, writes nothing."""

import numpy as np
from sklearn.metrics import accuracy_score, average_precision_score, precision_recall_fscore_support

logits = np.array([[2, -1, 0.5], [-0.5, 1.5, 0.5], [1, 0.25, -2], [0.5, -0.75, 0.5], [-1, 2, -0.25], [-2, -3, 1]])
labels = np.zeros((6, 3), int)
for image, its in enumerate([[0], [1, 2], [0, 1], [2], [1], [0, 2]]):
    labels[image, its] = 1
probabilities = 1 / (1 + np.exp(-logits))
predicted = (probabilities >= 0.5).astype(int)
print("average precision", [average_precision_score(labels[:, c], probabilities[:, c]) for c in range(3)])
print("mean", average_precision_score(labels, probabilities, average="macro"))
print("micro precision, recall, F1", precision_recall_fscore_support(labels, predicted, average="micro")[:3])
print("exact", accuracy_score(labels, predicted))
print("loss", np.mean(np.maximum(logits, 0) + np.log1p(np.exp(-abs(logits))) - labels * logits))
