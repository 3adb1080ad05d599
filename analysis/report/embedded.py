"""What a page holds deflated: text and arrays that would otherwise be most of the file."""

from __future__ import annotations

import base64
import zlib


def embedded(content: str | bytes) -> str:
    """Text (as UTF-8) or bytes as the page's own code reads them (``embedded`` in assets/opening.js): deflated with zlib's header, in
    base64."""
    data = content.encode() if isinstance(content, str) else content
    return base64.b64encode(zlib.compress(data, 6)).decode()
