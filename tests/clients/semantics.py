"""What the protocol promises, one thing after the other, on a fresh volume of 64 MiB.

Exit code 1 and the reason on standard error at the first broken promise. With `--restart-marker` the last part writes
with FUA and prints what must be there after a crash.
"""

import argparse
import errno
import random
import sys

import nbd

MIB = 1 << 20


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def open_handle(uri, structured=True):
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.set_request_structured_replies(structured)
    if structured:
        handle.add_meta_context("base:allocation")
    handle.connect_uri(uri)
    return handle


def fails(call, *codes):
    """Runs `call`, which must be refused with one of `codes`."""
    try:
        call()
    except nbd.Error as error:
        expect(error.errnum in codes, f"refused with {error}, not with {[errno.errorcode[c] for c in codes]}")
        return
    raise AssertionError(f"was accepted, must be refused with {[errno.errorcode[c] for c in codes]}")


def offers(uri, options):
    """The transmission flags and the block sizes."""
    handle = open_handle(uri)
    for name in ("flush", "fua", "trim", "zero", "fast_zero", "cache", "multi_conn", "df"):
        if name not in options.lacks:
            expect(getattr(handle, "can_" + name)(), f"the export does not offer {name}")
    expect(handle.can_meta_context("base:allocation"), "no base:allocation")
    expect(not handle.is_read_only(), "the export is read-only")
    expect(handle.get_size() == 64 * MIB, f"size {handle.get_size()}")
    if "block size" not in options.lacks:
        least, best, most = (handle.get_block_size(i) for i in (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM))
        expect(least == 1 and best == 4096 and most >= MIB, f"block sizes {least} {best} {most}")
    handle.shutdown()


def odd_sizes(uri):
    """Single bytes and 513 bytes at odd places, each checked together with its neighbours."""
    handle = open_handle(uri)
    rng = random.Random(1)
    model = bytearray(rng.randbytes(MIB))
    handle.pwrite(bytes(model), 0)
    for length in (1, 2, 3, 511, 512, 513, 4095, 4096, 4097, 8191, 12289, 131071):
        for offset in (0, 1, 511, 513, 4095, 4096, 4097, 65535, 100003):
            data = rng.randbytes(length)
            handle.pwrite(data, offset)
            model[offset:offset + length] = data
            low, high = max(0, offset - 5000), min(MIB, offset + length + 5000)
            expect(handle.pread(high - low, low) == model[low:high], f"write of {length} at {offset}")
            expect(handle.pread(length, offset) == data, f"read of {length} at {offset}")
    expect(handle.pread(MIB, 0) == model, "the whole megabyte after odd writes")
    end = 64 * MIB
    handle.pwrite(b"Z", end - 1)
    expect(handle.pread(2, end - 2) == b"\0Z", "the last byte")
    handle.shutdown()


def multi_conn(uris):
    """What one connection wrote, the other flushes, and both read."""
    one, other = open_handle(uris[0]), open_handle(uris[-1])
    for i in range(50):
        data = random.Random(i).randbytes(5000 + i)
        one.pwrite(data, 2 * MIB + i * 8192)
        other.flush()
        expect(other.pread(len(data), 2 * MIB + i * 8192) == data, f"read on the other connection, {i}")
        expect(one.pread(len(data), 2 * MIB + i * 8192) == data, f"read on the writing connection, {i}")
    one.shutdown()
    expect(other.pread(5000, 2 * MIB) == random.Random(0).randbytes(5000), "read after the writer has left")
    other.shutdown()


def extents(handle, offset, length, flags=0):
    """Block status of the whole range, as (start, end, flags), neighbours with equal flags merged."""
    found = []
    at = offset
    while at < offset + length:
        entries = []

        def take(context, start, pairs, error):
            expect(start == at, f"extents for {start}, asked for {at}")
            entries.extend(zip(pairs[::2], pairs[1::2]))
            return 0

        handle.block_status(offset + length - at, at, take, flags)
        expect(entries, "an empty block status")
        if flags & nbd.CMD_FLAG_REQ_ONE:
            expect(len(entries) == 1, f"REQ_ONE answered with {len(entries)} extents")
        for extent, state in entries:
            expect(extent > 0, "an empty extent")
            end = min(at + extent, offset + length)
            if found and found[-1][2] == state:
                found[-1] = (found[-1][0], end, state)
            else:
                found.append((at, end, state))
            at = end
    return found


