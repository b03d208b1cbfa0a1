"""What a solution did that ends its test, in one of five words."""

from __future__ import annotations

TIME = "time limit"
MEMORY = "memory limit"
CRASHED = "crashed"
PROTOCOL = "protocol"
FORBIDDEN = "forbidden"


class Breach(BaseException):
    """No Exception: Hypothesis would run the example again, and the solution's process anew."""

    def __init__(self, word: str, text: str, *, blocks: bool = False) -> None:
        super().__init__(text)
        self.word = word
        self.blocks = blocks
