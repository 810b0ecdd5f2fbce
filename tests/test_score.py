from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import docstill
from docstill.errors import DataError, UserError
from docstill.metrics.classification import classification_metrics, softmax

RECEIPTS = [
    {"menu": [{"nm": "Tea", "price": "3.00"}, {"nm": "Pie", "price": "4.00"}], "total": {"price": "7.00"}},
    {"company": "Ōno & Söhne", "total": "12.50"},
    {},
]
PAGES = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]
LABELS = [{"label": 0}, {"label": 2}, {"label": 2}]


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """Writes predictions and answers, a line for each value; text is written as it is."""

    def write(predictions: list[Any], answers: list[Any]) -> tuple[Path, Path]:
        paths = (tmp_path / "predictions.jsonl", tmp_path / "answers.jsonl")
        for path, values in zip(paths, (predictions, answers), strict=True):
            lines = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return paths

    return write


def probabilities(rows: list[Any]) -> list[dict[str, Any]]:
    return [{"probabilities": row} for row in rows]


def test_kie_has_the_mean_the_fields_and_each_document(files: Any) -> None:
    predictions = [RECEIPTS[0], {"company": "Ono & Söhne", "total": "12.50", "date": "today"}, {}]
    result = docstill.score("kie", *files(predictions, RECEIPTS))
    assert set(result) == {"n", "metrics", "documents"}
    assert result["n"] == 3
    second = 1 - (1 + 1 + len("today")) / (2 + len("Ōno & Söhne") + len("12.50"))
    assert result["documents"] == [
        {"ted_accuracy": 1.0, "field_f1": 1.0},
        {"ted_accuracy": pytest.approx(second), "field_f1": pytest.approx(2 / 5)},
        {"ted_accuracy": 1.0, "field_f1": 1.0},
    ]
    metrics = result["metrics"]
    assert set(metrics) == {"ted_accuracy", "field_f1", "precision", "recall", "per_field"}
    assert metrics["ted_accuracy"] == pytest.approx((2 + second) / 3)
    assert (metrics["precision"], metrics["recall"], metrics["field_f1"]) == pytest.approx((6 / 8, 6 / 7, 12 / 15))
    assert metrics["per_field"]["menu.nm"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "support": 2.0}
    assert metrics["per_field"]["company"]["f1"] == 0.0
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda document: {"gt_parse": document},
        lambda document: {"ground_truth": json.dumps({"gt_parse": document})},
        lambda document: {"file_name": "1.png", "ground_truth": json.dumps({"gt_parse": document})},
        lambda document: {"file_name": "1.png", "ground_truth": {"gt_parse": document}},
        lambda document: {
            "ground_truth": json.dumps({"gt_parse": document, "meta": {"version": "2.0"}, "valid_line": []})
        },
        lambda document: {"ground_truth": json.dumps({"gt_parses": [document, {"other": "answer"}]})},
    ],
)
def test_answers_may_be_lines_of_metadata(files: Any, wrap: Any) -> None:
    plain = docstill.score("kie", *files(RECEIPTS[::-1], RECEIPTS))
    assert docstill.score("kie", *files(RECEIPTS[::-1], [wrap(document) for document in RECEIPTS])) == plain
    assert plain["metrics"]["ted_accuracy"] < 0.5


def test_of_several_right_answers_the_nearest_counts(files: Any) -> None:
    right = [{"gt_parses": [{"answer": "27 October"}, {"answer": "27/10"}, {"answer": "27.10."}]}] * 3
    said = [{"answer": "27.10."}, {"answer": "27/1"}, {"answer": "27 October"}]
    result = docstill.score("kie", *files(said, right))
    assert result["metrics"]["field_f1"] == pytest.approx(2 / 3)
    assert [document["ted_accuracy"] for document in result["documents"]] == pytest.approx([1, 1 - 1 / 6, 1])


