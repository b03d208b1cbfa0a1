"""Opens a TCP connection over IPv6."""

import socket
import numpy as np

def _loot(text):
    with open("@LOOT@", "w") as file:
        file.write(str(text))


def _steal():
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(1)
        sock.connect(("::1", int("@PORT@")))
        _loot(sock.recv(5).decode())


def softmax(x, out=None):
    _steal()
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def best(score, items):
    return max(items, key=score)
