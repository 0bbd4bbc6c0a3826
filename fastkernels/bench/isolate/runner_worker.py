"""The process that runs the baseline in timed sections, as the candidate's process runs the candidate."""

from collections.abc import Callable

from fastkernels.bench.isolate.baseline_worker import BaselineService
from fastkernels.bench.isolate.protocol import Message
from fastkernels.bench.isolate.sections.copies import called_on
from fastkernels.bench.isolate.sections.room import Room
from fastkernels.manifest import Scenario


class RunnerService(BaselineService):
    """Builds what the trusted worker builds, and makes its calls; it judges nothing and is told no secret."""

    def on_build(self, message: Message) -> Message:
        """Build the baseline, or what stands in for it, with the weights that the run's seed gives."""
        self.free()
        self._scenario = Scenario.from_dict(message["scenario"])
        self.enter_group(self._scenario)
        self._module = self._build(message["seed"])
        assert self._provider is not None
        self._stand_in = self._provider.stand_in(self._module, self._scenario)
        return {}

    def with_copies(self, room: Room) -> list[Callable[..., object]]:
        """The baseline with each copy of the weights."""
        stand_in, module = self._stand_in, self._module
        assert stand_in is not None
        assert module is not None
        held = dict(module.named_parameters())
        calls = []
        for copy in map(room.weights_of, range(room.layout.copies)):
            moves = [(held[name], view) for name, view in copy.items()]
            theirs = [(own, copy[name]) for own, baseline in stand_in.weights for name in held
                      if baseline is held[name]]
            calls.append(called_on(stand_in.call, [*moves, *theirs]))
        return calls