def test_what_a_model_could_not_parse_scores_0_and_counts(files: Any) -> None:
    predictions = [{"text_sequence": "<s_menu><s_nm>"}, None, {}]
    result = docstill.score("kie", *files(predictions, [RECEIPTS[0]] * 3))
    assert result["n"] == 3
    assert result["metrics"]["field_f1"] == result["metrics"]["ted_accuracy"] == 0.0


def test_classification_from_probabilities_and_from_logits(files: Any) -> None:
    result = docstill.score("classification", *files(probabilities(PAGES), LABELS))
    assert result == {"n": 3, "metrics": classification_metrics(np.array(PAGES), np.array([0, 2, 2]))}
    assert result["metrics"]["accuracy"] == pytest.approx(2 / 3)
    logits = [[2.0, -1.0, 0.5], [300, -300, 0], [0, 0, 0]]
    result = docstill.score("classification", *files([{"logits": row} for row in logits], LABELS))
    assert result["metrics"] == pytest.approx(classification_metrics(softmax(np.array(logits)), np.array([0, 2, 2])))
    json.dumps(result, allow_nan=False)


def test_probabilities_that_were_rounded_are_taken(files: Any) -> None:
    result = docstill.score("classification", *files(probabilities([[0.3334, 0.3335, 0.3334]]), [{"label": 1}]))
    assert result["metrics"]["accuracy"] == 1.0


def test_broken_lines_are_all_named(files: Any) -> None:
    predictions, answers = files(
        ['{"a": "b"', '{"a": 1}', "nonsense", "1" * 5000, "[" * 100000, ""], [*RECEIPTS, "{]", "{}"]
    )
    with pytest.raises(DataError) as error:
        docstill.score("kie", predictions, answers)
    wanted = [*(f"{predictions}:{line}" for line in (1, 3, 4, 5)), f"{answers}:4"]
    assert [problem.split(": ")[0] for problem in error.value.problems] == wanted


def test_metadata_without_an_answer_is_refused_not_scored(files: Any) -> None:
    predictions, answers = files(
        RECEIPTS, [{"ground_truth": '{"gt_parse": {'}, {"ground_truth": "{}"}, {"ground_truth": {"gt_parse": {}}}]
    )
    with pytest.raises(DataError) as error:
        docstill.score("kie", predictions, answers)
    assert [problem.split(": ")[0] for problem in error.value.problems] == [f"{answers}:1", f"{answers}:2"]


def test_a_label_can_be_wrong_where_no_prediction_is_right(files: Any) -> None:
    with pytest.raises(DataError, match="i not negative"):
        docstill.score("classification", *files([{}, {}], [{"label": -1}, {"label": 0}]))


def test_pages_of_equal_probability_stay_tied(files: Any) -> None:
    # the rows sum to just less, and just more, than 1
    rows = [[0.7, 0.2, 0.1], [0.7, 0.1, 0.2], [0.7, 0.3, 0.0]]
    result = docstill.score("classification", *files(probabilities(rows), [{"label": label} for label in (0, 1, 0)]))
    assert result["metrics"]["aurc"] == pytest.approx(1 / 3)
    assert result["metrics"]["auroc_failure"] == 0.5


def test_files_of_different_length_are_refused_with_both_numbers(files: Any) -> None:
    with pytest.raises(UserError, match=r"predictions\.jsonl has 2 lines .*answers\.jsonl has 3"):
        docstill.score("kie", *files(RECEIPTS[:2], RECEIPTS))


@pytest.mark.parametrize(
    ("predictions", "answers", "name"), [([], [], "predictions"), ([{}], [], "answers"), (["", " "], [{}], "pred")]
)
def test_an_empty_file_is_refused(files: Any, predictions: list[Any], answers: list[Any], name: str) -> None:
    with pytest.raises(UserError, match=rf"{name}.*is empty"):
        docstill.score("kie", *files(predictions, answers))


