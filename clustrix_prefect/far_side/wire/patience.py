"""How long the product waits for what may still come, in one place."""

from typing import NamedTuple


class Patience(NamedTuple):
    """Seconds to wait before the absence of something is taken for an answer.

    A cluster block holds one and tells its agent. The defaults suit shared file systems that show
    another node's file late (NFS keeps attributes for up to 60 s by default, but a directory that
    is opened anew within few), and schedulers that are asked by many.

    Attributes:
        explained: From the end of a job that failed until its missing result is taken as final.
        unexplained: The same for a job that ended well, and until a job that the scheduler does
            not list, or whose submission nobody heard of, is given up.
        job_grace: From the signal that asks a job to end until it is killed.
        worker_grace: The same for a warm worker.
        poll_min: Between two looks at the scheduler when something has just happened.
        poll_max: Between two looks when nothing happens.
    """

    explained: float = 2.0
    unexplained: float = 10.0
    job_grace: float = 4.0
    worker_grace: float = 5.0
    poll_min: float = 1.0
    poll_max: float = 10.0
