"""Jobs: the same results in any number of processes, errors and warnings with the job's name."""

import warnings

import joblib
import pytest
import torch

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.parallel import run_jobs


def drawing():
    """A job, in a function: another process is sent what it cannot import."""

    def drawn(seed):
        import torch

        generator = torch.Generator().manual_seed(seed)
        return torch.randn(3, generator=generator), torch.get_num_threads()

    return drawn


JOBS = {f"seed {seed}": (seed,) for seed in (5, 3, 4)}


def test_results_come_in_the_order_of_the_jobs_on_one_thread_each():
    torch.set_num_threads(2)
    found = run_jobs(drawing(), JOBS)
    assert torch.get_num_threads() == 2
    for (value, threads), (seed,) in zip(found, JOBS.values(), strict=True):
        assert threads == 1
        assert torch.equal(value, drawing()(seed)[0])


def test_processes_give_the_same_bit_by_bit():
    """Two processes that import torch: seconds."""
    alone, beside = run_jobs(drawing(), JOBS), run_jobs(drawing(), JOBS, n_jobs=2)
    for (one, _), (other, threads) in zip(alone, beside, strict=True):
        assert torch.equal(one, other)
        assert threads == 1


def test_the_callers_backend_is_used():
    with joblib.parallel_config("threading", n_jobs=2):
        found = run_jobs(drawing(), JOBS)
    assert torch.equal(found[0][0], run_jobs(drawing(), JOBS)[0][0])


def test_a_failure_has_the_jobs_name_and_its_own_class():
    def failing(number):
        if number == 3:
            raise ZeroDivisionError("nothing to divide by")
        return number

    with pytest.raises(ZeroDivisionError, match=r"^seed 3: nothing to divide by$"):
        run_jobs(failing, JOBS)


def test_warnings_have_the_jobs_name_and_meet_the_callers_filters():
    def warning(number):
        warnings.warn(f"{number} is odd", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="seed 3: 3 is odd"):
        run_jobs(warning, {"seed 3": (3,)})
    with pytest.raises(UserWarning, match="seed 5: 5 is odd"):  # an error in this test suite
        run_jobs(warning, JOBS)


@pytest.mark.parametrize("number", [0, 1.5, True, "2"])
def test_a_wrong_number_of_processes_is_refused(number):
    with pytest.raises(ConfigurationError, match="n_jobs"):
        run_jobs(drawing(), JOBS, n_jobs=number)