def block_status(uri):
    """A known pattern of written, trimmed and zeroed ranges."""
    handle = open_handle(uri)
    base = 8 * MIB
    k = 1024
    handle.pwrite(b"\xaa" * (512 * k), base)
    handle.trim(64 * k, base + 64 * k)
    handle.zero(64 * k, base + 192 * k)
    handle.zero(64 * k, base + 320 * k, nbd.CMD_FLAG_NO_HOLE)
    handle.pwrite(b"\xbb" * (4 * k), base + 96 * k)
    zero = nbd.STATE_ZERO
    want = [
        (0, 64, 0), (64, 96, zero), (96, 100, 0), (100, 128, zero), (128, 192, 0), (192, 256, zero), (256, 320, 0),
        (384, 512, 0), (512, 1024, zero),
    ]
    for flags in (0, nbd.CMD_FLAG_REQ_ONE):
        found = extents(handle, base, MIB, flags)
        for low, high, state in want:
            for start, end, got in found:
                if start < base + high * k and base + low * k < end:
                    expect(got & zero == state,
                           f"{low} KiB..{high} KiB has zero bit {state}, the server says {got} for {start}..{end}")
    # Reads that were zeroed or trimmed.
    for low, high in ((64, 96), (100, 128), (192, 256), (320, 384)):
        expect(not any(handle.pread((high - low) * k, base + low * k)), f"{low} KiB..{high} KiB must read as zeros")
    expect(handle.pread(4 * k, base + 96 * k) == b"\xbb" * (4 * k), "what was written into the trimmed range")
    handle.shutdown()


def zeroes(uri, options):
    """Write-zeroes over unaligned ranges, fast zero."""
    handle = open_handle(uri)
    base = 16 * MIB
    model = bytearray(random.Random(3).randbytes(MIB))
    handle.pwrite(bytes(model), base)
    for offset, length in ((1, 1), (4095, 2), (8191, 4098), (20000, 1), (30001, 50003), (131072, 4096), (200000, 262144)):
        for flags in (0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA):
            handle.zero(length, base + offset, flags)
        model[offset:offset + length] = bytes(length)
        expect(handle.pread(MIB, base) == model, f"zeroes {length} at {offset}")
    if "fast_zero" not in options.lacks:
        handle.zero(256 * 1024, base + 512 * 1024, nbd.CMD_FLAG_FAST_ZERO)
        model[512 * 1024:768 * 1024] = bytes(256 * 1024)
        expect(handle.pread(MIB, base) == model, "fast zero")
    handle.zero(64 * MIB - base - MIB, base + MIB)
    expect(not any(handle.pread(MIB, 63 * MIB)), "a large zero")
    expect(handle.pread(MIB, base) == model, "the neighbour of a large zero")
    handle.shutdown()


def limits(uri):
    """What must be refused, and that the connection goes on afterwards."""
    handle = open_handle(uri)
    end = 64 * MIB
    handle.pwrite(b"before", 40 * MIB)
    fails(lambda: handle.pread(4096, end - 4095), errno.EINVAL)
    fails(lambda: handle.pread(1, end), errno.EINVAL)
    fails(lambda: handle.pread(4096, (1 << 63) - 4096), errno.EINVAL)
    fails(lambda: handle.pwrite(bytes(4096), end - 4095), errno.ENOSPC, errno.EINVAL)
    fails(lambda: handle.trim(4096, end), errno.EINVAL)
    fails(lambda: handle.zero(4096, end), errno.ENOSPC, errno.EINVAL)
    expect(handle.pread(6, 40 * MIB) == b"before", "the connection after refused requests")
    handle.shutdown()


def simple_replies(uri):
    """A client without structured replies."""
    handle = open_handle(uri, structured=False)
    data = random.Random(4).randbytes(100000)
    handle.pwrite(data, 45 * MIB + 3, nbd.CMD_FLAG_FUA)
    expect(handle.pread(100000, 45 * MIB + 3) == data, "read with simple replies")
    expect(not any(handle.pread(MIB, 50 * MIB)), "a hole read with simple replies")
    handle.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uri", action="append", required=True)
    parser.add_argument("--lacks", action="append", default=[], help="a feature that need not be offered")
    options = parser.parse_args()
    steps = [
        ("offers", lambda uri: offers(uri, options)), ("odd sizes", odd_sizes), ("block status", block_status),
        ("zeroes", lambda uri: zeroes(uri, options)), ("limits", limits), ("simple replies", simple_replies),
    ]
    step = "multi conn"
    try:
        for uri in options.uri:
            for step, run in steps:
                run(uri)
        step = "multi conn"
        multi_conn(options.uri)
    except (AssertionError, nbd.Error) as error:
        print(f"{step}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
