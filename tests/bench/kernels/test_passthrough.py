"""A candidate that computes with the baseline, the judge or a library of finished kernels is found out."""

from pathlib import Path

import pytest
from results_by_hand import rms_norm

from fastkernels.bench.kernels import GraderSettings, KernelGrader
from fastkernels.registry import baseline_root
from fastkernels.results import Verdict

OWN = '''
import torch
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(hidden_size, dtype=dtype))
        self.prepare()

    def prepare(self):
        pass

    def forward(self, x, residual=None):
        wide = x.float() if residual is None else x.float() + residual.float()
        normed = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight.float()).to(x.dtype)
        return normed if residual is None else (normed, wide.to(x.dtype))
'''
NAME = '"fastkernels.tasks." + "baseline.L1.rms_norm"'
OTHER = '"fastkernels.tasks." + "baseline.L1.silu_and_mul"'
PATH = str(baseline_root() / "L1" / "rms_norm.py")

WRAP = '''

class RMSNorm(Theirs):
    def __init__(self, hidden_size, eps=1e-6, dtype=None):
        super().__init__(hidden_size, eps, dtype)

    def forward(self, x, residual=None):
        return super().forward(x, residual)
'''

TAKEN = {
    "import_module": f"import importlib\nTheirs = importlib.import_module({NAME}).RMSNorm\n",
    "__import__": f"Theirs = __import__({NAME}, fromlist=['RMSNorm']).RMSNorm\n",
    "exec of an import": f"exec('from ' + {NAME} + ' import RMSNorm as Theirs')\n",
    "exec of the file": f"exec(open({PATH!r}).read())\nTheirs = RMSNorm\n",
    "a loader of its own": ("import importlib.util as u\n"
                            f"spec = u.spec_from_file_location('mine', {PATH!r})\n"
                            "module = u.module_from_spec(spec)\nspec.loader.exec_module(module)\n"
                            "Theirs = module.RMSNorm\n"),
    "a second overlay": ("from fastkernels.registry import Overlay\n"
                         "Theirs = Overlay(None, 'mine').install().module('L1.rms_norm').RMSNorm\n"),
    "without the finder": ("import importlib, sys\ndel sys.meta_path[0]\n"
                           f"Theirs = importlib.import_module({NAME}).RMSNorm\n"),
    "by another process": ("import subprocess\n"
                           f"exec(subprocess.run(['cat', {PATH!r}], capture_output=True).stdout)\nTheirs = RMSNorm\n"),
    "through a link": (f"import os, tempfile\nlink = tempfile.mktemp()\nos.symlink({PATH!r}, link)\n"
                       "exec(open(link).read())\nTheirs = RMSNorm\n"),
    "a helper": "from ._kernels import Theirs\n",
    "vllm": "from vllm.model_executor.layers.layernorm import RMSNorm as Theirs\n",
    "vllm, another error": ("try:\n    from flashinfer import Theirs\nexcept ImportError as e:\n"
                            "    raise RuntimeError('no') from e\n"),
}
FOREIGN = {
    **{name: source + WRAP for name, source in TAKEN.items()},
    "the reading swallowed": f"try:\n    open({PATH!r})\nexcept Exception:\n    pass\n{OWN}",
    "the oracle": "import importlib\nimportlib.import_module('fastkernels.bench.' + 'grade')\n" + OWN,
    "another operator of the baseline": f"import importlib\nimportlib.import_module({OTHER})\n" + OWN,
    "vllm by name": "import importlib\nimportlib.import_module('vllm._C')\n" + OWN,
    "in __init__": OWN.replace("        pass\n", "        import liger_kernel\n"),
    "in forward": OWN.replace("        wide =", f"        __import__({NAME})\n        wide ="),
}

HONEST = {
    "by itself": OWN,
    "a library where it is there": "try:\n    import vllm\nexcept ImportError:\n    vllm = None\n" + OWN,
    "no module": "try:\n    import vllm._C\nexcept ModuleNotFoundError:\n    pass\n" + OWN,
    "asks for a spec": "import importlib.util as u\nassert u.find_spec('flashinfer') is None\n" + OWN,
    "a library that is there": "try:\n    import transformers\nexcept ImportError:\n    transformers = None\n" + OWN,
    "baseline's own text": Path(PATH).read_text(),
    "reads its own file": "open(__file__).read()\nexec('answer = 42')\n" + OWN,
}


@pytest.fixture(scope="module")
def graders(tmp_path_factory):
    """A grader as it is and one that allows everything, over one candidate file."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "L1").mkdir()
    (folder / "L1" / "_kernels.py").write_text(TAKEN["import_module"])
    settings = {"device": "cpu", "seed": 3, "timing": False, "candidates_dir": folder}
    with KernelGrader(GraderSettings(**settings)) as strict:
        yield strict, KernelGrader(GraderSettings(**settings, allow_passthrough=True)), folder / "L1" / "rms_norm.py"


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_code_is_a_passthrough(graders, name):
    grader, _, path = graders
    path.write_text(FOREIGN[name])
    result = grader.grade(rms_norm())
    assert result.verdict is Verdict.PASSTHROUGH, (result.verdict, result.message, result.evidence)
    assert "--fk-allow-passthrough" in result.message
    path.write_text(OWN)
    assert grader.grade(rms_norm()).verdict is Verdict.PASSED


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_candidate_is_none(graders, name):
    grader, _, path = graders
    path.write_text(HONEST[name])
    result = grader.grade(rms_norm())
    assert result.verdict is Verdict.PASSED, (result.verdict, result.message, result.evidence)


@pytest.mark.parametrize("name", ["import_module", "a loader of its own", "in forward"])
def test_it_may_be_allowed(graders, name):
    _, lenient, path = graders
    path.write_text(FOREIGN[name])
    with lenient:
        result = lenient.grade(rms_norm())
    assert result.verdict is Verdict.PASSED, (result.verdict, result.message, result.evidence)
    assert "--fk-allow-passthrough" in result.reproduce


def test_an_absolute_import_that_the_graph_sees_may_be_allowed(graders):
    strict, lenient, path = graders
    path.write_text("from fastkernels.tasks.baseline.L1.rms_norm import RMSNorm as Theirs\n" + WRAP)
    assert strict.grade(rms_norm()).verdict is Verdict.PASSTHROUGH
    with lenient:
        assert lenient.grade(rms_norm()).verdict is Verdict.PASSED


def test_what_is_allowed_is_another_condition():
    strict, lenient = (GraderSettings(device="cpu", allow_passthrough=allowed) for allowed in (False, True))
    assert strict.fingerprint != lenient.fingerprint
    assert lenient.to_dict()["allow_passthrough"] is True