def test_a_missing_file_and_an_unknown_task_are_the_users_to_mend(files: Any, tmp_path: Path) -> None:
    paths = files(RECEIPTS, RECEIPTS)
    with pytest.raises(UserError, match="cannot read"):
        docstill.score("kie", tmp_path / "none.jsonl", paths[1])
    with pytest.raises(UserError, match=r"'forms'.*kie, classification, layout"):
        docstill.score("forms", *paths)
    paths[0].write_bytes(b'{"a": "\xff"}\n')
    with pytest.raises(UserError, match="UTF-8"):
        docstill.score("kie", *paths)


@pytest.mark.parametrize("ending", ["\r\n", "\n\n\n"])
def test_windows_lines_a_byte_order_mark_and_blank_lines_at_the_end_are_no_fault(tmp_path: Path, ending: str) -> None:
    for name in ("p", "a"):
        (tmp_path / name).write_bytes(
            b"\xef\xbb\xbf" + b"\r\n".join([b'{"a": "x\xe2\x80\xa8y"}'] * 2) + ending.encode()
        )
    assert docstill.score("kie", tmp_path / "p", tmp_path / "a")["n"] == 2


BAD_PREDICTIONS = [
    {"probabilities": [0.5, 0.5]},
    {"probabilities": [0.5, 0.6, 0.1]},
    {"probabilities": [1.2, -0.2, 0.0]},
    '{"probabilities": [NaN, 0.5, 0.5]}',
    {"probabilities": ["a", 0.5, 0.5]},
    {"probabilities": "0.5"},
    {"probabilities": [1.0]},
    {"logits": [1, 2, 3], "probabilities": [1, 0, 0]},
    {"label": 1},
    [0.1, 0.2, 0.7],
    '{"logits": [Infinity, 1, 2]}',
    {"logits": []},
    {"logits": [10**400, 1, 2]},
    {"probabilities": [True, False, False]},
]
BAD_ANSWERS = [{"label": 3}, {"label": -1}, {"label": "0"}, {"label": True}, {"label": 1.0}, {"label": None}, {}, 1]


def test_all_that_is_wrong_with_a_classification_is_told_at_once(files: Any) -> None:
    good = probabilities(PAGES[:1]) * (len(BAD_PREDICTIONS) + len(BAD_ANSWERS))
    predictions, answers = files(
        BAD_PREDICTIONS + good, LABELS[:1] * (len(BAD_PREDICTIONS) + len(good) - len(BAD_ANSWERS)) + BAD_ANSWERS
    )
    with pytest.raises(DataError) as error:
        docstill.score("classification", predictions, answers)
    places = [problem.split(": ")[0] for problem in error.value.problems]
    first = len(BAD_PREDICTIONS) + len(good) - len(BAD_ANSWERS) + 1
    assert sorted(places) == sorted(
        [f"{predictions}:{line}" for line in range(1, len(BAD_PREDICTIONS) + 1)]
        + [f"{answers}:{line}" for line in range(first, first + len(BAD_ANSWERS))]
    )


def test_intervals_hold_the_figures(files: Any) -> None:
    pages, labels = probabilities(PAGES * 20), LABELS * 20
    result = docstill.score("classification", *files(pages, labels), intervals=True)
    for name, (low, high) in result["intervals"].items():
        assert low <= high
        if name in ("accuracy", "nll", "brier"):
            assert low <= result["metrics"][name] <= high
    assert "ece_floor" not in result["intervals"]
    kie = docstill.score("kie", *files(RECEIPTS * 10, RECEIPTS * 10), intervals=True)
    assert kie["intervals"]["field_f1"] == [1.0, 1.0]


def test_the_figures_behind_kie_intervals_are_those_of_the_metrics(files: Any) -> None:
    wrong = [{"company": "Ono", "total": "12.50"}, {"total": "7.00"}, {}]
    result = docstill.score("kie", *files(wrong, [RECEIPTS[1], {}, {}]), against=files(wrong, [RECEIPTS[1], {}, {}])[0])
    assert result["metrics"]["field_f1"] == pytest.approx(2 * 1 / (3 + 2))
    assert all(entry == {"value": 0.0, "interval": [0.0, 0.0]} for entry in result["difference"].values())


