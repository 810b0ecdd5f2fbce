"""The graph of a page: who sees whom, what is merged, and the losses on it, against plain NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import nms

from docstill.errors import ModelError
from docstill.objectives.base import UNLABELLED, Looks, Outputs
from docstill.objectives.graphkd import Graphkd
from docstill.objectives.positions import as_tokens
from docstill.objectives.region_edges import PRIOR, PRIOR_VARIANCE, RIDGE, SHRINK, Spread, relations
from docstill.objectives.region_graph import RegionGraph, distinct, neighbours, region_graph, text_by_covariance
from looks_made import look

Array = NDArray[np.float64]


def numbers(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def looked(whole: Outputs) -> Looks:
    assert whole.looks is not None
    return whole.looks


@st.composite
def pages(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on a coarse grid, so that many touch, cover and equal each other or have no area; flags; features."""
    count = draw(st.integers(0, 12))
    corner = st.tuples(*[st.integers(0, 8)] * 4)
    boxes = [(x, y, x + w, y + h) for x, y, w, h in draw(st.lists(corner, min_size=count, max_size=count))]
    text = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    features = torch.randn(count, 3, generator=generator) + draw(st.sampled_from([0.0, 1.0, 10.0]))
    return torch.tensor(boxes).reshape(-1, 4) / 16, torch.tensor(text, dtype=torch.bool), features


@given(pages())
@settings(deadline=None, max_examples=150)
def test_any_page_becomes_a_graph(page: tuple[Tensor, Tensor, Tensor]) -> None:
    boxes, text, features = page
    graph, near = region_graph(boxes, text, features), neighbours(numbers(boxes))
    assert sorted(region for regions in graph.members for region in regions) == list(range(len(boxes)))
    assert (near == near.T).all()
    assert not near.diagonal().any()
    assert graph.edges == sorted(set(graph.edges))
    for node, regions in enumerate(graph.members):
        assert bool(graph.text[node]) == bool(text[regions].all()) == bool(text[regions].any())
        assert len(regions) == 1 or graph.text[node]
        assert ((node, node) in graph.edges) == (len(regions) > 1)
        assert connected(regions, near)
        assert torch.equal(graph.boxes[node, :2], boxes[regions, :2].amin(0))
        assert torch.equal(graph.boxes[node, 2:], boxes[regions, 2:].amax(0))
        assert set(torch.nonzero(graph.shares[node]).flatten().tolist()) <= set(regions)
        for other in range(node):
            between = near[np.ix_(graph.members[other], regions)].any()
            assert ((other, node) in graph.edges) == between
    assert torch.allclose(graph.shares.sum(1), torch.ones(len(graph.members)))


def connected(regions: list[int], near: NDArray[Any]) -> bool:
    reached, waiting = {regions[0]}, [regions[0]]
    while waiting:
        one = waiting.pop()
        new = [other for other in regions if near[one, other] and other not in reached]
        reached.update(new)
        waiting += new
    return reached == set(regions)


@given(pages())
@settings(deadline=None, max_examples=100)
def test_neighbours_by_hand(page: tuple[Tensor, Tensor, Tensor]) -> None:
    boxes = numbers(page[0])

    def overlap(one: Array, two: Array) -> tuple[float, float]:
        return (
            min(one[2], two[2]) - max(one[0], two[0]),
            min(one[3], two[3]) - max(one[1], two[1]),
        )

    near = neighbours(boxes)
    for i, one in enumerate(boxes):
        for j, two in enumerate(boxes):
            x, y = overlap(one, two)
            expected = i != j and (x > 0 or y > 0)
            if expected and not (x > 0 and y > 0):
                inner = np.array([max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]), min(one[3], two[3])])
                strip = np.concatenate([np.minimum(inner[:2], inner[2:]), np.maximum(inner[:2], inner[2:])])
                expected = not any(min(overlap(strip, other)) > 0 for other in boxes)
            assert near[i, j] == expected


