"""How a candidate's failure travels from its process to the verdict."""

from fastkernels.bench.isolate.process import VerdictError


class CandidateFailedError(VerdictError):
    """The candidate failed before there was anything to judge."""