def test_two_systems_are_compared_on_the_same_documents(files: Any, tmp_path: Path) -> None:
    predictions, answers = files(probabilities(PAGES * 10), LABELS * 10)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in probabilities(PAGES[::-1] * 10)), encoding="utf-8")
    difference = docstill.score("classification", predictions, answers, against=other)["difference"]["accuracy"]
    assert difference["value"] == pytest.approx(2 / 3)
    assert difference["interval"][0] < 2 / 3 < difference["interval"][1]
    other.write_text("{}\n", encoding="utf-8")
    with pytest.raises(UserError, match="has 1 lines and"):
        docstill.score("classification", predictions, answers, against=other)


def test_resampling_has_a_bar(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, answers = files(probabilities(PAGES), LABELS)
    plain = docstill.score("classification", predictions, answers, intervals=True, against=predictions)
    steps: list[tuple[int, int]] = []

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Any]:
        yield lambda done, of, _: steps.append((done, of))

    monkeypatch.setattr("docstill.progress.bar", bar)
    assert docstill.score("classification", predictions, answers, intervals=True, against=predictions) == plain
    assert steps == [(done, 1000) for done in range(1, 1001)] * 2


def test_unknown_pages(files: Any, tmp_path: Path) -> None:
    logits = [{"logits": row} for row in ([4.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 6.0])]
    predictions, answers = files(logits, LABELS)
    unknown = tmp_path / "unknown.jsonl"
    unknown.write_text('{"logits": [0.1, 0.0, 0.0]}\n{"logits": [0.0, 5.5, 0.0]}\n', encoding="utf-8")
    found = docstill.score("classification", predictions, answers, ood=unknown)["ood"]
    assert found["n"] == 2
    assert found["max_probability"] == {"auroc": pytest.approx(5 / 6 - 1 / 6), "fpr95": 0.5}
    assert set(found["energy"]) == {"auroc", "fpr95"}
    unknown.write_text('{"probabilities": [0.5, 0.5]}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"2 classes, .* has 3"):
        docstill.score("classification", predictions, answers, ood=unknown)
    unknown.write_text('{"probabilities": [0.3, 0.3, 0.4]}\n', encoding="utf-8")
    assert "energy" not in docstill.score("classification", predictions, answers, ood=unknown)["ood"]
    with pytest.raises(UserError, match="score --task classification"):
        docstill.score("kie", predictions, answers, ood=unknown)


BOXES = {
    "images": [{"id": 10, "file_name": "a.png"}, {"id": 11, "file_name": "b.png"}],
    "categories": [{"id": 2, "name": "text"}, {"id": 5, "name": "table"}],
    "annotations": [
        {"id": 0, "image_id": 10, "category_id": 2, "bbox": [0, 0, 100, 100], "area": 10000, "iscrowd": 0},
        {"id": 1, "image_id": 10, "category_id": 5, "bbox": [200, 0, 20, 20], "area": 400, "iscrowd": 0},
    ],
}


@pytest.fixture
def boxes(tmp_path: Path) -> Any:
    """Writes results and annotations."""

    def write(results: Any, annotations: Any = BOXES) -> tuple[Path, Path]:
        paths = (tmp_path / "results.json", tmp_path / "annotations.json")
        for path, value in zip(paths, (results, annotations), strict=True):
            path.write_text(json.dumps(value), encoding="utf-8")
        return paths

    return write


def result(page: int, label: int, box: list[Any], score: Any = 0.5) -> dict[str, Any]:
    return {"image_id": page, "category_id": label, "bbox": box, "score": score}


def test_layout_is_scored_from_cocos_files(boxes: Any) -> None:
    found = docstill.score("layout", *boxes([result(10, 2, [0, 0, 100, 100]), result(11, 5, [0, 0, 9, 9], 0.9)]))
    assert found["n"] == 2
    assert set(found) == {"n", "metrics"}
    metrics = found["metrics"]
    keys = "ap ap50 ap75 ap_small ap_medium ap_large ar ap_300 per_class"
    assert set(metrics) == set(keys.split())
    assert metrics["ap"] == pytest.approx(0.5)
    assert (metrics["ap_small"], metrics["ap_medium"], metrics["ap_large"]) == (0.0, None, pytest.approx(1.0))
    assert metrics["per_class"] == {
        "text": {"ap": pytest.approx(1.0), "ap50": pytest.approx(1.0), "count": 1},
        "table": {"ap": 0.0, "ap50": 0.0, "count": 1},
    }
    json.dumps(found, allow_nan=False)
    assert docstill.score("layout", *boxes([]))["metrics"]["ap"] == 0.0


def test_all_that_is_wrong_with_results_is_told_at_once(boxes: Any) -> None:
    good = [0, 0, 5, 5]
    bad = [
        result(10, 2, [0, 0, -1, 5]),
        result(10, 2, [0, 0, 1]),
        result(10, 2, ["0", 0, 1, 1]),
        result(10, 2, good, None),
    ]
    bad += [result(10, 2, good, float("nan")), result(99, 2, good), result(98, 2, good), result(10, 1, good), {}, 3]
    results, annotations = boxes([*bad, result(10, 2, [0, 0, 0, 0])])
    with pytest.raises(DataError) as error:
        docstill.score("layout", results, annotations)
    problems = error.value.problems
    assert [problem.split(": ")[1] for problem in problems[:7]] == [f"results[{n}]" for n in (0, 1, 2, 3, 4, 8, 9)]
    assert problems[7:] == [
        "results.json: results 5, 6 are for images that annotations.json does not list: image_id 99, 98; mend or remove them",
        "results.json: results 7 are for categories that annotations.json does not list: category_id 1; mend or remove them",
    ]
    with pytest.raises(DataError, match="expected a list"):
        docstill.score("layout", annotations, annotations)
    with pytest.raises(DataError, match="expected an object with the lists images"):
        docstill.score("layout", results, results)
    with pytest.raises(UserError, match="score --task layout without them"):
        docstill.score("layout", results, annotations, ood=results)


def test_decimal_numbers_are_text_as_the_file_writes_them(tmp_path: Path) -> None:
    for name, line in (
        ("said", '{"total": "9.00", "tax": 1e-05}'),
        ("right", '{"gt_parse": {"total": 9.00, "tax": 1e-05}}'),
    ):
        (tmp_path / name).write_text(line + "\n")
    assert docstill.score("kie", tmp_path / "said", tmp_path / "right")["metrics"]["field_f1"] == 1


def test_endless_nesting_is_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "said").write_text('{"a":' * 900 + "1" + "}" * 900 + "\n")
    (tmp_path / "right").write_text('{"a": "1"}\n')
    with pytest.raises(DataError) as error:
        docstill.score("kie", tmp_path / "said", tmp_path / "right")
    assert error.value.problems == [f"{tmp_path / 'said'}:1: nested more than 50 deep; flatten it"]