def page_of_six() -> Tensor:
    """A title over two columns; on the left a paragraph over a figure, on the right two paragraphs."""
    return torch.tensor(
        [
            [0.1, 0.05, 0.9, 0.1],
            [0.1, 0.2, 0.45, 0.5],
            [0.1, 0.55, 0.45, 0.9],
            [0.55, 0.2, 0.9, 0.3],
            [0.55, 0.35, 0.9, 0.9],
            [0.95, 0.92, 0.99, 0.98],
        ]
    )


def test_neighbours_see_each_other_straight() -> None:
    near = neighbours(numbers(page_of_six()))
    pairs = {(i, j) for i, j in zip(*np.nonzero(near), strict=True) if i < j}
    # The title does not see what is below the paragraphs, the page number nothing at all.
    assert pairs == {(0, 1), (0, 3), (1, 2), (1, 3), (1, 4), (2, 4), (3, 4)}


def test_what_overlaps_or_touches_is_near() -> None:
    boxes = np.array([[0.0, 0, 2, 2], [1, 1, 3, 3], [3, 1, 4, 2], [0.5, 0.5, 1, 1], [4, 2, 5, 3]])
    near = neighbours(boxes)
    assert near[0, 1]
    assert near[1, 2]
    assert near[0, 3]
    assert not near[2, 4]  # corner to corner
    assert not near[0, 2]  # the second lies between


def test_text_that_is_alike_is_merged_and_a_figure_never() -> None:
    features = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0.1], [0, 1, 0], [0, 1, 0]])
    text = torch.tensor([True, True, False, True, True, True])
    graph = region_graph(page_of_six(), text, features)
    # As like the others as they are, but a figure; the page number has no neighbours.
    assert graph.members == [[0], [1, 3, 4], [2], [5]]
    assert graph.text.tolist() == [True, True, False, True]
    assert graph.edges == [(0, 1), (1, 1), (1, 2)]
    areas = torch.tensor([0.35 * 0.3, 0.35 * 0.1, 0.35 * 0.55])
    assert torch.allclose(graph.shares[1, [1, 3, 4]], areas / areas.sum())


@pytest.mark.parametrize(
    ("angle", "others", "merged"),
    [(20, 4, True), (40, 4, False), (40, 0, True), (65, 0, False)],
    ids=["alike", "not alike enough", "too much text", "too much, but not alike"],
)
def test_the_threshold_falls_while_there_is_too_much_text(angle: int, others: int, merged: bool) -> None:
    """Three lines, of which two differ by an angle and the third by 85 degrees; other things far away, or none."""
    turned = torch.deg2rad(torch.tensor([0.0, angle, -85.0] + [0.0] * others))
    boxes = [[0.1, 0.1 * i, 0.4, 0.1 * i + 0.08] for i in range(3)] + [
        [0.5 + 0.1 * i, 0.5 + 0.1 * i, 0.6 + 0.1 * i, 0.6 + 0.1 * i] for i in range(others)
    ]
    text = torch.tensor([True] * 3 + [False] * others)
    graph = region_graph(torch.tensor(boxes), text, torch.stack([turned.cos(), turned.sin()], 1))
    assert ([0, 1] in graph.members) == merged
    assert len(graph.members) == 3 + others - merged


@given(st.integers(0, 500), st.integers(0, 30))
@settings(deadline=None, max_examples=50)
def test_distinct_is_non_maximum_suppression(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) / 3
    boxes = torch.cat([low, low + 0.3 + torch.rand(count, 2, generator=generator) / 3], 1)
    scores = torch.rand(count, generator=generator)
    assert distinct(boxes, scores).tolist() == sorted(nms(boxes, scores, 0.7).tolist())


def test_the_surest_of_regions_on_one_another_stays() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.1, 0.1, 0.5, 0.49], [0.6, 0.6, 0.7, 0.7], [0.1, 0.1, 0.1, 0.1]])
    assert distinct(boxes, torch.tensor([0.5, 0.9, 0.1, 0.2])).tolist() == [1, 2, 3]


