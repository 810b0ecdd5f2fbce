"""Names as text of a drawing: escaped, and without what no XML document may hold."""

from __future__ import annotations

import re
from html import escape as escape_html

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""All that is no character of XML 1.0 (section 2.2): most control characters, half surrogates, U+FFFE and U+FFFF."""


def escape(text: str) -> str:
    """The text for SVG, in an element or a quoted attribute. What XML has no place for becomes U+FFFD, seen as a box."""
    return escape_html(NOT_XML.sub("\ufffd", text))
