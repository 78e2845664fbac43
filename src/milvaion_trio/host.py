"""Which event loop the caller runs on: everything public that can be awaited in both kinds of hosts asks here."""

import sniffio

__all__ = ["is_on_asyncio"]


def is_on_asyncio() -> bool:
    """Whether the caller is asyncio code; also where that runs on the bridge, in Trio's thread."""
    try:
        return sniffio.current_async_library() == "asyncio"
    except sniffio.AsyncLibraryNotFoundError:
        return False
