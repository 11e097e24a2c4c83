"""Speech over HTTP, a WebSocket and Wyoming: a small server, of the extra ``serve``.

`create_app` gives an ASGI application of the voices of a `Service`; ``balacoon-tk serve`` runs it with
Wyoming beside it. docs/serving.md says what each protocol takes and gives.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names

if TYPE_CHECKING:
    from balacoon_tk.serve.http import create_app
    from balacoon_tk.serve.service import Service

__all__ = ["Service", "create_app"]

__getattr__, __dir__ = lazy_names(__name__, {"http": ("create_app",), "service": ("Service",)})
