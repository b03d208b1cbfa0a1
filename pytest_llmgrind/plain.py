"""Foreign objects as plain text: one line, no control characters, of bounded length.

Learners' objects may have a ``__repr__`` that raises, and texts of megabytes or with terminal
escapes in them. Nothing of theirs is printed but through here.
"""

from __future__ import annotations


def line(text: str, limit: int = 120) -> str:
    """A text in one line of at most ``limit`` characters."""
    text = text[: 10 * limit]
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def lines(text: str, limit: int = 30) -> list[str]:
    """A text of several lines, each at most 400 wide, spaces kept (a caret stands under them)."""
    found = text[: 400 * limit].split("\n")[:limit]
    return ["".join(c if c.isprintable() else " " for c in each)[:400].rstrip() for each in found]


def repr_of(value: object, limit: int = 120) -> str:
    """``repr(value)``, also where that raises."""
    try:
        return line(repr(value), limit)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def message_of(error: BaseException, limit: int = 300) -> str:
    """``str(error)``, also where that raises."""
    try:
        return line(str(error), limit)
    except Exception as raised:
        return f"<a text that cannot be made: {type(raised).__name__}>"


def text_of(error: BaseException, limit: int = 300) -> str:
    """``KeyError: 'k'``, or the name alone of an exception without a text."""
    message, name = message_of(error, limit), type(error).__name__
    return f"{name}: {message}" if message else name


def an(name: str) -> str:
    """``an int``, ``a list``."""
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
