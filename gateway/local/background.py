"""Work beside the main thread that an exit need not wait for.

The threads of an executor are joined when the interpreter ends: Ctrl-C in a slow download would wait for its end. Work
given to this may stop at any line, so it must leave nothing that is taken for whole.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future


def in_background(name: str, work: Callable[[], None]) -> Future[None]:
    """Run `work` on a thread that ends with the process; its end or its fault is the future's."""
    outcome: Future[None] = Future()

    def run() -> None:
        try:
            work()
        except Exception as fault:  # noqa: BLE001 - who waits for it gets it
            outcome.set_exception(fault)
        else:
            outcome.set_result(None)

    threading.Thread(target=run, name=name, daemon=True).start()
    return outcome