@given(st.integers(0, 500), st.integers(2, 12))
@settings(deadline=None, max_examples=50)
def test_text_by_covariance_by_hand(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(count, 1, 1, generator=generator)
    tokens = torch.ones(count, 1, 4) + scale * torch.randn(count, 9, 4, generator=generator)
    x = numbers(tokens)
    measure = np.array([np.trace(np.cov(one.T, bias=True)) / 4 / np.square(one).mean() for one in x])
    ordered = np.sort(measure)
    between = [
        (len(low) * len(high)) * (low.mean() - high.mean()) ** 2
        for low, high in (np.split(ordered, [k]) for k in range(1, count))
    ]
    highest = ordered[int(np.argmax(between))]
    assert text_by_covariance(tokens).tolist() == (measure <= highest + 1e-9).tolist()


def test_what_looks_the_same_everywhere_is_text() -> None:
    generator = torch.Generator().manual_seed(0)
    even = torch.randn(3, 1, 5, generator=generator).expand(3, 9, 5) + 0.1 * torch.randn(3, 9, 5, generator=generator)
    tokens = torch.cat([torch.randn(2, 9, 5, generator=generator), even])
    assert text_by_covariance(tokens).tolist() == [False, False, True, True, True]
    assert text_by_covariance(7 * tokens).tolist() == [False, False, True, True, True]
    assert text_by_covariance(tokens[:1]).tolist() == [True]
    assert text_by_covariance(tokens[:1].repeat(3, 1, 1)).tolist() == [True] * 3
    assert text_by_covariance(tokens[:0]).tolist() == []


def relations_by_hand(tokens: Array, shares: Array, edges: list[tuple[int, int]]) -> Array:
    def cosine(one: Array, two: Array) -> float:
        return float(one.ravel() @ two.ravel() / np.linalg.norm(one) / np.linalg.norm(two))

    def over_pairs(first: int, second: int, part: Array) -> float:
        total = weight = 0.0
        for a in range(len(tokens)):
            for b in range(len(tokens)):
                if first != second or a != b:
                    total += shares[first, a] * shares[second, b] * cosine(part[a], part[b])
                    weight += shares[first, a] * shares[second, b]
        return total / weight

    def level(values: Array, node: int) -> float:
        return float(shares[node] @ np.log(values) / 2)

    means = tokens.mean(1)
    strength, spread = np.square(tokens).mean((1, 2)), np.square(tokens - means[:, None]).mean((1, 2))
    return np.array(
        [
            [
                over_pairs(i, j, means),
                over_pairs(i, j, tokens),
                level(strength, i) - level(strength, j),
                level(spread, i) - level(spread, j),
            ]
            for i, j in edges
        ]
    )


SHARES = [[0.25, 0.75, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0.4, 0.6]]
EDGES = [(0, 0), (0, 1), (1, 2), (2, 2)]


def test_relations_by_hand() -> None:
    tokens = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0)) + 0.5
    values = numbers(relations(tokens, torch.tensor(SHARES), EDGES))
    assert values == pytest.approx(relations_by_hand(numbers(tokens), np.array(SHARES), EDGES), abs=1e-4)
    assert relations(tokens, torch.tensor(SHARES), []).shape == (0, 4)


def test_relations_of_dead_features_have_gradients() -> None:
    tokens = torch.zeros(5, 4, 6, requires_grad=True)
    relations(tokens, torch.tensor(SHARES), EDGES).sum().backward()
    assert tokens.grad is not None
    assert torch.isfinite(tokens.grad).all()


def mahalanobis(gaps: Array, covariance: Array) -> Array:
    shrunk = (1 - SHRINK) * covariance + SHRINK * np.diag(covariance.diagonal()) + RIDGE * np.eye(4)
    squares: Array = np.einsum("ei,ij,ej->e", gaps, np.linalg.inv(shrunk), gaps)
    return squares / 4


