"""Errors that are told in one sentence."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

LONGEST = 2000
"""Characters of a sentence; of a longer one the middle is left out."""


class AvilError(ValueError):
    """Bad input: a setting, a dataset, a model or a file. Says what, where, the value, and what to do.

    The commands print it and exit with code 2. Whatever the input holds, it is one line that a terminal can show.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(_one_line(sentence))


class Diverged(AvilError):
    """A loss, a metric or a gradient of α is no finite number."""


class RankLost(RuntimeError):
    """Another rank of the run has ended, and this one cannot go on."""


class Stopped(BaseException):
    """The run was told to stop, and has been saved if it could be. Like KeyboardInterrupt it is no error.

    Attributes:
        code: what a process that ends so exits with: 130 after SIGINT, 143 after SIGTERM.
    """

    def __init__(self, number: int, saved: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; {saved}")
        self.code = 128 + number


@contextmanager
def told_in(words: Mapping[str, str]) -> Iterator[None]:
    """What ends a run while this lasts is told in the words of whoever began it.

    Args:
        words: what the sentences of this package have, which are those of the command, and what takes its place.
    """
    try:
        yield
    except (AvilError, RankLost, Stopped) as error:
        said = str(error)
        for of_command, own in words.items():
            said = said.replace(of_command, own)
        error.args = (said,)
        raise


def reason(error: BaseException) -> str:
    """What an error says, in one line; one of the operating system, without its number and file."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__


def _one_line(text: str) -> str:
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 4 :]}"
    return text
