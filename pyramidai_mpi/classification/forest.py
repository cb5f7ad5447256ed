"""Ensembles of decision trees: grown by scikit-learn, kept and asked as plain arrays.

Arrays can be checked before they are used, hold no code, and outlive the versions of the library that grew them;
scikit-learn's own tree objects can be none of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.classification.features import FeatureKind

if TYPE_CHECKING:
    import numpy.typing as npt

    Bools = npt.NDArray[np.bool_]
    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int32]

N_TREES = 200


@dataclass(frozen=True)
class Forest:
    """Decision trees whose mean answer counts.

    Attributes
    ----------
    n_features
        Length of a feature vector.
    roots
        int32 (T,), first node of each tree.
    left, right
        int32 (N,), node of each node's children, -1 in a leaf. ``feature <= threshold`` goes left. Children come after
        their parent.
    feature
        int32 (N,), which feature an inner node asks; -1 in a leaf.
    threshold
        float64 (N,).
    share
        float64 (N,), share of tumour among the training slides of a leaf.
    """

    n_features: int
    roots: Ints
    left: Ints
    right: Ints
    feature: Ints
    threshold: Floats
    share: Floats

    def __post_init__(self) -> None:
        n, inner = len(self.left), self.left >= 0
        own = np.arange(n)
        wrong = (
            not len(self.roots)
            or not (len(self.right) == len(self.feature) == len(self.threshold) == len(self.share) == n)
            or ((self.roots < 0) | (self.roots >= n)).any()
            or ((self.left >= 0) != (self.right >= 0)).any()
            or any((inner & ((child <= own) | (child >= n))).any() for child in (self.left, self.right))
            or (inner & ((self.feature < 0) | (self.feature >= self.n_features))).any()
            or not np.isfinite(self.threshold[inner]).all()
            or not ((self.share >= 0) & (self.share <= 1)).all()
        )
        if wrong:
            raise ValueError("the trees do not hang together")

    def predict(self, features: Floats) -> Floats:
        """Probability of tumour.

        Parameters
        ----------
        features
            float64 (M, F).

        Returns
        -------
        numpy.ndarray
            float64 (M,), mean over the trees. As scikit-learn does, features are compared in single precision.
        """
        asked = features.astype(np.float32)
        rows = np.arange(len(asked))[:, None]
        node = np.broadcast_to(self.roots, (len(asked), len(self.roots))).copy()
        while (inner := self.left[node] >= 0).any():
            lower = asked[rows, np.maximum(self.feature[node], 0)] <= self.threshold[node]
            node = np.where(inner, np.where(lower, self.left[node], self.right[node]), node)
        return np.asarray(self.share[node].mean(axis=1))


def grow_forest(features: Floats, tumor: Bools, kind: FeatureKind, seed: int, n_trees: int = N_TREES) -> Forest:
    """Fit the ensemble that belongs to a kind of features: bagged trees to histograms, a random forest to heatmaps.

    Parameters
    ----------
    features
        float64 (M, F).
    tumor
        bool (M,), both values present.
    kind
        What kind of features they are.
    seed
        Seed of drawing slides and features.
    n_trees
        Trees to grow.
    """
    from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    if kind is FeatureKind.HISTOGRAM:
        ensemble: Any = BaggingClassifier(DecisionTreeClassifier(), n_trees, random_state=seed)
    else:
        ensemble = RandomForestClassifier(n_trees, random_state=seed)
    ensemble.fit(features, tumor.astype(np.int64))
    return forest_of(ensemble.estimators_, features.shape[1])


def forest_of(estimators: list[Any], n_features: int) -> Forest:
    """Copy fitted scikit-learn trees of classes 0 and 1 that use all features."""
    trees = [estimator.tree_ for estimator in estimators]
    roots = np.concatenate([[0], np.cumsum([tree.node_count for tree in trees])])[:-1].astype(np.int32)
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in ("left", "right", "feature", "threshold", "share")}
    for estimator, tree, root in zip(estimators, trees, roots.tolist(), strict=True):
        inner = tree.children_left >= 0
        parts["left"].append(np.where(inner, tree.children_left + root, -1))
        parts["right"].append(np.where(inner, tree.children_right + root, -1))
        parts["feature"].append(np.where(inner, tree.feature, -1))
        parts["threshold"].append(np.where(inner, tree.threshold, 0.0))
        counts = tree.value[:, 0, :]
        # a tree whose drawn slides were all of one class knows no other
        tumor = counts[:, np.flatnonzero(estimator.classes_ == 1)].sum(axis=1)
        parts["share"].append(np.clip(tumor / counts.sum(axis=1), 0, 1))
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Forest(
        n_features,
        roots,
        left=joined["left"].astype(np.int32),
        right=joined["right"].astype(np.int32),
        feature=joined["feature"].astype(np.int32),
        threshold=joined["threshold"].astype(np.float64),
        share=joined["share"].astype(np.float64),
    )
