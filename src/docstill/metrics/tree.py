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

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from rapidfuzz.distance import Levenshtein

FAR = 1 << 40


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
        return [
            text
            for item in data
            if (isinstance(item, str) or type(item) in {int, float}) and (text := str(item).strip())
        ]
    return [str(data).strip()]


def same_answer(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same, as the evaluator reads them: order of keys and kind of number aside."""
    return bool(normalise(one) == normalise(other))


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
    return max(0.0, 1.0 - _distance(_Tree.of(predicted), tree, worst, _in_place(predicted, right)) / worst)


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
        """Nodes with a left sibling, and the root: the sub-trees that must be compared on their own, by where they begin."""
        return list({left: node for node, left in enumerate(self.leftmost)}.values())

    def field(self, root: int) -> bool:
        """Whether a sub-tree is a key and its one value."""
        return root == self.leftmost[root] + 1 and not self.leaves[root] and self.leaves[root - 1]


def _change(a: _Tree, i: int, b: _Tree, j: int) -> int:
    if a.leaves[i] and b.leaves[j]:
        return Levenshtein.distance(a.labels[i], b.labels[j])
    if a.leaves[i] or b.leaves[j]:
        return 1 + (a.costs[i] if a.leaves[i] else b.costs[j])
    return int(a.labels[i] != b.labels[j])


def _distance(a: _Tree, b: _Tree, limit: int, known: int) -> int:
    """The edit distance, or, where that is above ``limit``, some number above it; it is at most ``known``.

    A guess grows until the distance found within it is no larger, as in Ukkonen 1985: then nothing outside mattered.
    """
    guess = known if known <= limit // 4 else limit // 8 + 1
    while (found := _distance_within(a, b, guess)) > guess and guess < limit:
        guess = min(2 * guess, known)
    return found


def _in_place(one: Any, other: Any) -> int:
    """What it costs to change one normal form to another if a key is compared with the same key, and an item with its like in order."""
    if isinstance(one, str) and isinstance(other, str):
        return Levenshtein.distance(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        shared = sum(_in_place(value, other[key]) for key, value in one.items() if key in other)
        lone = [value for key, value in one.items() if key not in other]
        lone += [value for key, value in other.items() if key not in one]
        return shared + sum(1 + _size(value) for value in lone)
    if isinstance(one, list) and isinstance(other, list):
        both = min(len(one), len(other))
        return sum(map(_in_place, one, other)) + _size(one[both:]) + _size(other[both:])
    return _size(one) + _size(other) + isinstance(one, dict) + isinstance(other, dict)


def _size(data: Any) -> int:
    """What it costs to insert a normal form under a key."""
    if isinstance(data, str):
        return len(data)
    if isinstance(data, dict):
        return sum(1 + _size(value) for value in data.values())
    return sum(_size(item) + isinstance(item, dict) for item in data)


def _distance_within(a: _Tree, b: _Tree, guess: int) -> int:
    """The edit distance if it is at most ``guess``, otherwise a larger number.

    Zhang & Shasha 1989: distances of all pairs of sub-trees, by forests that grow node by node in post-order. No edit
    changes the size of a forest, the sum of its costs, by more than it costs. So if two forests are matched, what lies
    before them and what lies after them must differ in size by no more than the guess leaves; other pairs are passed over.
    """
    sizes_a, sizes_b = ([0, *accumulate(tree.costs)] for tree in (a, b))
    trees = [[FAR] * len(b.labels) for _ in a.labels]
    roots_b = b.key_roots()
    starts_b = [sizes_b[b.leftmost[root]] for root in roots_b]
    fields_b = {root for root in roots_b if b.field(root)}
    total = sizes_a[-1] - sizes_b[-1]
    # |before| + |total - before| <= guess, where before is by how much the forests before two sub-trees differ in size
    least, most = (total - guess) / 2, (total + guess) / 2
    # Sub-trees within another begin later, or where it begins: the last come first, so that parts are compared before the whole.
    for root_a in reversed(a.key_roots()):
        start_a = sizes_a[a.leftmost[root_a]]
        near = roots_b[bisect_left(starts_b, start_a - most) : bisect_right(starts_b, start_a - least)]
        field_a = a.field(root_a)
        for root_b in reversed(near):
            if field_a and root_b in fields_b:
                _fields(a, root_a, b, root_b, trees)
            else:
                before = start_a - sizes_b[b.leftmost[root_b]]
                _forests(a, root_a, b, root_b, trees, sizes_a, sizes_b, (least - before, most - before))
    return trees[-1][-1]


def _fields(a: _Tree, root_a: int, b: _Tree, root_b: int, trees: list[list[int]]) -> None:
    """Fills ``trees`` for two keys with a value each, by far the most frequent sub-trees: nothing is nearer than value to value."""
    edits = Levenshtein.distance(a.labels[root_a - 1], b.labels[root_b - 1])
    trees[root_a - 1][root_b - 1] = edits
    trees[root_a - 1][root_b] = trees[root_a][root_b - 1] = edits + 1
    trees[root_a][root_b] = edits + (a.labels[root_a] != b.labels[root_b])


def _forests(
    a: _Tree,
    root_a: int,
    b: _Tree,
    root_b: int,
    trees: list[list[int]],
    sizes_a: list[int],
    sizes_b: list[int],
    difference: tuple[float, float],
) -> None:
    """Fills ``trees`` for all pairs of sub-trees that begin where those of the two roots begin.

    ``rows[x][y]`` is the distance of the first x nodes to the first y, if their sizes differ by what is allowed.
    """
    first_a, first_b = a.leftmost[root_a], b.leftmost[root_b]
    width = root_b - first_b + 2
    leftmost, costs = b.leftmost, b.costs
    rows: list[list[int]] = []
    for x in range(root_a - first_a + 2):
        size = sizes_a[first_a + x] - sizes_a[first_a]
        offset = sizes_b[first_b] + size
        start = bisect_left(sizes_b, offset - difference[1], first_b, first_b + width) - first_b
        stop = bisect_right(sizes_b, offset - difference[0], first_b, first_b + width) - first_b
        row = [FAR] * width
        rows.append(row)
        if x == 0:
            row[start:stop] = [total - sizes_b[first_b] for total in sizes_b[first_b + start : first_b + stop]]
            continue
        if start == 0 and stop:
            row[0], start = size, 1
        i = first_a + x - 1
        delete, above, near = a.costs[i], rows[x - 1], trees[i]
        whole, across = a.leftmost[i] == first_a, rows[a.leftmost[i] - first_a]
        last = row[start - 1] if start else FAR
        for y in range(start, stop):
            j = first_b + y - 1
            best, inserted = above[y] + delete, last + costs[j]
            if inserted < best:  # comparisons, as min() would take half of the time here
                best = inserted
            left = leftmost[j]
            if whole and left == first_b:
                if above[y - 1] < best:
                    best = min(best, above[y - 1] + _change(a, i, b, j))
                near[j] = best
            elif (both := across[left - first_b] + near[j]) < best:
                best = both
            row[y] = last = best
