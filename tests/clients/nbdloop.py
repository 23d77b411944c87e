"""Several libnbd connections driven by one poll loop, many requests in flight on each."""

import select
import time

import nbd


class Dead(Exception):
    """A connection ended: the server went away, or broke the protocol."""


class Request:
    """One request in flight. `error` is 0 or an errno once `done` is set."""

    def __init__(self, kind, offset, length):
        self.kind = kind
        self.offset = offset
        self.length = length
        self.data = None  # what a read returned, or what a write sends
        self.extents = []  # of a block status: (length, flags)
        self.done = False
        self.error = 0
        self.buffer = None  # keeps libnbd's buffer alive until the answer is here


class Connection:
    """A libnbd handle, its polling state and its requests in flight."""

    def __init__(self, uri, contexts=()):
        self.handle = nbd.NBD()
        # Requests that break the server's limits must reach the server: it is the one that is tested.
        self.handle.set_strict_mode(0)
        for context in contexts:
            self.handle.add_meta_context(context)
        self.handle.connect_uri(uri)
        self.requests = []

    def close(self):
        try:
            self.handle.shutdown()
        except nbd.Error:
            pass

    def in_flight(self):
        return len(self.requests)

    def submit(self, request, flags=0):
        """Issues `request`; Dead if the connection is gone. The request may or may not have been sent then."""
        self.requests.append(request)

        def completed(error):
            code = getattr(error, "value", error)
            request.error = code
            request.done = True
            return 1  # retire it

        handle = self.handle
        try:
            if request.kind == "read":
                request.buffer = nbd.Buffer(request.length)
                handle.aio_pread(request.buffer, request.offset, completed, flags)
            elif request.kind == "write":
                request.buffer = nbd.Buffer.from_bytearray(request.data)
                handle.aio_pwrite(request.buffer, request.offset, completed, flags)
            elif request.kind == "zero":
                handle.aio_zero(request.length, request.offset, completed, flags)
            elif request.kind == "trim":
                handle.aio_trim(request.length, request.offset, completed, flags)
            elif request.kind == "flush":
                handle.aio_flush(completed, flags)
            elif request.kind == "cache":
                handle.aio_cache(request.length, request.offset, completed, flags)
            elif request.kind == "status":

                def extents(context, offset, entries, error):
                    if context == "base:allocation":
                        assert offset == request.offset, (offset, request.offset)
                        for i in range(0, len(entries), 2):
                            request.extents.append((entries[i], entries[i + 1]))
                    return 0

                handle.aio_block_status(request.length, request.offset, extents, completed, flags)
            else:
                raise ValueError(request.kind)
        except nbd.Error as error:
            raise Dead(f"submitting {request.kind}: {error}") from error

    def retire(self):
        """Takes out and returns what completed."""
        done = [request for request in self.requests if request.done]
        if done:
            self.requests = [request for request in self.requests if not request.done]
            for request in done:
                if request.kind == "read" and request.error == 0:
                    request.data = request.buffer.to_buffer()
                request.buffer = None
        return done


def turn(connections, timeout):
    """Waits until something completed on any of `connections`; returns the list of (connection, request).

    Dead when a connection ended (its answers that did arrive are still in `retire`), TimeoutError when nothing came
    for `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        done = [(c, r) for c in connections for r in c.retire()]
        if done:
            return done
        for connection in connections:
            if connection.handle.aio_is_dead() or connection.handle.aio_is_closed():
                raise Dead("connection ended")
        poll = select.poll()
        handles = {}
        for connection in connections:
            handle = connection.handle
            direction = handle.aio_get_direction()
            events = 0
            if direction & nbd.AIO_DIRECTION_READ:
                events |= select.POLLIN
            if direction & nbd.AIO_DIRECTION_WRITE:
                events |= select.POLLOUT
            fd = handle.aio_get_fd()
            handles[fd] = handle
            poll.register(fd, events)
        left = deadline - time.monotonic()
        ready = poll.poll(max(0, left * 1000)) if left > 0 else []
        if not ready:
            raise TimeoutError(f"no answer for {timeout} s, in flight: {[len(c.requests) for c in connections]}")
        for fd, events in ready:
            handle = handles[fd]
            try:
                if events & select.POLLOUT and handle.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
                    handle.aio_notify_write()
                if (events & (select.POLLIN | select.POLLHUP | select.POLLERR)
                        and handle.aio_get_direction() & nbd.AIO_DIRECTION_READ):
                    handle.aio_notify_read()
            except nbd.Error as error:
                raise Dead(str(error)) from error


def call(connection, request, flags=0, timeout=60):
    """One request, waited for; its errno is in `request.error`."""
    connection.submit(request, flags)
    while not request.done:
        turn([connection], timeout)
    return request
