"""What this machine can do at all: fdatasync of small and large writes, a round trip on the loopback, a copy in memory."""

import os
import socket
import statistics
import threading
import time


def measure(folder):
    return {
        "fdatasync 4 KiB, median ms": fdatasync(folder, 4 << 10),
        "fdatasync 64 KiB, median ms": fdatasync(folder, 64 << 10),
        "loopback round trip, median ms": round_trip(),
        "memory copy, GB/s": memory_copy(),
    }


def fdatasync(folder, size, times=300):
    """One writer on a preallocated file."""
    path = os.path.join(folder, "limit")
    file = os.open(path, os.O_CREAT | os.O_RDWR)
    try:
        os.write(file, bytes(size * times))
        os.fsync(file)
        block, took = os.urandom(size), []
        for at in range(times):
            began = time.perf_counter()
            os.pwrite(file, block, at * size)
            os.fdatasync(file)
            took.append(time.perf_counter() - began)
        return round(1e3 * statistics.median(took), 3)
    finally:
        os.close(file)
        os.unlink(path)


def round_trip(times=3000):
    listener = socket.create_server(("127.0.0.1", 0))

    def echo():
        peer, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := peer.recv(64):
            peer.sendall(data)

    threading.Thread(target=echo, daemon=True).start()
    with socket.create_connection(listener.getsockname()) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        took = []
        for _ in range(times):
            began = time.perf_counter()
            client.sendall(b"x")
            client.recv(64)
            took.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(took), 3)


def memory_copy(size=256 << 20):
    source, target = memoryview(bytearray(size)), memoryview(bytearray(size))
    target[:] = source  # the pages are there before the clock starts
    began = time.perf_counter()
    target[:] = source
    return round(size / (time.perf_counter() - began) / 1e9, 1)