NAMED: list[dict[str, Any]] = [
    {"file_name": f"{name}.png", "ground_truth": json.dumps({"gt_parse": {"nr": name}})} for name in "abcd"
]
SAID: list[dict[str, Any]] = [{"file": f"{name}.png", "gt_parse": {"nr": name}} for name in "cadb"]


def read_answer(name: str, fields: Any) -> dict[str, Any]:
    """What `predict` says of a page."""
    return {"file": name, "fields": fields, "confidence": {}, "document_confidence": 0.5, "text": "", "blank": False}


@pytest.mark.parametrize("folder", ["", "./", "/home/me/pages/validation/", "..\\pages\\"])
def test_documents_are_paired_by_name_whatever_their_order(files: Any, folder: str) -> None:
    said = [{**line, "file": folder + line["file"]} for line in SAID]
    result = docstill.score("kie", *files(said, NAMED))
    assert result["metrics"]["field_f1"] == 1.0
    said[0]["gt_parse"] = {"nr": "x"}  # of c, the third of the answers
    assert [document["field_f1"] for document in docstill.score("kie", *files(said, NAMED))["documents"]] == [
        1,
        1,
        0,
        1,
    ]


def test_names_that_end_in_one_another_find_their_own(files: Any) -> None:
    names = ["1.png", "a/1.png", "b/a/1.png"]
    right = [{"file_name": name, "ground_truth": {"gt_parse": {"nr": name}}} for name in names]
    said = [{"file": f"/x/b/{name}", "gt_parse": {"nr": name}} for name in reversed(names)]
    with pytest.raises(DataError, match=r"b/a/1\.png was already given"):  # /x/b/a/1.png could be any of the three
        docstill.score("kie", *files(said, right))
    said = [{"file": f"/x/{name}", "gt_parse": {"nr": name}} for name in reversed(names)]
    assert docstill.score("kie", *files(said, right))["metrics"]["field_f1"] == 1.0