def test_the_spread_of_edges_is_that_of_all_seen_and_is_saved() -> None:
    generator = torch.Generator().manual_seed(0)
    spread = Spread()
    seen = [torch.randn(count, 4, generator=generator) @ torch.randn(4, 4, generator=generator) for count in (3, 50, 1)]
    for edges in [*seen, torch.zeros(0, 4)]:
        spread.see(edges)
    every = numbers(torch.cat(seen))
    mean = every.sum(0) / (PRIOR + len(every))
    second = (PRIOR * PRIOR_VARIANCE * np.eye(4) + every.T @ every) / (PRIOR + len(every))
    covariance = second - np.outer(mean, mean)
    assert numbers(spread.covariance) == pytest.approx(covariance, rel=1e-4, abs=1e-5)
    one, two = torch.randn(6, 4, generator=generator), torch.randn(6, 4, generator=generator)
    expected = mahalanobis(numbers(one - two), covariance)
    assert numbers(spread(one, two)) == pytest.approx(expected, rel=1e-4)
    other = Spread()
    other.load_state_dict(spread.state_dict())
    assert torch.equal(other(one, two), spread(one, two))


def made(student: Outputs, teacher: Outputs, **options: Any) -> Graphkd:
    torch.manual_seed(0)
    objective = Graphkd(**options)
    objective.prepare(student, teacher)
    return objective.eval()


@pytest.mark.parametrize("width", [6, 9])
@pytest.mark.parametrize("labelled", [True, False])
def test_graphkd_by_hand(labelled: bool, width: int) -> None:
    counts = [25, 0, 12, 1]
    student, teacher = look(counts, seed=1, labelled=labelled), look(counts, seed=2, width=width, labelled=labelled)
    objective = made(student, teacher, text_weight=0.7, edge_weight=0.3)
    theirs = looked(teacher)
    x_s, x_t = (numbers(as_tokens(looked(whole).pooled)) for whole in (student, teacher))  # type: ignore[arg-type]
    p_s = x_s
    if width != 6:
        assert isinstance(objective.projector, torch.nn.Linear)
        p_s = x_s @ numbers(objective.projector.weight).T + numbers(objective.projector.bias)

    def normed(x: Array) -> Array:
        result: Array = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return result.reshape(len(x), -1)

    kinds = np.where(theirs.truths.numpy() >= 0, theirs.truths.numpy(), numbers(theirs.classes).argmax(1))
    expected, merged = 0.0, 0
    for regions, graph in objective.graphs(theirs):
        rows, shares, text = regions.numpy(), numbers(graph.shares), graph.text.numpy()
        assert (text == [kinds[rows[members[0]]] not in (1, 3) for members in graph.members]).all()
        n_s, n_t = shares @ normed(p_s[rows]), shares @ normed(x_t[rows])
        off = 1 - (n_s * n_t).sum(1) / np.linalg.norm(n_s, axis=1) / np.linalg.norm(n_t, axis=1)
        if (~text).any():
            expected += off[~text].mean()
        if text.any():
            expected += 0.7 * min(1, max(1, (~text).sum()) / text.sum()) * off[text].mean()
        if graph.edges:
            gaps = relations_by_hand(x_s[rows], shares, graph.edges) - relations_by_hand(x_t[rows], shares, graph.edges)
            expected += 0.3 * mahalanobis(gaps, PRIOR_VARIANCE * np.eye(4)).mean()
        merged += len(rows) - len(graph.members)
    assert merged
    assert objective(student, teacher).item() == pytest.approx(expected / 4, rel=1e-3)


