"""Starts Ray on this machine, also on a busy one: patiently, several times, and without a dashboard if need be."""

import logging
import os
from typing import Any

from krona_tune.refusal import NotNow, told
from krona_tune.search.ray_internals import clear_away, new_session, session_logs, start_ray

logger = logging.getLogger(__name__)

TRIES = 3
LIMITS = {
    "RAY_gcs_server_port_wait_time_s": 60,
    "RAY_raylet_start_wait_time_s": 60,
    "RAY_agent_register_timeout_ms": 300_000,
    "RAY_worker_register_timeout_seconds": 600,
    "RAY_idle_worker_killing_time_threshold_ms": 3_600_000,
}
"""How long Ray waits for its head, its raylet, the raylet's agents and a new worker, and how long it keeps an idle one:
on a busy machine it would end the first workers, which have imported all, just before their trials come. Ray's own
limits are for an idle machine; one that the environment has set stays."""
NICE = "RAY_worker_niceness"
"""The environment variable with the priority of Ray's workers, which Ray itself sets to 15."""


def start_patiently(nice: int, **options: Any) -> Any:
    """Starts Ray for this machine alone, and passes the options to `ray.init`; returns what that returns.

    A dashboard that does not start in time is left out. What a try that failed has started is killed before the next.

    Args:
        nice: the priority of the workers, from 0 to 19, the lowest.

    Raises:
        NotNow: each try failed.
    """
    os.environ.update({name: os.environ.get(name, str(limit)) for name, limit in LIMITS.items()}, **{NICE: str(nice)})
    for number in range(1, TRIES + 1):
        session = new_session()
        try:
            context = start_ray(session, **options)
        except Exception as error:
            clear_away(session)
            why, logs = told(error), session_logs(session)
            if number < TRIES:
                logger.warning("Ray did not start (%s); its logs: %s; trying again", why, logs)
            continue
        if not context.dashboard_url:
            logger.warning(
                "Ray's dashboard did not start, the study goes on without; its logs: %s", session_logs(session)
            )
        return context
    raise NotNow("Ray", f"it could not be started here in {TRIES} tries ({why})", f"its logs: {logs}")