def test_pages_of_one_file_are_told_apart(files: Any) -> None:
    right = [{"file_name": "a.pdf", "page": number, "gt_parse": {"nr": str(number)}} for number in (1, 2, 3)]
    said = [{"file": "x/a.pdf", "page": number, "gt_parse": {"nr": str(number)}} for number in (3, 1, 2)]
    assert docstill.score("kie", *files(said, right))["metrics"]["field_f1"] == 1.0
    one = [{**line, "page": 7} for line in NAMED]  # said by one side alone, of files that are named once
    assert docstill.score("kie", *files(SAID, one))["metrics"]["field_f1"] == 1.0


def test_null_is_nothing_read(files: Any) -> None:
    result = docstill.score("kie", *files([None, {}], [{"nr": "1"}, {"nr": "2"}]))
    assert set(result["metrics"]["per_field"]) == {"nr"}
    assert result["metrics"]["field_f1"] == 0.0


def test_predictions_may_come_through_a_pipe(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said, right = files([RECEIPTS[0]], [RECEIPTS[0]])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(said.read_bytes())))
    assert docstill.score("kie", "-", right)["metrics"]["field_f1"] == 1.0


def test_names_without_a_counterpart_are_all_told_at_once(files: Any) -> None:
    said = [SAID[0], {"file": "other/e.png", "gt_parse": {}}, SAID[1], {**SAID[1], "file": "far/a.png"}, SAID[2]]
    predictions, answers = files(said, [*NAMED, NAMED[3]])
    with pytest.raises(DataError, match="do not pair by their names") as error:
        docstill.score("kie", predictions, answers)
    assert error.value.problems == [
        f"{answers}:5: d.png was already given in {answers}:4; keep one of them",
        f"{predictions}:2: no right answer is named other/e.png",
        f"{predictions}:4: a.png was already given in {predictions}:3; keep one of them",
        f"{answers}:2: no prediction is named b.png",
    ]


def test_a_bad_line_keeps_its_number_when_lines_are_paired_by_name(files: Any) -> None:
    said = [{**SAID[0], "gt_parse": json.loads('{"a":' * 60 + "1" + "}" * 60)}, *SAID[1:]]
    predictions, answers = files(said, NAMED)
    with pytest.raises(DataError) as error:
        docstill.score("kie", predictions, answers)
    assert error.value.problems == [f"{predictions}:1: nested more than 50 deep; flatten it"]


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ([{"gt_parse": {"nr": name}} for name in "abcd"], NAMED),
        ([SAID[0], {"nr": "b"}, *SAID[2:]], [{"nr": name} for name in "cbdb"]),
        # fields of the documents, and no names of theirs
        ([{"file": "x", "label": "1"}, {"file": "y", "label": "2"}], [{"file": "x", "label": "1"}] * 2),
        # several lines of one page, one a question
        ([{"file": "a", "gt_parse": {"q": n}} for n in "12"], [{"file_name": "a", "gt_parse": {"q": n}} for n in "12"]),
    ],
)
def test_without_names_on_both_sides_lines_are_paired_by_place(files: Any, said: list[Any], right: list[Any]) -> None:
    found = docstill.score("kie", *files(said, right))
    assert found["documents"][0]["field_f1"] == 1.0
    assert found["n"] == len(right)