def test_the_first_steps_learn_how_edges_vary() -> None:
    student, teacher = look([15, 10], seed=1), look([15, 10], seed=2)
    objective = made(student, teacher)
    before = objective(student, teacher).item()
    assert objective(student, teacher).item() == before
    assert objective.spread.count == PRIOR
    objective.train()(student, teacher)
    edges = sum(len(graph.edges) for _, graph in objective.graphs(looked(teacher)))
    assert objective.spread.count == PRIOR + edges
    assert "spread.covariance" in objective.state_dict()


def test_graphs_hold_what_is_there_once() -> None:
    teacher = look([30, 20], seed=2)
    looks = looked(teacher)
    twice = [torch.cat([looks.given, looks.given + 0.001]), torch.cat([looks.truths, looks.truths])]
    looks.given, looks.truths = twice
    for name in ("pages", "classes", "background", "boxes", "pooled"):
        setattr(looks, name, torch.cat([getattr(looks, name)] * 2))
    found = Graphkd().graphs(looks)
    for page, (regions, graph) in enumerate(found):
        here = (looks.pages == page) & (looks.truths >= 0)
        assert set(regions.tolist()) <= set(torch.nonzero(here).flatten().tolist())
        assert len(regions) <= int(here.sum()) / 2
        assert sorted(region for members in graph.members for region in members) == list(range(len(regions)))


def kinds(graphs: list[tuple[Tensor, RegionGraph]], looks: Looks) -> dict[str, set[bool]]:
    seen: dict[str, set[bool]] = {}
    for regions, graph in graphs:
        for members, text in zip(graph.members, graph.text.tolist(), strict=True):
            for member in members:
                seen.setdefault(looks.names[int(looks.truths[regions[member]])], set()).add(text)
    return seen


def test_names_say_what_is_text() -> None:
    looks = looked(look([40, 40], seed=2))
    usual = {"caption": {True}, "figure": {False}, "list-item": {True}, "table": {False}, "text": {True}}
    assert kinds(Graphkd().graphs(looks), looks) == usual
    named = Graphkd(non_text=("List Item", "FIGURE"))
    assert kinds(named.graphs(looks), looks) == {**usual, "list-item": {False}, "table": {True}}
    assert kinds(Graphkd(non_text=()).graphs(looks), looks) == {name: {True} for name in usual}


def test_names_that_are_missing_or_unknown_are_refused() -> None:
    whole = look([5])
    with pytest.raises(
        ModelError, match="non_text names tabel, the classes are caption, figure, list-item, table, text"
    ):
        made(whole, whole, non_text=("tabel", "figure"))
    looked(whole).names = ()
    with pytest.raises(ModelError, match="graphkd tells text by the names of classes, this detector has none"):
        made(whole, whole)
    assert torch.isfinite(made(whole, whole, split="covariance")(whole, whole))


def test_unlabelled_pages_take_the_teachers_opinion() -> None:
    teacher, known = look([12, 8], seed=2, labelled=False), look([12, 8], seed=2)
    looks = looked(known)
    assert (looked(teacher).truths == UNLABELLED).all()
    assert looks.background is not None
    opinion = torch.where(looks.classes.amax(1) >= looks.background, looks.classes.argmax(1), -1)
    looks.truths = opinion
    one, two = (Graphkd().graphs(looked(whole)) for whole in (teacher, known))
    assert [graph.members for _, graph in one] == [graph.members for _, graph in two]
    assert [regions.tolist() for regions, _ in one] == [regions.tolist() for regions, _ in two]


def test_names_that_no_list_knows_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = look([4]), look([4], seed=1)
    for objective, warned in ((Graphkd(), False), (Graphkd(split="covariance"), False)):
        objective.prepare(ours, theirs)
        assert ("takes all classes for text" in capsys.readouterr().err) is warned
    german = replace(looked(theirs), names=("absatz", "bild", "liste", "spalte", "titel"))
    Graphkd().prepare(replace(ours, looks=replace(looked(ours), names=german.names)), replace(theirs, looks=german))
    assert "takes all classes for text" in capsys.readouterr().err
