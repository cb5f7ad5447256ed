"""Trees as arrays answer as scikit-learn's own do."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from pyramidai_mpi.classification.features import FeatureKind
from pyramidai_mpi.classification.forest import Forest, forest_of, grow_forest


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.random((60, 12))
    return features, features[:, 3] + 0.3 * rng.normal(size=60) > 0.5


@pytest.mark.parametrize(
    "ensemble",
    [BaggingClassifier(DecisionTreeClassifier(), 40, random_state=1), RandomForestClassifier(40, random_state=1)],
    ids=["bagged trees", "random forest"],
)
def test_the_arrays_answer_as_the_ensemble_that_they_were_copied_from(data, ensemble):
    features, tumor = data
    ensemble.fit(features, tumor.astype(int))
    others = np.random.default_rng(2).random((500, 12))
    ours = forest_of(ensemble.estimators_, 12).predict(others)
    np.testing.assert_allclose(ours, ensemble.predict_proba(others)[:, 1], atol=1e-12)
    assert len(set(ours)) > 20


def test_a_tree_that_saw_one_class_only_is_copied_right():
    features = np.array([[0.0], [0.1], [0.8]])
    trees = [DecisionTreeClassifier().fit(features, labels) for labels in ([1, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1])]
    assert [len(tree.classes_) for tree in trees] == [1, 1, 1, 2]
    assert forest_of(trees, 1).predict(features).tolist() == [0.5, 0.5, 0.75]


def test_each_kind_of_features_has_its_ensemble_and_the_seed_decides_it(data):
    features, tumor = data
    bagged = BaggingClassifier(DecisionTreeClassifier(), 20, random_state=3).fit(features, tumor.astype(int))
    random = RandomForestClassifier(20, random_state=3).fit(features, tumor.astype(int))
    for kind, ensemble in ((FeatureKind.HISTOGRAM, bagged), (FeatureKind.HEATMAP, random)):
        ours = grow_forest(features, tumor, kind, seed=3, n_trees=20).predict(features)
        np.testing.assert_allclose(ours, ensemble.predict_proba(features)[:, 1], atol=1e-12)


def stump(**changes) -> Forest:
    whole = {
        "n_features": 2,
        "roots": np.array([0], np.int32),
        "left": np.array([1, -1, -1], np.int32),
        "right": np.array([2, -1, -1], np.int32),
        "feature": np.array([1, -1, -1], np.int32),
        "threshold": np.array([0.5, 0, 0]),
        "share": np.array([0.5, 0.25, 0.75]),
    }
    return Forest(**(whole | {name: np.array(v, whole[name].dtype) for name, v in changes.items()}))


def test_a_stump_asks_its_feature():
    assert stump().predict(np.array([[9.0, 0.5], [0.0, 0.6]])).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "changes",
    [
        {"left": [0, -1, -1]},  # a circle
        {"right": [7, -1, -1]},
        {"left": [-1, -1, -1]},
        {"feature": [2, -1, -1]},
        {"feature": [-1, -1, -1]},
        {"roots": [3]},
        {"roots": []},
        {"threshold": [np.nan, 0, 0]},
        {"share": [0, 0, 1.5]},
        {"share": [0, 0, np.nan]},
        {"share": [0, 0]},
    ],
    ids=str,
)
def test_trees_that_do_not_hang_together_are_refused(changes):
    with pytest.raises(ValueError, match="hang together"):
        stump(**changes)


def test_every_array_is_checked_above():
    assert {one.name for one in fields(Forest)} == {"n_features", "roots", "left", "right", "feature", "threshold",
                                                    "share"}  # fmt: skip
    assert replace(stump(), n_features=3).n_features == 3
