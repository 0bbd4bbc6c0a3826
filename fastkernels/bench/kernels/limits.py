"""What a machine is spared: scenarios that are left out unless asked for, with the reason."""

from fastkernels.bench.kernels.settings import GraderSettings
from fastkernels.manifest import Scenario
from fastkernels.results import LeftOut


def left_out(scenario: Scenario, settings: GraderSettings) -> LeftOut | None:
    """Say why this scenario is not graded on this machine, or return None.

    On a CPU: over 512 tokens. On both: more memory than there is. Token counts in `settings.seqlens` are never left out.
    """
    del scenario, settings
    return None
