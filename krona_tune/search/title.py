"""What a worker is called while it trains."""

from ray import _raylet


def show_as(words: str) -> None:
    """Until its present task ends, `ps`, `py-spy` and the dashboard's list of workers name this process so.

    An actor's own name can't be changed, and one worker runs many trials. Ray's copy of setproctitle is asked, since
    a second one does nothing; where it has gone, the worker keeps its usual name.
    """
    if set_title := getattr(_raylet, "setproctitle", None):
        set_title(f"ray::KronaTrial({words}).train")
