"""The ArviZ container: groups, names, exact numbers, and the netCDF round trip, with ArviZ 0.x and 1.x alike."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from pyro_ssbnn import __version__
from pyro_ssbnn.analysis import read_netcdf, to_arviz, write_netcdf
from pyro_ssbnn.analysis.netcdf import groups_of
from pyro_ssbnn.errors import CheckpointError, ConfigurationError, DataError
from pyro_ssbnn.likelihoods import CategoricalLikelihood, GaussianLikelihood
from pyro_ssbnn.posterior.draws import draw_posterior
from pyro_ssbnn.posterior.importance import ARVIZ_MAJOR
from pyro_ssbnn.priors import SSGHS, SSGL, SSIG, Gaussian, GroupHorseshoe

X, Y = torch.linspace(-1, 1, 18).reshape(6, 3), torch.linspace(0, 1, 6)
NAMES = ["age", "bmi", "dose"]


@pytest.fixture
def fitted(build):
    """Two hidden layers, the second of one node; gated predictors; scales in every layer."""
    return build(
        [4, 1],
        SSGHS(inclusion=0.1),
        output_prior=GroupHorseshoe(cap=None),
        input_inclusion=0.25,
        input_names=NAMES,
        logits={"input": [1.0, -1.0, 0.0], "hidden1": [60.0, -60.0, 0.5, 2.0], "hidden2": 0.0},
    )


def dataset(data, group):
    return groups_of(data)[group]


def test_container_is_the_installed_arviz_own(fitted):
    data = to_arviz(*fitted, num_draws=3)
    expected = "DataTree" if ARVIZ_MAJOR >= 1 else "InferenceData"
    assert type(data).__name__ == expected
    assert data["posterior"].sizes["draw"] == 3


def test_groups_follow_what_is_given(fitted):
    always = {"posterior", "sample_stats", "constant_data"}
    assert set(groups_of(to_arviz(*fitted, num_draws=2))) == always
    with_x = to_arviz(*fitted, num_draws=2, x=X)
    assert set(groups_of(with_x)) == always | {"posterior_predictive"}
    with_y = to_arviz(*fitted, num_draws=2, x=X, y=Y)
    rest = {"posterior_predictive", "log_likelihood", "observed_data"}
    assert set(groups_of(with_y)) == always | rest


def test_dimensions_and_coordinates_are_named(fitted):
    posterior = dataset(to_arviz(*fitted, num_draws=5, weights=True), "posterior")
    dims = {name: posterior[name].dims[2:] for name in posterior.data_vars}
    assert dims == {
        "global.scale_a": (),
        "global.scale_b": (),
        "output.global.scale_a": (),
        "output.global.scale_b": (),
        "output.global.cap": (),
        "noise.variance": (),
        "input.gate": ("predictor",),
        **{
            f"{layer}.{key}": (f"{layer}_node",)
            for layer in ("hidden1", "hidden2", "output")
            for key in ("gate", "scale_a", "scale_b", "slab_scale")
            if (layer, key) != ("output", "gate")
        },
        **{f"{g}.weight": (f"{g}_node", f"{g}_incoming") for g in ("hidden1", "hidden2", "output")},
    }
    assert posterior["predictor"].values.tolist() == NAMES
    assert posterior["hidden1_node"].values.tolist() == [f"hidden1[{j}]" for j in range(4)]
    assert posterior["hidden2_node"].values.tolist() == ["hidden2[0]"]
    assert posterior["hidden1_incoming"].values.tolist() == [*NAMES, "bias"]
    assert posterior["hidden2_incoming"].values.tolist() == [
        *(f"hidden1[{j}]" for j in range(4)),
        "bias",
    ]
    assert posterior.sizes["chain"] == 1
    assert posterior.sizes["draw"] == 5


def test_values_are_those_of_the_draws(fitted):
    model, guide = fitted
    draws = draw_posterior(model, guide, 5, x=X, y=Y, weights=True, seed=7)
    data = to_arviz(model, guide, num_draws=5, x=X, y=Y, weights=True, seed=7)
    posterior = dataset(data, "posterior")
    assert posterior["hidden1.gate"].dtype.kind == "i"
    for name, value in draws.latents.items():
        found = posterior[name].values[0]
        np.testing.assert_array_equal(found, value.numpy().reshape(found.shape))
    for name, value in draws.weights.items():
        np.testing.assert_array_equal(posterior[f"{name}.weight"].values[0], value.numpy())
    amplitude = posterior["hidden1.gate"] * posterior["hidden1.slab_scale"]
    closed = posterior["hidden1.weight"].where(amplitude == 0, drop=True).fillna(0)
    assert closed.size
    assert (closed == 0).all()
    np.testing.assert_array_equal(
        dataset(data, "posterior_predictive")["obs"].values[0], draws.predictive.numpy()
    )
    np.testing.assert_array_equal(
        dataset(data, "log_likelihood")["obs"].values[0], draws.log_likelihood.numpy()
    )
    np.testing.assert_array_equal(dataset(data, "observed_data")["obs"].values, Y.numpy())
    again = to_arviz(model, guide, draws, y=Y)
    xr.testing.assert_identical(dataset(again, "posterior"), posterior)


def test_more_than_memory_holds_is_refused_with_what_it_costs(fitted):
    with pytest.raises(
        ConfigurationError, match=r"2\.4 GB.*1,000,000 rows.*most_bytes=2\.1 GB.*predict"
    ):
        to_arviz(*fitted, x=torch.zeros(1_000_000, 3), y=torch.zeros(1_000_000))


def test_slab_scale_is_the_prior_function_of_its_latents(fitted):
    posterior = dataset(to_arviz(*fitted, num_draws=4), "posterior")
    tau2 = posterior["hidden2.scale_a"] * posterior["hidden2.scale_b"]
    s2 = posterior["global.scale_a"] * posterior["global.scale_b"]
    expected = (1 + 1 / (s2 * tau2)) ** -0.5
    np.testing.assert_allclose(posterior["hidden2.slab_scale"], expected, rtol=1e-5)


def test_inclusion_is_exact_not_sampled(fitted):
    constant = dataset(to_arviz(*fitted, num_draws=2), "constant_data")
    expected = 1 / (1 + np.exp(-np.array([60.0, -60.0, 0.5, 2.0])))
    np.testing.assert_allclose(constant["hidden1.inclusion"], expected, rtol=1e-6)
    np.testing.assert_array_equal(constant["hidden1.inclusion_logit"], [60.0, -60.0, 0.5, 2.0])
    assert float(constant["hidden1.prior_inclusion"]) == 0.1
    assert float(constant["input.prior_inclusion"]) == 0.25
    assert float(constant["input.inclusion_logit"].sel(predictor="bmi")) == -1.0
    assert "output.inclusion" not in constant


def test_sample_stats_keep_log_p_and_log_q_apart(fitted):
    model, guide = fitted
    draws = draw_posterior(model, guide, 4, x=X, y=Y)
    stats = dataset(to_arviz(model, guide, draws, y=Y), "sample_stats")
    np.testing.assert_array_equal(stats["log_prior"].values[0], draws.log_prior.numpy())
    np.testing.assert_array_equal(stats["log_q"].values[0], draws.log_q.numpy())
    joint = draws.log_prior.double() + draws.log_likelihood.double().sum(1)
    np.testing.assert_allclose(stats["lp"].values[0], joint.numpy())
    prior_only = dataset(to_arviz(model, guide, num_draws=4), "sample_stats")
    np.testing.assert_array_equal(prior_only["lp"], prior_only["log_prior"])


def test_attributes_say_what_the_draws_are(fitted):
    data = to_arviz(*fitted, num_draws=2)
    for attrs in (data.attrs, data["posterior"].attrs):
        assert attrs["inference_library"] == "pyro_ssbnn"
        assert attrs["inference_library_version"] == __version__
        assert attrs["inference"] == "mean-field variational"
        assert "R-hat" in attrs["note"]


def test_several_targets_and_one_draw(build):
    model, guide = build([2], likelihood=GaussianLikelihood(num_targets=2))
    y = torch.randn(6, 2)
    data = to_arviz(model, guide, num_draws=1, x=X, y=y)
    assert dataset(data, "posterior")["noise.variance"].dims == ("chain", "draw", "target")
    assert dataset(data, "posterior_predictive")["obs"].shape == (1, 1, 6, 2)
    assert dataset(data, "log_likelihood")["obs"].shape == (1, 1, 6)
    assert dataset(data, "observed_data")["obs"].dims == ("obs_id", "target")


@pytest.mark.parametrize("prior", [SSIG(inclusion=0.2), SSGL(inclusion=0.2), Gaussian()])
def test_every_prior_and_the_dense_baseline(build, prior):
    model, guide = build([3], prior, likelihood=CategoricalLikelihood(3))
    groups = groups_of(to_arviz(model, guide, num_draws=2, x=X, weights=True))
    assert ("hidden1.slab_scale" in groups["posterior"]) == isinstance(prior, SSGL)
    assert ("constant_data" in groups) == prior.gated
    assert groups["posterior"]["hidden1.weight"].shape == (1, 2, 3, 4)
    assert groups["posterior_predictive"]["obs"].dtype.kind == "i"


def test_net_cdf_round_trip(fitted, tmp_path):
    data = to_arviz(*fitted, num_draws=5, x=X, y=Y, weights=True)
    path = write_netcdf(data, tmp_path / "fit.nc")
    back = read_netcdf(path)
    assert type(back) is type(data)
    assert back.attrs == data.attrs
    before, after = groups_of(data), groups_of(back)
    assert set(before) == set(after)
    for name, group in before.items():
        xr.testing.assert_identical(after[name], group)
        assert {k: v.dtype.kind for k, v in after[name].data_vars.items()} == {
            k: v.dtype.kind for k, v in group.data_vars.items()
        }
    path.unlink()  # nothing holds the file open
    assert float(back["constant_data"]["hidden1.inclusion_logit"][0]) == 60.0


def test_an_interrupted_write_keeps_the_older_file(fitted, tmp_path, monkeypatch):
    data = to_arviz(*fitted, num_draws=2)
    path = write_netcdf(data, tmp_path / "fit.nc")
    before = path.read_bytes()

    def broken(self, data):
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(OSError, match="disk full"):
        write_netcdf(data, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_write_replaces_the_first(fitted, tmp_path):
    write_netcdf(to_arviz(*fitted, num_draws=2, x=X), tmp_path / "fit.nc")
    write_netcdf(to_arviz(*fitted, num_draws=3), tmp_path / "fit.nc")
    back = groups_of(read_netcdf(tmp_path / "fit.nc"))
    assert back["posterior"].sizes["draw"] == 3
    assert "posterior_predictive" not in back


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_netcdf(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("hello")
    with pytest.raises(CheckpointError, match=r"no netCDF 4 file.*write_netcdf"):
        read_netcdf(tmp_path / "text.nc")
    xr.Dataset({"a": 1.0}).to_netcdf(tmp_path / "flat.nc", engine="h5netcdf")
    with pytest.raises(CheckpointError, match="no groups"):
        read_netcdf(tmp_path / "flat.nc")


def test_a_cut_file_is_refused(fitted, tmp_path):
    path = write_netcdf(to_arviz(*fitted, num_draws=2), tmp_path / "fit.nc")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="damaged"):
        read_netcdf(path)


def test_misuse_is_refused(fitted):
    model, guide = fitted
    draws = draw_posterior(model, guide, 2, x=X)
    with pytest.raises(DataError, match="y is given without x"):
        to_arviz(model, guide, y=Y)
    with pytest.raises(ConfigurationError, match="give draws or x"):
        to_arviz(model, guide, draws, x=X)
    with pytest.raises(ConfigurationError, match="hold no weights"):
        to_arviz(model, guide, draws, weights=True)
    with pytest.raises(DataError, match="log-likelihood of none"):
        to_arviz(model, guide, draws, y=Y)
    with pytest.raises(DataError, match="log-likelihood of 6"):
        to_arviz(model, guide, draw_posterior(model, guide, 2, x=X, y=Y), y=Y[:5])
    with pytest.raises(ConfigurationError, match="3 names"):
        to_arviz(model, guide, feature_names=["a"])


def test_feature_names_replace_the_network_own(fitted):
    data = to_arviz(*fitted, num_draws=2, feature_names=["a", "b", "c"])
    assert data["posterior"]["predictor"].values.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("change", "site"),
    [
        ({"prior": SSGL(inclusion=0.1)}, "global.penalty"),
        ({"likelihood": GaussianLikelihood(scale=1.0)}, "noise.variance"),
        ({"input_inclusion": 0.5}, "input.gate"),
        ({"hidden": [4, 2]}, "hidden2.gate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_draws_of_another_network_are_refused(build, change, site):
    usual = {"hidden": [4], "prior": SSGHS(inclusion=0.1)}
    other = draw_posterior(*build(**{**usual, **change}), 3)
    with pytest.raises(ConfigurationError, match=f"another network: site '{site}' is "):
        to_arviz(*build(**usual), other)
