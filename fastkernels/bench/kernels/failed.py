"""How a candidate's failure travels from its process to the verdict."""

from fastkernels.results import Verdict


class CandidateFailedError(Exception):
    """The candidate failed before there was anything to judge."""

    def __init__(self, verdict: Verdict, message: str, evidence: str) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.message = message
        self.evidence = evidence
