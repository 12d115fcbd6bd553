# SPDX-License-Identifier: BSD-3-Clause
"""A JSON-RPC client, as small as can be, of its own so that the tests do not
trust belfryctl."""
import json
import socket


class RpcError(Exception):
    """The daemon answered with an error, or not at all."""

    def __init__(self, method, code, message):
        super().__init__(f"{method}: {code} {message}")
        self.code = code


class Rpc:
    """Calls over one socket: rpc("method", name=value)."""

    def __init__(self, path, timeout=20):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.id = 0

    def __call__(self, method, **params):
        self.id += 1
        call = {"jsonrpc": "2.0", "id": self.id, "method": method}
        if params:
            call["params"] = params
        self.socket.sendall(json.dumps(call).encode())
        data = b""
        while True:
            try:
                reply = json.loads(data)
                break
            except ValueError:
                more = self.socket.recv(65536)
            if not more:
                raise RpcError(method, 0, "the daemon closed the socket")
            data += more
        if "error" in reply:
            raise RpcError(method, reply["error"]["code"],
                           reply["error"]["message"])
        return reply["result"]

    def close(self):
        self.socket.close()
