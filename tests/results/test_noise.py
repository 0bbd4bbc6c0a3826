"""What a busy machine leaves of a time: which are read as noise, and which are kept."""

from dataclasses import replace

import pytest
from results_by_hand import passed

from fastkernels.results import KernelBenchResult, Noise, Verdict, contradiction, read_result, write_result

SOUND = passed().timing


def timing(baseline_us, candidate_us, speedup, low, high):
    return replace(SOUND, baseline_s=baseline_us * 1e-6, candidate_s=candidate_us * 1e-6, speedup=speedup,
                   speedup_low=low, speedup_high=high)


@pytest.mark.parametrize(("times", "says"), [
    ((57.4, 48.8, 8.03, 0.27, 243), "the 95 % interval, 0.27 to 243, has ends more than a factor of 2 apart"),
    ((40.2, 30.2, 1.33, 1.27, 6.51), "has ends more than a factor of 2 apart"),
    ((57.4, 48.8, 8.03, 7.5, 8.6),
     "the ratio of the medians, 1.18, is not within the 95 % interval, 7.5 to 8.6 of the speedup, 8.03"),
    ((57.4, 48.8, 0.3, 0.28, 0.32), "the ratio of the medians, 1.18, is not within"),
    ((20.0, 10.0, 2.2, 1.9, 2.1), "does not hold the speedup"),
    ((57.4, 48.8, 1.18, 0.9, 1.75), ""),     # wide, and says so
    ((57.4, 48.8, 1.12, 1.08, 1.15), ""),    # a mean and a median of the same samples
    ((57.4, 48.8, float("inf"), 1.0, 2.0), ""),  # no number: no matter of noise
])  # fmt: skip
def test_medians_speedup_and_interval_must_agree(times, says):
    found = contradiction(timing(*times))
    assert says in found
    assert bool(found) is bool(says)


def test_a_file_of_an_older_version_is_read_with_its_contradictions_as_noise(tmp_path):
    broken, sound = replace(passed(), timing=timing(57.4, 48.8, 8.03, 0.27, 243)), replace(passed(), id="other")
    write_result(tmp_path / "old.json", KernelBenchResult((broken, sound)))
    first, second = read_result(tmp_path / "old.json").results
    assert (first.verdict, first.timing) == (Verdict.PASSED, None)
    assert first.noise is not None
    assert "0.27 to 243" in first.noise.reason
    assert (second.timing, second.noise) == (SOUND, None)


def test_a_result_has_a_time_or_noise_or_neither():
    noise = Noise("busy")
    assert replace(passed(), timing=None, noise=noise).noise == noise
    with pytest.raises(ValueError, match="noise with the verdict passed and a timing"):
        replace(passed(), noise=noise)
    with pytest.raises(ValueError, match="noise with the verdict wrong_values"):
        replace(passed(), verdict=Verdict.WRONG_VALUES, timing=None, noise=noise)
