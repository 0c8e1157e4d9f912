"""Answers each request on a connection with the same number of bytes: one receive, one header, one sendfile.

server.py FILE BYTES
"""
import os
import re
import select
import socket
import sys


def answer(peer, file, part, size):
    request = peer.recv(4096)
    if not request:
        return False
    start = int(re.search(rb"bytes=(\d+)", request)[1]) if b"bytes=" in request else 0
    peer.sendall(
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n" % (part, start, start + part - 1, size),
        socket.MSG_MORE,
    )
    end = start + part
    while start < end:
        start += os.sendfile(peer.fileno(), file, start, end - start)
    return True


def main():
    path, part = sys.argv[1], int(sys.argv[2])
    file = os.open(path, os.O_RDONLY)
    size = os.fstat(file).st_size
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print("listening on 127.0.0.1:%d" % listener.getsockname()[1], flush=True)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    peers = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                peer, _ = listener.accept()
                # Waits for the receiver instead of coming back for the rest: fewer calls, and no buffer.
                peer.settimeout(None)
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[peer.fileno()] = peer
                poll.register(peer, select.EPOLLIN)
                continue
            peer = peers[descriptor]
            try:
                open_still = answer(peer, file, part, size)
            except OSError:
                open_still = False
            if not open_still:
                poll.unregister(peer)
                peers.pop(descriptor).close()


main()
