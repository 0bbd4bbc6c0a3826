import pytest

from fastkernels.bench.grade import plan_draws
from fastkernels.bench.grade.hard import TRANSFORMS
from fastkernels.manifest.scenario import InputSpec

X = InputSpec("x", "normal", ("tokens", 64), "bfloat16")
USED = InputSpec("seqused_k", "seqused_k", ("tokens",), "int32", {"max": 9})


def test_the_plan_is_fixed_by_shape_and_seed(scenario_of):
    scenario = scenario_of(X, tokens=512)
    assert plan_draws(scenario, 5, "cpu") == plan_draws(scenario, 5, "cpu")
    assert plan_draws(scenario, 5, "cpu") != plan_draws(scenario, 6, "cpu")
    assert plan_draws(scenario, 5, "cpu") != plan_draws(scenario_of(X, tokens=128), 5, "cpu")


def test_seeds_and_neighbours_cannot_be_told_from_another_seed(scenario_of):
    plans = [plan_draws(scenario_of(X, tokens=512), seed, "cpu") for seed in range(30)]
    seeds = [draw.seed for plan in plans for draw in plan]
    assert len(set(seeds)) == len(seeds)
    assert len({plan[2].tokens for plan in plans}) > 8


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("tokens", [1, 2, 3, 8, 32, 128, 512, 2048, 8192])
def test_every_plan_has_normal_hard_and_odd_draws(scenario_of, device, tokens):
    plan = plan_draws(scenario_of(X, tokens=tokens), 1, device)
    assert (plan[0].hard, plan[0].tokens) == ("normal", tokens)
    counts = [draw.tokens for draw in plan if draw.hard == "normal"]
    assert len(counts) >= 4
    assert 1 in counts
    assert any(count % 2 and count not in (1, tokens) for count in counts)
    assert {draw.hard for draw in plan} == {"normal", "large", "tiny", "zeros", "ties", "mixed", "nan"}
    assert all(draw.tokens >= 3 for draw in plan if draw.hard != "normal")
    assert len({draw.name for draw in plan}) == len(plan)
    assert all(draw.hard in ("normal", "nan", *TRANSFORMS) for draw in plan)


def test_few_draws_are_large(scenario_of):
    def total(tokens, device):
        return sum(draw.tokens for draw in plan_draws(scenario_of(X, tokens=tokens), 1, device))

    assert total(512, "cpu") < 2 * 512
    assert total(8192, "cuda") < 1.5 * 8192


def test_a_full_size_draw_comes_twice_and_one_token_more_once(scenario_of):
    counts = [draw.tokens for draw in plan_draws(scenario_of(X, tokens=32), 1, "cpu")]
    assert counts.count(32) == 2
    assert counts.count(33) == 1


def test_what_enters_an_exponential_gets_gentler_values(scenario_of):
    attention = {draw.hard for draw in plan_draws(scenario_of(X, USED), 1, "cpu")}
    block = {draw.hard for draw in plan_draws(scenario_of(X, level=2), 1, "cpu")}
    assert attention == {"normal", "moderate", "tiny", "zeros", "ties", "mixed-gentle"}
    assert block == {"normal", "moderate", "tiny", "zeros", "ties", "mixed-mild", "nan"}
