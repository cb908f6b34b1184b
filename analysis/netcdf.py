"""ArviZ's container in both of its forms, and its netCDF file: one format, whichever ArviZ wrote it.

ArviZ 0.x keeps groups in its own ``InferenceData``, ArviZ 1.x in xarray's ``DataTree``; ``data["posterior"]`` reads a
group of either. The form follows the installed ArviZ's version, never a failed attempt: 0.x accepts a call meant for
1.x without complaint and builds other variables from it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import h5netcdf
import h5py
import xarray as xr

from pyro_ssbnn.checks import check_that
from pyro_ssbnn.errors import CheckpointError
from pyro_ssbnn.files.atomic import replacing
from pyro_ssbnn.isolation import python_random_kept
from pyro_ssbnn.posterior.importance import ARVIZ_MAJOR

__all__ = ["ArviZData", "assemble", "groups_of", "read_netcdf", "write_netcdf"]

ArviZData: TypeAlias = Any
"""``arviz.InferenceData`` with ArviZ 0.x, ``xarray.DataTree`` with ArviZ 1.x."""


def assemble(groups: Mapping[str, xr.Dataset], attrs: Mapping[str, Any]) -> ArviZData:
    """Put groups together in the installed ArviZ's container.

    :param groups: data set of each group, by ArviZ's names for them.
    :param attrs: attributes of the whole.
    """
    if ARVIZ_MAJOR >= 1:
        return xr.DataTree.from_dict({"/": xr.Dataset(attrs=dict(attrs)), **groups})
    with (
        python_random_kept(),
        warnings.catch_warnings(),
    ):  # ArviZ 0.x announces ArviZ 1 once a day, on import
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing", FutureWarning)
        import arviz
    container: Any = arviz.InferenceData
    return container(attrs=dict(attrs), **groups)


def groups_of(data: ArviZData) -> dict[str, xr.Dataset]:
    """Data sets of a container's groups, by name."""
    if ARVIZ_MAJOR >= 1:
        return {str(name): node.to_dataset() for name, node in data.children.items()}
    return {name: data[name] for name in data.groups()}


def write_netcdf(data: ArviZData, path: str | Path) -> Path:
    """Write a container to a compressed netCDF 4 file, all of it or nothing; an older file is replaced.

    :param data: as :func:`~pyro_ssbnn.analysis.to_arviz` makes it.
    :returns: the path.
    :raises OSError: when the folder cannot be written to.
    """
    container = hasattr(data, "attrs")
    check_that("write_netcdf", "data", data, container, "what to_arviz returns")
    image = _image([(None, xr.Dataset(attrs=dict(data.attrs))), *groups_of(data).items()])
    with replacing(path) as temporary:
        temporary.write_bytes(image)
    return Path(path)


def _image(groups: Iterable[tuple[str | None, xr.Dataset]]) -> bytes:
    """The bytes of a netCDF 4 file: HDF5's library ends the process where a disk is full, so it writes to memory."""
    with h5py.File("image.nc", "w", driver="core", backing_store=False, track_order=True) as image:
        with h5netcdf.File(image, "w") as file:
            for name, group in groups:
                store = xr.backends.H5NetCDFStore(file, group=name, mode="a")
                packed: dict[Any, dict[str, Any]] = {
                    key: {"zlib": True, "complevel": 4}
                    for key, variable in group.variables.items()
                    if variable.ndim and variable.dtype.kind in "biuf"
                }
                group.dump_to_store(store, encoding=packed)
                store.sync()
        image.flush()
        written: bytes = image.id.get_file_image()
    return written


def read_netcdf(path: str | Path) -> ArviZData:
    """Read a file of :func:`write_netcdf`, or any netCDF file of ArviZ's, into memory; the file is closed again.

    :raises FileNotFoundError: when there is no such file.
    :raises CheckpointError: when the file is no netCDF 4 file, is cut short, or has no groups.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"{source}: there is no such file (looked from {Path.cwd()}).")
    try:
        with h5netcdf.File(source, mode="r") as file:
            names = list(file.groups)
        attrs = xr.load_dataset(source, engine="h5netcdf").attrs
        groups = {n: xr.load_dataset(source, group=n, engine="h5netcdf") for n in names}
    except OSError as error:
        raise CheckpointError(
            f"{source}: this is no netCDF 4 file, or it is damaged ({error}). Write it with write_netcdf."
        ) from error
    if not names:
        raise CheckpointError(
            f"{source}: the file has no groups; expected ArviZ's, such as 'posterior'."
        )
    return assemble(groups, attrs)