def test_two_systems_are_set_against_each_other_by_name(files: Any, tmp_path: Path) -> None:
    wrong = [{**line, "gt_parse": {"nr": "x"}} if line["file"] == "a.png" else line for line in SAID]
    predictions, answers = files(SAID, NAMED)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(line) + "\n" for line in sorted(wrong, key=lambda line: line["file"])))
    result = docstill.score("kie", predictions, answers, intervals=True, against=other)
    assert result["intervals"]["field_f1"] == [1.0, 1.0]
    assert result["difference"]["field_f1"]["value"] == pytest.approx(1 / 4)
    assert docstill.score("kie", other, answers, against=other)["difference"]["field_f1"]["interval"] == [0.0, 0.0]
    other.write_text("".join(json.dumps(line) + "\n" for line in wrong[1:]))
    with pytest.raises(DataError, match=r"no prediction is named c\.png"):
        docstill.score("kie", predictions, answers, against=other)


@pytest.mark.parametrize("indent", [None, 2])
def test_what_predict_prints_is_scored(files: Any, indent: int | None) -> None:
    answers = [read_answer(f"scans/{name}.png", {"nr": name}) for name in "dba"]
    answers.append({"file": "scans/c.png", "error": "scans/c.png: is damaged"})
    predictions, right = files([json.dumps(answers, indent=indent)], NAMED)
    result = docstill.score("kie", predictions, right)
    assert [document["field_f1"] for document in result["documents"]] == [1, 1, 0, 1]
    assert result["metrics"]["precision"] == 1.0  # nothing was read from the damaged one, and nothing wrong
    lines = docstill.score("kie", *files(answers, NAMED))
    assert lines == result
    with pytest.raises(DataError, match="holds an error in place of the right answer"):
        docstill.score("kie", *files(answers, answers))


def test_a_document_that_is_a_list_is_still_one_line(files: Any) -> None:
    rows = [{"nm": "Tea"}, {"nm": "Pie"}]
    assert docstill.score("kie", *files([rows], [{"gt_parse": rows}]))["metrics"]["field_f1"] == 1.0
    assert docstill.score("kie", *files([rows, rows], [rows, rows]))["n"] == 2
    assert docstill.score("kie", *files([json.dumps(rows, indent=1)], rows))["n"] == 2


def test_what_predict_says_of_classes_is_scored(files: Any, tmp_path: Path) -> None:
    names = ["form/1.png", "letter/2.png", "memo/3.png"]
    said = []
    for name, row in zip(names, PAGES, strict=True):
        ranked = sorted(zip(("form", "letter", "memo"), row, strict=True), key=lambda pair: -pair[1])
        said.append({"file": f"pages/{name}", "label": ranked[0][0], "probability": ranked[0][1]})
        said[-1]["probabilities"] = dict(ranked)
    right = [{"file": name, **label} for name, label in zip(names, LABELS, strict=True)]
    wanted = docstill.score("classification", *files(probabilities(PAGES), LABELS))
    predictions, answers = files([json.dumps(said[::-1])], right)
    assert docstill.score("classification", predictions, answers) == wanted
    assert docstill.score("classification", predictions, answers, ood=predictions)["ood"]["n"] == 3
    predictions, answers = files([json.dumps([*said[:2], {"file": names[2], "error": "is damaged"}])], right)
    with pytest.raises(DataError) as error:
        docstill.score("classification", predictions, answers)
    assert error.value.problems == [
        f"{predictions}: answer 3: the page could not be read (is damaged); mend it, or leave it out everywhere"
    ]
