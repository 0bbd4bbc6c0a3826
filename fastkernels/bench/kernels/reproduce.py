"""The command line that grades one scenario again."""

import shlex

from fastkernels.bench.kernels.settings import GraderSettings
from fastkernels.manifest import Scenario


def command(scenario: Scenario, settings: GraderSettings) -> str:
    """`pytest --fk-target=rms_norm --fk-model=llama31-8b --fk-tp=1 --fk-seqlen=512 --fk-seed=7`, quoted for a shell.

    Where one model has several uses of the operator, all of that shape's are graded.
    """
    words = ["pytest", f"--fk-target={scenario.op}", f"--fk-model={scenario.model}", f"--fk-tp={scenario.tp}",
             f"--fk-seqlen={scenario.tokens}", f"--fk-seed={settings.seed}"]
    optional = {"candidates": settings.candidates_dir, "manifest": settings.manifest,
                "min-speedup": settings.min_speedup}
    words += [f"--fk-{name}={value}" for name, value in optional.items() if value is not None]
    defaults = GraderSettings()
    words += [f"--fk-{name}={getattr(settings, name)}" for name in ("device", "baseline")
              if getattr(settings, name) != getattr(defaults, name)]
    if settings.gates:
        words.append(f"--fk-gates={','.join(settings.gates)}")
    if settings.sanitize:
        words.append(f"--fk-sanitize={','.join(settings.sanitize)}")
    words += [flag for flag, given in (("--fk-self-test", settings.self_test), ("--fk-no-timing", not settings.timing),
                                   ("--fk-allow-passthrough", settings.allow_passthrough))
              if given]
    return shlex.join(words)
