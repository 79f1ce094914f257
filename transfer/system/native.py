"""Threads, locks and an event loop of the operating system, also where gevent or eventlet put greenlets in their place.

An event loop that runs in a greenlet is the running loop of all greenlets of its thread, and breaks the application.
So the sender has a real thread, and greenlets wait for it by looking again and again. Neither library is imported here.
"""

from __future__ import annotations

import _socket
import asyncio
import selectors
import sys
import threading
import time
from contextlib import closing, suppress
from importlib import import_module
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

_MODULES = {"_thread": "thread", "threading": "thread", "select": "select", "socket": "socket", "time": "time"}
"""Standard modules, and what eventlet calls the patch of them."""
_FIRST_LOOK, _LONGEST_LOOK = 0.001, 0.02
"""Seconds between two looks of a greenlet that waits."""


def is_patched(module: str) -> bool:
    """Return whether gevent or eventlet has put something of its own into a standard module."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched(module):
        return True
    patcher: Any = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.already_patched.get(_MODULES.get(module, module)))


def original(module: str, name: str) -> Any:
    """Return what a standard module has, or had before it was patched."""
    if is_patched(module):
        monkey: Any = sys.modules.get("gevent.monkey")
        if monkey is not None and monkey.is_module_patched(module):
            return monkey.get_original(module, name)
        return getattr(sys.modules["eventlet.patcher"].original(module), name)
    return getattr(sys.modules.get(module) or import_module(module), name)


def has_greenlets() -> bool:
    """Return whether what `threading` calls a thread is a greenlet."""
    return is_patched("threading")


def locks_are_for_one_thread() -> bool:
    """Return whether the locks of `threading` and `logging` are eventlet's, for the greenlets of one thread only.

    A real thread that waits for one of them stops for ever, and so does each greenlet that wants the lock later.
    """
    patcher: Any = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.already_patched.get("thread"))


def get_ident() -> int:
    """Return the number of the real thread. Another thread may get it once this one has ended."""
    return int(original("_thread", "get_ident")())


def start_thread(function: Callable[[], None], name: str) -> None:
    """Run a function in a real daemon thread. Raises RuntimeError where none can be started any more."""
    if has_greenlets():
        original("_thread", "start_new_thread")(function, ())
    else:
        threading.Thread(target=function, name=name, daemon=True).start()


class Waiter:
    """Threads and greenlets that wait, with a lock in their hands, for what a real thread does."""

    def __init__(self) -> None:
        self.lock = original("_thread", "RLock")()
        """Re-entrant: a signal handler or a finalizer may take it again. It is never held while anybody waits."""
        self._condition = threading.Condition(self.lock)
        self._waiting = 0

    def wait(self, timeout: float) -> None:
        """Wait for `wake`, for `timeout` seconds at most; a greenlet looks earlier. The lock is given up meanwhile."""
        self._waiting += 1
        try:
            if has_greenlets():
                self._sleep(timeout)
            else:
                self._condition.wait(timeout)
        finally:
            self._waiting -= 1

    def _sleep(self, timeout: float) -> None:
        """Let other greenlets run; a condition would stop their whole thread, or is not made for two threads."""
        held = self.lock._release_save()  # noqa: SLF001 - what a condition does with it, however often it is held
        try:
            time.sleep(min(max(timeout, 0), _LONGEST_LOOK))
        finally:
            self.lock._acquire_restore(held)  # noqa: SLF001 - as above

    def wake(self) -> None:
        """Let all that wait look again. The caller has the lock."""
        if self._waiting:
            self._condition.notify_all()


class Flag:
    """Set once, by one thread; others wait for it, greenlets among them."""

    def __init__(self) -> None:
        self._lock = original("_thread", "allocate_lock")()
        self._lock.acquire()
        self.is_set = False

    def set(self) -> None:
        """Let all go on. To be called once."""
        self.is_set = True
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Return whether it is set, within `timeout` seconds."""
        if has_greenlets():
            self._look(timeout)
        elif not self.is_set and self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            self._lock.release()
        return self.is_set

    def _look(self, timeout: float | None) -> None:
        deadline, pause = time.monotonic() + (inf if timeout is None else timeout), _FIRST_LOOK
        while not self.is_set and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop for the thread that calls this, whatever policy the application has."""
    if is_patched("socket") or is_patched("select") or has_greenlets():
        return _NativeLoop()
    return asyncio.SelectorEventLoop()


def run_in_loop(main: Callable[[], Coroutine[Any, Any, None]], say: Callable[[str], None]) -> None:
    """Run a coroutine to its end in a loop of its own; `say` is told what goes wrong in the loop unseen."""
    if not has_greenlets():
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
        return
    loop = new_loop()  # asyncio's runner would ask `threading` for the thread, and its handler of errors would log
    loop.set_exception_handler(lambda _, context: say(f"transfer: {context['message']}"))
    with closing(loop):
        try:
            loop.run_until_complete(main())
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left) if left else loop.shutdown_asyncgens())


class _NativeLoop(asyncio.SelectorEventLoop):
    """An event loop on sockets and on a selector that are not patched."""

    def __init__(self) -> None:
        """Make what asyncio makes, but do not log as it does. A test fails when asyncio makes something else."""
        asyncio.BaseEventLoop.__init__(self)
        self._selector = _Poll() if sys.platform != "win32" else selectors.DefaultSelector()
        self._make_self_pipe()
        self._transports: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._signal_handlers: dict[int, Any] = {}
        self._unix_server_sockets: dict[Any, Any] = {}

    def _make_self_pipe(self) -> None:
        """Do what asyncio does, with plain sockets. A test fails when asyncio does it in another way."""
        self._ssock, self._csock = _socketpair()
        self._ssock.setblocking(False)
        self._csock.setblocking(False)
        self._internal_fds += 1  # type: ignore[attr-defined]
        self._add_reader(self._ssock.fileno(), self._read_from_self)  # type: ignore[attr-defined]

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """Ask the resolver in a thread, which may be left behind."""
        answer: asyncio.Future[Any] = self.create_future()

        def ask() -> None:
            try:
                found, error = _socket.getaddrinfo(host, port, **options), None
            except OSError as failed:
                found, error = [], failed
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.call_soon_threadsafe(tell, found, error)

        def tell(found: Any, error: OSError | None) -> None:
            if not answer.done():
                answer.set_exception(error) if error else answer.set_result(found)

        try:
            start_thread(ask, "transfer resolver")
        except RuntimeError:  # the process ends
            ask()
        return await answer

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        """Connect a plain socket, to the first address that answers."""
        if host is None:
            return await super().create_connection(protocol_factory, host, port, **options)
        if options.get("ssl"):
            options.setdefault("server_hostname", host)
        family, flags = options.pop("family", 0), options.pop("flags", 0)
        found = await self.getaddrinfo(host, port, family=family, type=_socket.SOCK_STREAM, flags=flags)
        connected = await self._first_that_answers(found)
        return await super().create_connection(protocol_factory, sock=connected, **options)

    async def _first_that_answers(self, found: Any) -> Any:
        failed: OSError = OSError("the resolver has no address")
        for family, kind, protocol, _, address in found:
            one = _socket.socket(family, kind, protocol)
            one.setblocking(False)
            try:
                await self.sock_connect(one, address)  # type: ignore[arg-type]  # it has all that asyncio uses
            except OSError as error:
                one.close()
                failed = error
            except BaseException:
                one.close()
                raise
            else:
                return one
        raise failed


def _socketpair() -> tuple[_socket.socket, _socket.socket]:
    """Return two plain sockets that are connected with each other, also on Windows, which has no call for it."""
    if hasattr(_socket, "socketpair"):
        return _socket.socketpair()
    with closing(_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        client.connect(listener.getsockname())
        while True:
            number, address = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - what `accept` is made of
            server = _socket.socket(fileno=number)
            if address == client.getsockname():
                return server, client
            server.close()  # somebody else was quicker


class _Poll(selectors.BaseSelector):
    """The standard library's selector on `poll`, which both libraries take away."""

    def __init__(self) -> None:
        self._poll = original("select", "poll")()
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `selectors.BaseSelector`, as for all of these."""
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys[number] = selectors.SelectorKey(fileobj, number, events, data)
        self._poll.register(number, _TO_POLL[events])
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Listen no more."""
        key = self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())
        self._poll.unregister(key.fd)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait."""
        milliseconds = None if timeout is None else max(0, -int(-timeout * 1000 // 1))
        try:
            found = self._poll.poll(milliseconds)
        except InterruptedError:
            return []
        keys = self._keys
        return [(key, _from_poll(bits) & key.events) for number, bits in found if (key := keys.get(number))]

    def close(self) -> None:
        """Forget all."""
        self._keys.clear()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return what is registered, by number."""
        return self._keys


_POLLIN, _POLLOUT = 1, 4
"""The numbers of POSIX systems that have `poll`."""
_TO_POLL = {
    selectors.EVENT_READ: _POLLIN,
    selectors.EVENT_WRITE: _POLLOUT,
    selectors.EVENT_READ | selectors.EVENT_WRITE: _POLLIN | _POLLOUT,
}


def _from_poll(bits: int) -> int:
    """Return the events; an error or a hang-up counts for every listener."""
    read = selectors.EVENT_READ if bits & ~_POLLOUT else 0
    return read | (selectors.EVENT_WRITE if bits & ~_POLLIN else 0)
