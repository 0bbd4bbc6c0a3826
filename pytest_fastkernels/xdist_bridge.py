"""pytest-xdist: shares the GPUs out to workers and hands them the decisions of the controller."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fastkernels.manifest import Scenario
    from fastkernels.results import LeftOut
    from pytest_fastkernels.plan import LeftOutRule
    from pytest_fastkernels.session import FkSession

KEY = "fastkernels"
"""Key of the handover in `workerinput` and `workeroutput`."""


def handed_over(config: pytest.Config) -> dict[str, Any] | None:
    """Return what the controller decided, None outside an xdist worker."""
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    return None if workerinput is None else workerinput[KEY]


def is_distributed(config: pytest.Config) -> bool:
    """True in the controller of a run that xdist will spread over workers."""
    option = config.option
    return (getattr(option, "dist", "no") != "no" and bool(getattr(option, "tx", None))
            and not option.collectonly and not hasattr(config, "workerinput"))


def refuse_each(config: pytest.Config) -> None:
    """UsageError for --dist each, which would grade every scenario once for each worker and count it as often."""
    if is_distributed(config) and config.option.dist == "each":
        raise pytest.UsageError("--dist each runs every test on every worker, and a scenario is graded once in a run; "
                                "spread the scenarios with -n 2 or --dist load, or start one run for each environment")


def visible_gpus() -> list[str]:
    """Values for CUDA_VISIBLE_DEVICES, one for each GPU that this process may use; does not import torch."""
    from fastkernels.bench.kernels.settings import cuda_device_count

    count = cuda_device_count()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if listed is None else [gpu.strip() for gpu in listed.split(",")]
    return names[:count]


def with_one_gpu_each(rule: "LeftOutRule") -> "LeftOutRule":
    """The same rule where each worker has one GPU: scenarios of several ranks are left out besides."""
    from fastkernels.results import LeftOut

    def left_out(scenario: "Scenario") -> "LeftOut | None":
        reason = f"{scenario.ranks} ranks at once: 1 GPU for each worker of -n"
        return rule(scenario) or (LeftOut(scenario.id, reason) if scenario.ranks > 1 else None)

    return left_out


class XdistBridge:
    """Hooks of the controller; registered only where xdist is loaded."""

    def __init__(self, fk: "FkSession") -> None:
        self.fk = fk

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, specs: Sequence[Any]) -> None:
        """Give each worker one GPU, round robin, before torch is imported there, and what graders can share."""
        from pytest_fastkernels.grading import shared_with_workers

        gpus = visible_gpus() if self.fk.device == "cuda" else []
        shared = shared_with_workers(self.fk)
        for index, spec in enumerate(specs):
            spec.env |= shared | ({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {})

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand over what is decided once: seed, log, arguments, scenarios left out."""
        node.workerinput[KEY] = self.fk.run.to_wire()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Note what the workers will run."""
        self.fk.expect(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the machine's description from a worker that ended well."""
        environment = getattr(node, "workeroutput", {}).get(KEY)
        if environment:  # none from a worker that graded nothing, as in a run that has no --fk option
            self.fk.record.environment.update(environment)
