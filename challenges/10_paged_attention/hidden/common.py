"""What the stages share: a call and what it says, in words."""

from pytest_llmgrind import check


def blocks_of(tokens, size):
    return -(-tokens // size)


class Said:
    """An object of the solution, and the calls that it has got, in words."""

    def __init__(self, solution, kind, *args):
        self.calls, self.head = [], f"{kind}({', '.join(map(str, args))})"
        self.it = self._told(getattr(solution, kind), args)

    @property
    def how(self):
        return f"{self.head}: {', '.join(self.calls)}" if self.calls else self.head

    def do(self, name, *args, shown=""):
        """Make a call, and remember it, in other words where its arguments are long."""
        self.calls.append(shown or f"{name}({', '.join(map(str, args))})")
        return self._told(getattr(self.it, name), args)

    def see(self, name, *args):
        """Ask something that changes nothing."""
        value = getattr(self.it, name)
        return self._told(value, args) if args else value

    def refuses(self, error, name, *args, names=""):
        """A call that has to raise."""
        call = f"{name}({', '.join(map(str, args))})"

        def made():
            getattr(self.it, name)(*args)
            self.that(False, f"{call} raised nothing, wanted {error.__name__}", self.state())

        check.raises(error, made, what=call, names=names, given=self.how)
        self.calls.append(f"a refused {call}")

    def equal(self, saw, want, what):
        check.equal(saw, want, what=what, given=self.how)

    def that(self, holds, saw, value):
        check.that(holds, saw=saw, given=self.how, value=value)

    def _told(self, call, args):
        """What the solution raises is told with the calls that led there."""
        try:
            return call(*args)
        except NotImplementedError:
            raise
        except Exception as error:
            text = f"raised {type(error).__name__}: {error}"
            raise check.RuleBroken(f"{self.how}: {text}", where=self.how, value=text) from error
