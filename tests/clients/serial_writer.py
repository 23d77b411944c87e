"""Writes that are numbered, so that after a crash every byte can be held against what was acknowledged.

The volume is cut into units of three sizes: 4 KiB blocks, 512-byte sectors, and 777-byte pieces that share clusters and
straddle them. Each request carries the next serial number and covers one or more whole units; what a unit holds under
a serial number is a function of both (header with checksum, then a body derived from it). No unit has two requests in
flight. The process outlives the server and keeps, for each part of a unit within one 4 KiB cluster, the serial numbers
it may hold: the last acknowledged one, and any later one that was issued. What a verification has seen is settled: an
unacknowledged write that was absent once must stay absent.

Commands on standard input, one a line, each answered with one line on standard output:

    verify URI        -> "verified PARTS LOST"      LOST: issued, not acknowledged, absent
    load URI WARM     -> "loading" after WARM acknowledgements, then, when the server is gone, "dead ISSUED ACKED OPEN"
                         or, after the command "stop", "stopped ISSUED ACKED 0"
    quit

Anything that is wrong goes to standard error, and the exit code is 1.
"""

import argparse
import errno
import hashlib
import random
import select
import struct
import sys
import zlib

import nbd
from nbdloop import Connection, Dead, Request, call, turn

CLUSTER = 4096
UNIT_SIZES = (4096, 512, 777)
AREA_EIGHTHS = (6, 1, 1)
ANSWER_SECONDS = 60


class Wrong(Exception):
    """An acknowledged write is lost, or bytes appeared that were never written there."""


def kind_of(serial):
    """How the request with this serial number was sent."""
    return {7: "zero", 11: "trim"}.get(serial % 16, "write")


