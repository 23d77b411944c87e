"""Random requests over several connections, checked against a copy in memory.

Requests overlap in time but never conflict in place (a writer excludes everything that touches its bytes), so every
read has exactly one right answer, on whichever connection it is asked. After a trim each byte may be what it was or
zero, but it may not change its mind: the first read decides.

Prints one JSON line at the end; exit code 1 and the reason on standard error when an answer was wrong.
"""

import argparse
import errno
import json
import os
import pickle
import random
import sys

import nbd
from nbdloop import Connection, Dead, Request, call, turn

KINDS = ["read"] * 36 + ["write"] * 36 + ["zero"] * 10 + ["trim"] * 8 + ["flush"] * 3 + ["cache"] * 2 + ["status"] * 5
ANSWER_SECONDS = 60


class Wrong(Exception):
    """The server's answer contradicts the model."""


class Model:
    """What the volume must hold."""

    def __init__(self, size):
        self.size = size
        self.data = bytearray(size)
        self.trimmed = bytearray(size)  # 1: trimmed since the last write and not read since

    def write(self, offset, data):
        self.data[offset:offset + len(data)] = data
        self.trimmed[offset:offset + len(data)] = bytes(len(data))

    def trim(self, offset, length):
        self.trimmed[offset:offset + length] = b"\x01" * length

    def read(self, offset, got):
        """Checks what was read and settles the bytes a trim left open."""
        end = offset + len(got)
        if self.data[offset:end] != got:
            for i, byte in enumerate(got):
                at = offset + i
                if byte != self.data[at] and not (self.trimmed[at] and byte == 0):
                    wrong = sum(1 for a, b in zip(got, self.data[offset:end]) if a != b)
                    raise Wrong(f"read {len(got)} at {offset}: byte {at} (cluster {at // 4096} + {at % 4096}) is "
                                f"{byte:#x}, must be {self.data[at]:#x}; {wrong} bytes differ")
            self.data[offset:end] = got
        self.trimmed[offset:end] = bytes(len(got))

    def status(self, offset, length, extents):
        """No extent may be called zero that holds data."""
        at = offset
        for extent, flags in extents:
            if extent == 0:
                raise Wrong(f"block status at {offset}: an empty extent: {extents}")
            # The last extent may reach beyond what was asked, where writes may be in flight.
            end = min(at + extent, offset + length)
            if flags & nbd.STATE_ZERO:
                data, trimmed = self.data[at:end], self.trimmed[at:end]
                if any(data) and any(b and not t for b, t in zip(data, trimmed)):
                    raise Wrong(f"block status: {at}..{end} is called zero but holds data")
            at = end
        if at == offset:
            raise Wrong(f"block status at {offset}: no extents")


def choose_length(rng, largest):
    shape = rng.random()
    if shape < 0.10:
        length = rng.choice([1, 2, 511, 513, 4095, 4097])
    elif shape < 0.30:
        length = rng.randint(1, 9000)
    elif shape < 0.50:
        length = 512 * rng.randint(1, 64)
    elif shape < 0.90:
        length = 4096 * rng.randint(1, 32)
    else:
        length = rng.randint(1, largest)
    return min(length, largest)


