"""Donut's target format: JSON as a flat text of tags, there and back.

``{"menu": [{"name": "tea"}, {"name": "milk"}], "total": "3.00"}`` becomes
``<s_total>3.00</s_total><s_menu><s_name>tea</s_name><sep/><s_name>milk</s_name></s_menu>`` (keys in reverse order, as
published). The format cannot carry everything: one-entry lists, numbers, empty values and more come back changed.
`canonical` says what it can carry, `survives` says for one document what is lost.
"""

from __future__ import annotations

import re
from typing import Any

SEPARATOR = "<sep/>"
_OPEN = re.compile(r"<s_(.*?)>", re.DOTALL)


def json_to_tokens(value: Any, sort_keys: bool = True) -> str:
    """A JSON value as text of tags (Kim et al. 2022, arXiv 2111.15664, section 3.2; rules of the published code)."""
    if isinstance(value, dict):
        if set(value) == {"text_sequence"}:
            return str(value["text_sequence"])
        keys = sorted(value, reverse=True) if sort_keys else list(value)
        return "".join(f"<s_{key}>{json_to_tokens(value[key], sort_keys)}</s_{key}>" for key in keys)
    if isinstance(value, list):
        return SEPARATOR.join(json_to_tokens(item, sort_keys) for item in value)
    return "" if value is None else str(value)


def tag_tokens(value: Any) -> set[str]:
    """All tags that `json_to_tokens` needs for ``value``: opening and closing tag of each key, and the separator."""
    tags = {SEPARATOR}
    if isinstance(value, dict) and set(value) != {"text_sequence"}:
        for key, child in value.items():
            tags |= {f"<s_{key}>", f"</s_{key}>"} | tag_tokens(child)
    elif isinstance(value, list):
        for child in value:
            tags |= tag_tokens(child)
    return tags


def tokens_to_json(text: str) -> Any:
    """The JSON of a text of tags; ``{"text_sequence": text}`` where there is none.

    Lenient as the published code is, for a model's output is not always well-formed: an opening tag that is never
    closed is dropped, text outside tags is ignored, a missing closing tag does not take the other fields with it.
    """
    parsed = _parse(text)
    return parsed if parsed else {"text_sequence": text}


def _parse(text: str) -> Any:
    """A dict, a list of dicts where rows are separated, or an empty dict."""
    rows: list[Any] = []
    output: dict[str, Any] = {}
    while opening := _OPEN.search(text):
        key = opening.group(1)
        start = opening.group(0)
        closing = re.compile(f"</s_{re.escape(key)}>", re.IGNORECASE).search(text)
        if closing is None:
            text = text.replace(start, "")
            continue
        end = closing.group(0)
        content = re.compile(f"{re.escape(start)}(.*?){re.escape(end)}", re.IGNORECASE | re.DOTALL).search(text)
        if content is not None:
            value = _content(content.group(1).strip())
            if value != {}:  # tags inside that hold nothing whole: the published code drops the key, too
                output[key] = value
        text = text[text.find(end) + len(end) :].strip()
        if text.startswith(SEPARATOR):
            rows.append(output)
            output, text = {}, text[len(SEPARATOR) :]
            if not _OPEN.search(text):
                break
    if rows:
        return rows + [output] if output else rows
    return output


def _content(content: str) -> Any:
    if "<s_" in content and "</s_" in content:
        value = _parse(content)
        return value[0] if isinstance(value, list) and len(value) == 1 else value
    leaves = [leaf.strip() for leaf in content.split(SEPARATOR)]
    return leaves[0] if len(leaves) == 1 else leaves


def canonical(value: Any) -> Any:
    """What the format can carry of a value: text for numbers, "" for null and {}, and no list of one entry."""
    if isinstance(value, dict):
        return {key: canonical(child) for key, child in value.items()} if value else ""
    if isinstance(value, list):
        items = [canonical(item) for item in value]
        return "" if not items else items[0] if len(items) == 1 else items
    return "" if value is None else str(value).strip()


def round_trip(value: Any) -> Any:
    """`tokens_to_json` of `json_to_tokens`."""
    return tokens_to_json(json_to_tokens(value))


def survives(value: Any) -> str | None:
    """None if a document comes back as `canonical` says; otherwise what is lost, as a short phrase."""
    problem = _problem(value, ())
    if problem is not None:
        return problem
    if not isinstance(value, dict | list) or not value:
        return "it is not an object with fields"
    expected = canonical(value)
    return None if round_trip(value) == expected else "it comes back changed from the text of tags"


def _problem(value: Any, path: tuple[str, ...]) -> str | None:
    where = ".".join(path) or "the document"
    if isinstance(value, dict):
        for key, child in value.items():
            if not re.fullmatch(r"[^<>/\n]+", key):
                return f"the key {key!r} in {where} holds characters that break tags"
            if key.casefold() in (outer.casefold() for outer in path):
                return f"the key {key!r} stands inside itself in {where}"
            if found := _problem(child, (*path, key)):
                return found
    elif isinstance(value, list):
        if any(isinstance(item, list) for item in value):
            return f"{where} is a list of lists"
        if len({isinstance(item, dict) for item in value}) > 1:
            return f"{where} mixes objects and values"
        for item in value:
            if found := _problem(item, path):
                return found
    elif isinstance(value, str) and ("<s_" in value or "</s_" in value or SEPARATOR in value):
        return f"the value of {where} holds a tag"
    return None
