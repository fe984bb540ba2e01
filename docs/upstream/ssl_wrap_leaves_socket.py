"""ssl: `SSLContext.wrap_socket` of a connection that is gone by then leaves a socket unclosed before Python 3.13."""

import contextlib
import gc
import socket
import ssl
import struct
import warnings

with socket.create_server(("127.0.0.1", 0)) as listener, warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    peer = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    # What `wrap_socket` finds is a reset, and no connection any more.
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with accepted, contextlib.suppress(OSError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(accepted, server_side=True).close()
    gc.collect()
lost = [str(each.message) for each in caught if "unclosed" in str(each.message)]
print(f"seen: {lost[0].partition(' fd')[0]}...>" if lost else "not seen: nothing was left unclosed")
