"""Stop a command at Ctrl-C or SIGTERM at a moment at which everything can be cleaned up.

SIGINT or SIGTERM -> KeyboardInterrupt in the main thread -> one line, exit code 130 or 143.

`stoppable` blocks both signals in every thread, and one thread waits for them. So a library that
installs a handler of its own, as MindSpore does, never runs it. The waiting thread interrupts the
main thread by SIGUSR1, but never inside of `held`: there a library would print a traceback or end
the process, or a folder would be left behind. Signals belong to the process, and so does the state
of this module.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LOCK = threading.RLock()  # whoever has it keeps the main thread from being interrupted
_received: list[int] = []  # signals of the running command
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@contextmanager
def held() -> Iterator[None]:
    """Run a block to its end before a stop interrupts the main thread; keep such blocks short."""
    with _LOCK:
        yield


def is_stopping() -> bool:
    """Return whether the running command was told to stop, even if a library hid the interrupt."""
    return bool(_received)


def stoppable(program: str, run: Callable[[], int], *, last: bool = False) -> int:
    """Run a command; if it is told to stop, print one line after it has cleaned up.

    Every exception after the stop counts as its consequence: a library may turn an interrupt into
    an error of its own. A further signal is ignored, because it would interrupt the cleaning.

    Args:
        program: Name of the program, for the line.
        run: The command; returns its exit code.
        last: Whether the process ends with the command. Then signals stay blocked afterwards, and
            libraries are unloaded undisturbed.

    Returns:
        Its exit code, or 128 + the number of the signal.
    """
    _received.clear()
    try:
        with _watched(last=last):
            code = run()
        if code == 0 or not is_stopping():
            return code
    except KeyboardInterrupt:  # also from Python's own handler, where signals cannot be blocked
        pass
    except BaseException:
        if not is_stopping():
            raise
    number = _received[0] if _received else signal.SIGINT
    print(f"{program}: {_WORDS[signal.Signals(number)]}", file=sys.stderr, flush=True)
    return 128 + number


@contextmanager
def _watched(*, last: bool) -> Iterator[None]:
    here = threading.current_thread() is threading.main_thread()
    if not hasattr(signal, "pthread_sigmask") or not here:  # Windows, or a caller's own thread
        yield
        return
    signals = {signal.SIGINT, signal.SIGTERM}
    # Threads that are older than the command do not block the signals, so it has handlers, too.
    handlers = {number: signal.signal(number, _receive) for number in signals}
    handlers[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, _interrupt)
    hook, sys.unraisablehook = sys.unraisablehook, _interrupt_again(sys.unraisablehook)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    watcher = threading.Thread(target=_wait, args=(signals,), name="stopping", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        with held():
            signal.pthread_kill(watcher.ident or 0, signal.SIGUSR1)
        watcher.join()
        while is_stopping() and signal.sigpending() & signals:
            signal.sigtimedwait(signals, 0)  # repeated stops belong to the first
        sys.unraisablehook = hook
        if not last:
            for number, handler in handlers.items():
                if handler is not None:  # None: it was not installed from Python
                    signal.signal(number, handler)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _receive(number: int, _frame: Any) -> None:
    """Note a stop that a thread of before has got; the main thread may be in `held`."""
    if not is_stopping():
        _received.append(number)
        threading.Thread(target=_interrupt_main, daemon=True).start()


def _wait(signals: set[signal.Signals]) -> None:
    """Wait for the first stop; SIGUSR1 to this thread is the end of the command."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {*signals, signal.SIGUSR1})
    number = signal.sigwait({*signals, signal.SIGUSR1})
    if number == signal.SIGUSR1:
        return
    if not is_stopping():
        _received.append(number)
        _interrupt_main()
    while signal.sigwait({*signals, signal.SIGUSR1}) != signal.SIGUSR1:
        pass  # the first stop is being cleaned up


def _interrupt_main() -> None:
    with _LOCK:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _interrupt_again(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A hook for exceptions that Python cannot raise, for instance in a finaliser: interrupt again.

    Without it Python would print the interrupt and go on.
    """

    def interrupt(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)
            return
        later = threading.Timer(0.05, _interrupt_main)  # when the finaliser has ended
        later.daemon = True
        later.start()

    return interrupt
