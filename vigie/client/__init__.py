"""Call a service from Python: ``Client``, and ``AsyncClient`` with the same methods.

::

    from vigie.client import Client

    with Client("http://localhost:8084") as client:
        result = client.detect({"asset_id": "pump-7", "features": {"rms": 0.42}})

Neither imports numpy or pandas. Errors are those of ``vigie.errors``, with the field and the remedy
that the service names.
"""

from vigie.client.asynchronous import AsyncClient
from vigie.client.synchronous import Client

__all__ = ["AsyncClient", "Client"]
