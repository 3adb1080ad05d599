"""What leaves the process is redacted: no password, token or key of a URI is printed, logged, recorded or stored.

One function for every text: a sentence, a URI, a whole spec. It looks for URIs in it, and leaves all else as it is.
"""

from __future__ import annotations

import re

HIDDEN = "***"
"""What stands for a secret."""
_PASSWORD = re.compile(r"(?P<head>[A-Za-z][\w+.-]*:/{1,2}[^\s:/@\"'<>]*):[^\s@]*(?:@[^\s@\"'<>]*)*@")
"""``scheme://user:password@``, also with one slash, as a path has it; up to the last @, for who has not written a password's own as
%40."""
_TOKEN = re.compile(r"(?P<head>https?:/{1,2})[^\s:/@\"'<>]+@")
"""``https://token@``: a web address has no other use for a name alone; a database's user is no secret."""
_PARAMETER = re.compile(
    r"(?P<head>[?&;](?:\w*pass(?:word|wd|phrase)?|pwd|\w*secret\w*|\w*token|\w*credentials?|\w*signature|sig|odbc_connect"
    r"|(?:\w*_)?(?:api|access|account|private)_?key(?:_id)?)=)"
    r"[^\s&;\"'<>]+",
    re.IGNORECASE,
)
"""``?password=...`` and its like."""


def redacted(text: str) -> str:
    """The text with ``***`` in the place of every secret that stands in a URI.

    >>> redacted("sqlite:///a.db, postgresql://me:secret@host/name and https://me:p@ss@host/?token=abc&x=1")
    'sqlite:///a.db, postgresql://me:***@host/name and https://me:***@host/?token=***&x=1'
    """
    if ":/" not in text:
        return text
    text = _PASSWORD.sub(rf"\g<head>:{HIDDEN}@", text)
    text = _TOKEN.sub(rf"\g<head>{HIDDEN}@", text)
    return _PARAMETER.sub(rf"\g<head>{HIDDEN}", text)


def holds_secret(text: str) -> bool:
    """Whether something in the text would be redacted."""
    return redacted(text) != text
