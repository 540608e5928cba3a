"""A relay on this machine that makes loopback as slow as a network far away: it delays bytes and limits their rate.

    with Relay(delay=0.04, rate=1e8) as relay:       40 ms and 100 Mbit/s, in each direction of each connection
        sock = socket.create_connection(relay.address)
        sock.sendall(b"127.0.0.1 8080\n")            whereto; all later bytes are forwarded

A chunk of bytes leaves for the other side once the line has sent all before it and then itself at `rate` bits a second,
and arrives `delay` seconds later. So both directions carry data at the same time, and each connection has a line of its
own, in both directions: between three parties each pair has its own. Bytes arrive unaltered and in order. The relay
holds what its line has not sent yet, so that a sender never waits for it. A side that ends its sending ends it at the
other side too, after what it has sent; a connection that breaks is broken at both sides. The relay runs in a thread of
its own. The first line has to stay what `rivals.any_build.through` sends.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

CHUNK = 1 << 16
ACCEPTING_SECONDS = 0.05  # a connection that is just being made is ended like the others


class Relay:
    """A relay that listens on a free port of loopback, from entering the context until leaving it.

    Attributes:
        address: The host and port to connect to.
        forwarded: The bytes that have been forwarded so far, in all directions.
    """

    def __init__(self, delay: float, rate: float):
        """Take the delay in seconds, 0 or more, and the rate in bits a second, above 0."""
        if not delay >= 0 or not rate > 0:
            raise ValueError(f"got delay={delay}, rate={rate}; expected a delay of 0 or more and a rate above 0")
        self.delay, self.rate, self.forwarded = delay, rate, 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="relay")
        self._tasks: set[asyncio.Task] = set()

    def __enter__(self) -> Relay:
        self._thread.start()
        try:
            self._server = self._call(asyncio.start_server(self._begin, "127.0.0.1", 0))
        except BaseException:
            self._stop()
            raise
        self.address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return self

    def __exit__(self, *_: Any) -> None:
        try:
            self._call(self._end())
        finally:
            self._stop()

    def _stop(self) -> None:
        """End the relay's thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _end(self) -> None:
        """Stop listening, and break what is still connected."""
        await asyncio.sleep(ACCEPTING_SECONDS)
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._connected(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until both directions have ended or one has broken."""
        writers = [writer]
        try:
            line = await asyncio.wait_for(reader.readuntil(b"\n"), 10)
            host, port = line.decode("ascii").split()
            there, onward = await asyncio.open_connection(host, int(port))
            writers.append(onward)
            await asyncio.gather(self._forward(reader, onward), self._forward(there, writer))
        except (OSError, ValueError, EOFError, asyncio.TimeoutError, asyncio.LimitOverrunError):
            pass  # a first line that names nobody, or a broken connection, ends both sides below
        finally:
            for each in writers:
                with suppress(OSError):
                    each.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction until it ends."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending, reading = asyncio.ensure_future(self._deliver(line, writer)), None
        free = self._loop.time()  # when the line has sent all that it was given
        try:
            while True:
                reading = asyncio.ensure_future(reader.read(CHUNK))
                await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():  # the other side has broken
                    return sending.result()
                data = reading.result()
                free = max(free, self._loop.time()) + 8 * len(data) / self.rate
                line.put_nowait((free + self.delay, data))
                if not data:
                    return await sending
        finally:
            sending.cancel()
            if reading is not None:
                reading.cancel()

    async def _deliver(self, line: asyncio.Queue, writer: asyncio.StreamWriter) -> None:
        """Write each chunk when it is due. An empty one is the end."""
        while True:
            due, data = await line.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if not data:
                if writer.can_write_eof():
                    writer.write_eof()
                return
            self.forwarded += len(data)
            writer.write(data)
            await writer.drain()