def choose_offset(rng, size, length):
    room = size - length
    align = rng.choice([1, 1, 512, 4096, 4096, 4096])
    if rng.random() < 0.5:
        room = min(room, size // 16)  # a hot corner, so that overwrites are many
    offset = rng.randint(0, room)
    if rng.random() < 0.02:
        return size - length  # the very end
    return offset // align * align


class Checker:
    def __init__(self, options, model):
        self.options = options
        self.model = model
        self.rng = random.Random(options.seed)
        self.connections = [
            Connection(options.uri[i % len(options.uri)], ["base:allocation"]) for i in range(options.connections)
        ]
        handle = self.connections[0].handle
        size = handle.get_size()
        if size != model.size:
            raise Wrong(f"the export has {size} bytes, not {model.size}")
        self.can_status = handle.can_meta_context("base:allocation")
        self.fast_zero = handle.can_fast_zero()
        missing = [
            name for name, there in (
                ("flush", handle.can_flush()), ("fua", handle.can_fua()), ("trim", handle.can_trim()),
                ("zero", handle.can_zero()), ("fast zero", handle.can_fast_zero()), ("cache", handle.can_cache()),
                ("multi conn", handle.can_multi_conn()), ("base:allocation", self.can_status),
            ) if not there and name not in options.lacks
        ]
        if missing:
            raise Wrong(f"the export does not offer {missing}")
        self.counts = {}
        self.refused = {}

    def conflicts(self, request):
        reads = request.kind in ("read", "status", "cache")
        for connection in self.connections:
            for other in connection.requests:
                if other.kind == "flush" or (reads and other.kind in ("read", "status", "cache")):
                    continue
                if request.offset < other.offset + other.length and other.offset < request.offset + request.length:
                    return True
        return False

    def make(self):
        """A random request and its flags."""
        rng, size = self.rng, self.model.size
        kind = rng.choice(KINDS)
        flags = 0
        if kind == "flush":
            return Request("flush", 0, 0), 0
        largest = self.options.largest
        if kind in ("zero", "trim", "status") and rng.random() < 0.05:
            length = rng.randint(1, min(size, 8 << 20))
        else:
            length = choose_length(rng, largest)
        length = min(length, size)
        request = Request(kind, choose_offset(rng, size, length), length)
        if kind == "write":
            request.data = self.payload(length)
        if kind in ("write", "zero", "trim") and rng.random() < 0.15:
            flags |= nbd.CMD_FLAG_FUA
        if kind == "zero" and rng.random() < 0.3:
            flags |= nbd.CMD_FLAG_NO_HOLE
        if kind == "zero" and self.fast_zero and rng.random() < 0.3:
            flags |= nbd.CMD_FLAG_FAST_ZERO
        if kind == "status" and rng.random() < 0.3:
            flags |= nbd.CMD_FLAG_REQ_ONE
        if kind == "read" and rng.random() < 0.1:
            flags |= nbd.CMD_FLAG_DF
        return request, flags

    def payload(self, length):
        if self.rng.random() < 0.05:
            return bytes(length)  # zeros that are written are data too
        return self.rng.randbytes(length)

    def finish(self, request):
        """Takes one answer into the model."""
        kind = request.kind
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if request.error:
            name = errno.errorcode.get(request.error, str(request.error))
            may_refuse = kind == "zero" and request.flags & nbd.CMD_FLAG_FAST_ZERO
            # A server may refuse an oversized read that must not be fragmented.
            if not (may_refuse and request.error in (errno.ENOTSUP, errno.EOPNOTSUPP)):
                raise Wrong(f"{kind} of {request.length} at {request.offset} flags {request.flags}: {name}")
            self.refused[kind] = self.refused.get(kind, 0) + 1
            return
        if kind == "read":
            self.model.read(request.offset, request.data)
        elif kind == "write":
            self.model.write(request.offset, request.data)
        elif kind == "zero":
            self.model.write(request.offset, bytes(request.length))
        elif kind == "trim":
            self.model.trim(request.offset, request.length)
        elif kind == "status":
            self.model.status(request.offset, request.length, request.extents)

    def complete(self):
        for _, request in turn(self.connections, ANSWER_SECONDS):
            self.finish(request)

    def run(self):
        for _ in range(self.options.ops):
            request, flags = self.make()
            if request.kind == "status" and not self.can_status:
                continue
            request.flags = flags
            connection = self.rng.choice(self.connections)
            while self.conflicts(request) or connection.in_flight() >= self.options.depth:
                self.complete()
            connection.submit(request, flags)
        while any(c.in_flight() for c in self.connections):
            self.complete()

    def verify(self):
        """Reads everything, each stretch on another connection."""
        step = 256 * 1024
        for i, offset in enumerate(range(0, self.model.size, step)):
            request = Request("read", offset, min(step, self.model.size - offset))
            request.flags = 0
            call(self.connections[i % len(self.connections)], request, timeout=ANSWER_SECONDS)
            if request.error:
                raise Wrong(f"reading {request.length} at {offset}: {errno.errorcode.get(request.error)}")
            self.model.read(offset, request.data)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uri", action="append", required=True, help="repeat it to mix transports")
    parser.add_argument("--size", type=int, required=True, help="of the volume, in bytes")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--ops", type=int, default=3000)
    parser.add_argument("--connections", type=int, default=3)
    parser.add_argument("--depth", type=int, default=16, help="requests in flight a connection")
    parser.add_argument("--largest", type=int, default=1 << 20, help="request in bytes")
    parser.add_argument("--state", help="file that carries the model to the next run")
    parser.add_argument("--lacks", action="append", default=[], help="a feature that need not be offered")
    return parser.parse_args()


def main():
    options = parse()
    model = Model(options.size)
    if options.state and os.path.exists(options.state):
        with open(options.state, "rb") as file:
            model = pickle.load(file)
    try:
        checker = Checker(options, model)
        checker.verify()
        checker.run()
        checker.verify()
        for connection in checker.connections:
            connection.close()
    except (Wrong, Dead, TimeoutError, nbd.Error) as error:
        print(f"seed {options.seed}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    if options.state:
        with open(options.state, "wb") as file:
            pickle.dump(model, file)
    print(json.dumps({"done": checker.counts, "refused": checker.refused}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