def content(unit, size, serial):
    """What `unit` holds under `serial`; serial 0 is the unwritten volume."""
    if serial == 0 or kind_of(serial) != "write":
        return bytes(size)
    header = struct.pack("<8sQQ", b"OVSERIAL", unit, serial)
    header += struct.pack("<I", zlib.crc32(header))
    body = hashlib.blake2b(header, digest_size=64).digest()
    return (header + body * (size // len(body) + 1))[:size]


def describe(data):
    """Says in words what a unit holds."""
    if not any(data):
        return "zeros"
    if data[:8] == b"OVSERIAL" and len(data) >= 28:
        _, unit, serial = struct.unpack_from("<8sQQ", data)
        good = struct.unpack_from("<I", data, 24)[0] == zlib.crc32(data[:24])
        return f"unit {unit} serial {serial}{'' if good else ' (bad checksum)'}"
    return f"foreign bytes {bytes(data[:24]).hex()}"


class Area:
    """A stretch of the volume with one unit size."""

    def __init__(self, start, length, unit_size, first_unit):
        self.start = start
        self.unit_size = unit_size
        self.first_unit = first_unit
        self.units = length // unit_size


class Part:
    """The bytes of one unit within one cluster: they are written as one."""

    __slots__ = ("offset", "within", "length", "unit", "unit_size", "may_hold")

    def __init__(self, offset, within, length, unit, unit_size):
        self.offset = offset
        self.within = within
        self.length = length
        self.unit = unit
        self.unit_size = unit_size
        self.may_hold = (0,)


class Writer:
    def __init__(self, options):
        self.options = options
        self.rng = random.Random(options.seed)
        self.serial = 0
        self.log = open(options.log, "a", buffering=1 << 16)
        self.areas = []
        self.parts = []  # by unit: its one or two parts
        self.busy = set()  # units with a request in flight
        start = 0
        for unit_size, eighths in zip(UNIT_SIZES, AREA_EIGHTHS):
            length = options.size // 8 * eighths
            area = Area(start, length, unit_size, len(self.parts))
            for i in range(area.units):
                self.parts.append(self.cut(start + i * unit_size, area.first_unit + i, unit_size))
            self.areas.append(area)
            start += length

    @staticmethod
    def cut(offset, unit, unit_size):
        parts, within = [], 0
        while within < unit_size:
            at = offset + within
            length = min(unit_size - within, CLUSTER - at % CLUSTER)
            parts.append(Part(at, within, length, unit, unit_size))
            within += length
        return tuple(parts)

    # Load

    def make(self):
        """The next request, or None when the chosen units are busy."""
        rng = self.rng
        area = rng.choices(self.areas, (6, 2, 2))[0]
        span = rng.choice((1, 1, 1, 1, 2, 3, 8, 17, 64))
        if rng.random() < 0.01:
            span = 512  # more than one log record takes
        span = min(span, area.units)
        room = area.units - span
        first = rng.randint(0, room // 20 if rng.random() < 0.5 else room)  # half of it on a twentieth
        units = range(area.first_unit + first, area.first_unit + first + span)
        if not self.busy.isdisjoint(units):
            return None
        self.serial += 1
        serial, size = self.serial, area.unit_size
        request = Request(kind_of(serial), area.start + first * size, span * size)
        request.serial, request.units = serial, units
        if request.kind == "write":
            request.data = b"".join(content(unit, size, serial) for unit in units)
        return request

    def issue(self, connection):
        if self.rng.random() < 0.01:
            request = Request("flush", 0, 0)
            request.serial, request.units = 0, ()
        else:
            request = self.make()
            if request is None:
                return False
        self.log.write(f"I {request.serial} {request.kind} {request.offset} {request.length}\n")
        self.busy.update(request.units)
        flags = nbd.CMD_FLAG_FUA if request.serial and self.rng.random() < 0.05 else 0
        connection.submit(request, flags)
        return True

    def settle(self, request, acknowledged):
        """What the units of `request` may hold from now on."""
        self.log.write(f"{'A' if acknowledged else 'U'} {request.serial}\n")
        self.busy.difference_update(request.units)
        for unit in request.units:
            for part in self.parts[unit]:
                # After a trim the old bytes are a right answer too.
                if acknowledged and request.kind != "trim":
                    part.may_hold = (request.serial,)
                else:
                    part.may_hold += (request.serial,)

    def take(self, request):
        """One answer; True if it was an acknowledgement."""
        gone = (errno.ENOTCONN, errno.ESHUTDOWN)
        if request.error and request.error not in gone:
            raise Wrong(f"{request.kind} of {request.length} at {request.offset}: {errno.errorcode[request.error]}")
        self.settle(request, request.error == 0)
        return request.error == 0

    def drain(self, connections):
        """After the end: acknowledgements that still lie in the sockets count, the rest is open."""
        acked = 0
        left = sum(connection.in_flight() for connection in connections)
        for connection in connections:
            try:
                while connection.requests:
                    acked += sum(self.take(request) for _, request in turn([connection], ANSWER_SECONDS))
            except Dead:
                acked += sum(self.take(request) for request in connection.retire())
            for request in connection.requests:
                self.settle(request, False)
            connection.requests = []
        return acked, left - acked

    def load(self, uri, warm):
        connections = [Connection(uri) for _ in range(self.options.connections)]
        issued = acked = 0
        stopping = announced = False
        try:
            while not stopping or any(c.in_flight() for c in connections):
                for connection in connections:
                    tries = 0
                    while not stopping and connection.in_flight() < self.options.depth and tries < 100:
                        tries += 1
                        issued += self.issue(connection)
                acked += sum(self.take(request) for _, request in turn(connections, ANSWER_SECONDS))
                if acked >= warm and not announced:
                    announced = True
                    print("loading", flush=True)
                if not stopping and select.select([sys.stdin], [], [], 0)[0]:
                    sys.stdin.readline()
                    stopping = True
        except Dead:
            late, still_open = self.drain(connections)
            self.log.flush()
            return f"dead {issued} {acked + late} {still_open}"
        for connection in connections:
            connection.close()
        self.log.flush()
        return f"stopped {issued} {acked} 0"

    # Verification

    def verify(self, uri):
        connection = Connection(uri)
        data = bytearray()
        step = 256 * 1024
        while len(data) < self.options.size:
            request = Request("read", len(data), min(step, self.options.size - len(data)))
            call(connection, request, timeout=ANSWER_SECONDS)
            if request.error:
                raise Wrong(f"reading {request.length} at {request.offset}: {errno.errorcode[request.error]}")
            data += request.data
        connection.close()
        checked = lost = 0
        for parts in self.parts:
            for part in parts:
                lost += self.check(part, data)
                checked += 1
        return f"verified {checked} {lost}"

    def check(self, part, data):
        got = data[part.offset:part.offset + part.length]
        held = tuple(
            serial for serial in part.may_hold
            if content(part.unit, part.unit_size, serial)[part.within:part.within + part.length] == got)
        if not held:
            raise Wrong(
                f"unit {part.unit}, {part.length} bytes at {part.offset}: holds {describe(got)}, "
                f"must be one of serials {part.may_hold} ({[kind_of(s) for s in part.may_hold]})\n"
                + self.history(part.offset))
        lost = part.may_hold[-1] not in held
        part.may_hold = held
        return lost

    def history(self, offset):
        """The requests that touched `offset`, from the log."""
        self.log.flush()
        lines, serials = [], set()
        with open(self.options.log) as log:
            for line in log:
                words = line.split()
                if words[0] == "I" and int(words[3]) <= offset < int(words[3]) + int(words[4]):
                    serials.add(words[1])
                    lines.append(line)
                elif words[0] in "AU" and words[1] in serials:
                    lines.append(line)
                elif words[0] == "R":
                    lines.append(line)
        return "".join(lines[-24:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, required=True, help="of the volume, in bytes")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--log", required=True, help="append-only record of what was issued and acknowledged")
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--depth", type=int, default=24, help="requests in flight a connection")
    options = parser.parse_args()
    writer = Writer(options)
    try:
        # Unbuffered reading: `load` looks at the descriptor to see whether a command waits.
        while True:
            words = sys.stdin.readline().split()
            if not words or words[0] == "quit":
                return 0
            if words[0] == "verify":
                writer.log.write("R verified\n")
                print(writer.verify(words[1]), flush=True)
            elif words[0] == "load":
                writer.log.write("R loaded\n")
                print(writer.load(words[1], int(words[2])), flush=True)
            elif words[0] != "stop":
                raise ValueError(words[0])
    except (Wrong, TimeoutError, Dead, nbd.Error) as error:
        print(f"seed {options.seed}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
