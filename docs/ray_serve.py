"""The server as a deployment of Ray Serve: replicas on as many machines as there are.

``pip install "ray[serve]"``, then, beside this file, ``serve run ray_serve:app``. All but Wyoming is there,
at the same paths; each replica has its own ``/metrics``, and a WebSocket stays with the one that it came to.
"""

from ray import serve
from starlette.applications import Starlette

from balacoon_tk import TTS
from balacoon_tk.serve import Service, create_app

VOICES = [None]  # paths; None is the default voice
N_STREAMS = 16  # of a replica at once; Ray sends no more than these, and others wait at its door


def make_app() -> Starlette:
    """Return the application of one replica, which loads the voices where it runs."""
    # A replica sees all processors of its machine, and shares them with others: the number of streams is set.
    voices = [TTS(path, n_threads=1, max_streams=N_STREAMS, max_waiting=N_STREAMS) for path in VOICES]
    return create_app(Service(voices))


@serve.deployment(
    num_replicas=2, ray_actor_options={"num_cpus": 2}, max_ongoing_requests=N_STREAMS, max_queued_requests=64
)
@serve.ingress(make_app)
class Speech:
    """The deployment; the application is all that it has."""


app = Speech.bind()
