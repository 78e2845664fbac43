"""What is inside exception groups. Nurseries wrap what their children raise, and nobody wants to meet the wrapping."""

from collections.abc import Iterator

__all__ = ["leaves", "sole"]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside, in their order; of an exception that is no group, itself.

    Without recursion: job code may raise a group that is nested deeper than Python's stack.
    """
    waiting = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(reversed(each.exceptions))
        else:
            yield each


def sole(error: BaseException) -> BaseException:
    """The one error inside groups of one, so that a caller can name it in an `except`; else the group."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
