"""Donut's target format: JSON as a flat text of tags, there and back.

``{"menu": [{"name": "tea"}, {"name": "milk"}], "total": "3.00"}`` becomes
``<s_total>3.00</s_total><s_menu><s_name>tea</s_name><sep/><s_name>milk</s_name></s_menu>`` (keys in reverse order, as
published). The format cannot carry everything: one-entry lists, numbers, empty values and more come back changed.
`canonical` says what it can carry, `survives` says for one document what is lost.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

SEPARATOR = "<sep/>"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""Tokens of every Donut's own, in the order of their ids, which is that of every published one. An answer ends at its first ``</s>``."""
SPELT_TAGS = ("<s_", "</s_", SEPARATOR)
"""What the text of a value must not spell letter by letter: the reader of the answer would take it for a tag."""
_OPEN = re.compile(r"<s_([^>]*)>", re.IGNORECASE)
_TAG = re.compile(rf"(?i:</?s_[^>]*>|{SEPARATOR})|{'|'.join(SPECIAL)}")


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


def as_categories(value: Any, names: Collection[str]) -> Any:
    """A JSON value in which texts that are one of ``names`` are written ``<name/>``, as published models of classes have them.

    Kim et al.'s code (`DonutModel.json2token`): a vocabulary that has such a token uses it, as for the kinds of RVL-CDIP.
    """
    return _leaves(value, {name: f"<{name}/>" for name in names}) if names else value


def from_categories(value: Any, names: Collection[str]) -> Any:
    """The other way round."""
    return _leaves(value, {f"<{name}/>": name for name in names}) if names else value


def _leaves(value: Any, changes: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _leaves(child, changes) for key, child in value.items()}
    if isinstance(value, list):
        return [_leaves(child, changes) for child in value]
    return changes.get(value, value) if isinstance(value, str) else value


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
    """The JSON of a text of tags; ``{"text_sequence": …}`` where no field can be read.

    Gives what `token2json` of transformers 5 gives, but for category tokens (`from_categories`), for a model's output is not always well-formed: an opening tag
    that is never closed is dropped (also from the ``text_sequence``), text outside tags is ignored, a missing closing
    tag does not take the other fields with it.
    """
    rows, separated, rest = _rows(text)
    if separated:
        return rows
    return rows[0] if rows else {"text_sequence": rest}


def _rows(text: str) -> tuple[list[dict[str, Any]], bool, str]:
    """The objects that separators part, whether there was a separator, and what was left when no field was found."""
    rows: list[dict[str, Any]] = []
    output: dict[str, Any] = {}
    while opening := _OPEN.search(text):
        start, key = opening.group(), opening.group(1)
        closing = re.search(f"</s_{re.escape(key)}>", text, re.IGNORECASE)
        if closing is None:
            text = text.replace(start, "")
            continue
        end = closing.group()
        content = re.search(f"{re.escape(start)}(.*?){re.escape(end)}", text, re.IGNORECASE | re.DOTALL)
        if content is not None and (value := _content(content.group(1).strip())) is not None:
            output[key] = value
        text = text[text.find(end) + len(end) :].strip()
        if text.startswith(SEPARATOR):
            rows.append(output)
            output, text = {}, text[len(SEPARATOR) :]
    return rows + [output] if output else rows, bool(rows), text


def _content(content: str) -> Any:
    """What stands between a pair of tags; None if it looks nested but holds no field."""
    if "<s_" in content and "</s_" in content:
        rows, _, _ = _rows(content)
        if not rows:
            return None
        return rows[0] if len(rows) == 1 else rows
    leaves = [leaf.strip() for leaf in content.split(SEPARATOR)]
    return leaves[0] if len(leaves) == 1 else leaves


class AsWritten(str):
    """A number with a point as the file writes it: 9.00 is not 9.0 on the page. Give it to `json.loads` as ``parse_float``."""


def canonical(value: Any) -> Any:
    """What the format can carry of a value: text for numbers, "" for null and {}, and no list of one entry."""
    if isinstance(value, dict):
        if set(value) == {"text_sequence"}:
            return {"text_sequence": str(value["text_sequence"])}
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
    if not isinstance(value, dict | list) or not value:
        return "it is not an object with fields"
    if lost := _loss(value, ()):
        return lost
    return None if round_trip(value) == canonical(value) else "it comes back changed from the text of tags"


def _loss(value: Any, path: tuple[str, ...]) -> str | None:
    """The first of the usual causes of loss."""
    where = ".".join(path) or "the document"
    if isinstance(value, dict):
        if path and set(value) == {"text_sequence"}:
            return f"{where} is a text_sequence, which only a whole document can be"
        for key, child in value.items():
            if ">" in key or "<" in key:
                return f"the key {key!r} in {where} holds characters that break tags"
            if key.lower() in (outer.lower() for outer in path):
                return f"the key {key!r} stands inside itself in {where}"
            if found := _loss(child, (*path, key)):
                return found
    elif isinstance(value, list):
        if any(isinstance(item, list) for item in value):
            return f"{where} is a list of lists"
        if len({isinstance(item, dict) for item in value}) > 1:
            return f"{where} mixes objects and values"
        if {} in value and len(value) > 1:
            return f"{where} holds an empty object"
        for item in value:
            if found := _loss(item, path):
                return found
    elif isinstance(value, str) and (_TAG.search(value) or any(begun in value for begun in SPELT_TAGS)):
        return f"the value of {where} holds a tag, which a tokenizer takes for its own"
    return None
