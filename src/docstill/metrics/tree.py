"""TED accuracy: how much editing turns the predicted JSON into the right one, as Donut's published evaluator counts it.

    accuracy = max(0, 1 − TED(prediction, truth) / TED(empty, truth))

TED is the ordered tree edit distance (Zhang & Shasha 1989). Keys and list entries are inner nodes, values are leaves:
a leaf costs its characters to insert or delete and its edit distance to change; an inner node costs 1; a leaf becomes an
inner node, or the reverse, for 1 plus its characters. Facts from Kim et al. 2022 (arXiv 2111.15664) and its evaluator.

Normalisation, as published: keys in the order of (length, name); scalars become one-entry lists of stripped strings;
empty values (None, "", 0, {}, []) vanish; a list that is not all objects keeps only strings, ints and floats.
Any JSON value may be a prediction: an unparsable one is best given as None. One thing differs from the published
evaluator: it marks leaves by the text ``<leaf>``, and misreads data that hold these letters; here they are plain text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein


def normalise(data: Any) -> Any:
    """A JSON value in the evaluator's normal form: dicts of lists, lists of dicts or of strings."""
    if not data:
        return {}
    if isinstance(data, dict):
        result = {}
        for key in sorted(data, key=lambda name: (len(name), name)):
            if value := normalise(data[key]):
                result[key] = value if isinstance(value, list) else [value]
        return result
    if isinstance(data, list):
        if all(isinstance(item, dict) for item in data):
            return [kept for item in data if (kept := normalise(item))]
        # exact types on purpose: the published evaluator drops bools here
        return [text for item in data if type(item) in {str, int, float} and (text := str(item).strip())]
    return [str(data).strip()]


def ted_accuracy(prediction: Any, truth: Any) -> float:
    """TED accuracy of one document, in [0, 1].

    An empty truth, which the published evaluator divides by, scores 1 if the prediction is empty too, otherwise 0.
    """
    predicted, right = normalise(prediction), normalise(truth)
    if not right:
        return float(not predicted)
    if predicted == right:
        return 1.0
    tree = _Tree.of(right)
    # The empty tree is a root alone; it is mapped to the root, and every other node is inserted.
    worst = sum(tree.costs) - tree.costs[-1]
    if worst == 0:
        return 0.0
    return max(0.0, 1.0 - _distance(_Tree.of(predicted), tree) / worst)


@dataclass
class _Tree:
    """An ordered tree in post-order: labels, whether a node is a leaf, its cost, and its leftmost descendant."""

    labels: list[str]
    leaves: list[bool]
    costs: list[int]
    leftmost: list[int]

    @classmethod
    def of(cls, data: Any) -> _Tree:
        tree = cls([], [], [], [])
        tree._add("<root>", data)
        return tree

    def _add(self, name: str, data: Any) -> None:
        first = len(self.labels)
        if isinstance(data, dict):
            for key, value in data.items():
                self._add(key, value)
        elif all(isinstance(item, dict) for item in data):
            for item in data:
                self._add("<subtree>", item)
        else:
            for item in data:
                self._append(item, True, len(item), len(self.labels))
        self._append(name, False, 1, first)

    def _append(self, label: str, leaf: bool, cost: int, leftmost: int) -> None:
        self.labels.append(label)
        self.leaves.append(leaf)
        self.costs.append(cost)
        self.leftmost.append(leftmost)

    def key_roots(self) -> list[int]:
        """Nodes with a left sibling, and the root: the sub-trees that must be compared on their own."""
        return sorted({left: node for node, left in enumerate(self.leftmost)}.values())


def _change(a: _Tree, i: int, b: _Tree, j: int) -> int:
    if a.leaves[i] and b.leaves[j]:
        return Levenshtein.distance(a.labels[i], b.labels[j])
    if a.leaves[i] or b.leaves[j]:
        return 1 + (a.costs[i] if a.leaves[i] else b.costs[j])
    return int(a.labels[i] != b.labels[j])


def _distance(a: _Tree, b: _Tree) -> int:
    """Zhang & Shasha 1989: distances of all pairs of sub-trees, by forests that grow node by node."""
    trees = [[0] * len(b.labels) for _ in a.labels]
    for root_a in a.key_roots():
        for root_b in b.key_roots():
            _forests(a, root_a, b, root_b, trees)
    return trees[-1][-1]


def _forests(a: _Tree, root_a: int, b: _Tree, root_b: int, trees: list[list[int]]) -> None:
    first_a, first_b = a.leftmost[root_a], b.leftmost[root_b]
    width = root_b - first_b + 2
    previous = [0] * width
    for column in range(1, width):
        previous[column] = previous[column - 1] + b.costs[first_b + column - 1]
    rows = [previous]
    for i in range(first_a, root_a + 1):
        delete, whole_a = a.costs[i], a.leftmost[i] == first_a
        row = [previous[0] + delete] + [0] * (width - 1)
        for column in range(1, width):
            j = first_b + column - 1
            best = min(previous[column] + delete, row[column - 1] + b.costs[j])
            if whole_a and b.leftmost[j] == first_b:
                best = min(best, previous[column - 1] + _change(a, i, b, j))
                trees[i][j] = best
            else:
                best = min(best, rows[a.leftmost[i] - first_a][b.leftmost[j] - first_b] + trees[i][j])
            row[column] = best
        rows.append(row)
        previous = row
