"""Names of classes in saved files: priors, likelihoods, guides, networks, augmentations, the package's and users' own.

A file holds names and numbers, never code. Whoever reads it looks the name up here, so a class of one's own needs a
name of its own, given by the decorator :func:`register`. Fitting, pruning and predicting need no name: they keep the
objects and classes they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["class_of", "made_of", "name_of", "record_of", "register"]

_Class = TypeVar("_Class", bound=type)
_OWNERS: dict[tuple[str, str], type] = {}  # by family and name, the latest registration last


def register(name: str) -> Callable[[_Class], _Class]:
    """Give a prior, likelihood, guide or network the name by which saved files know it; a class decorator.

    So can an augmentation be named, a callable class with ``family = "augmentation"`` and a ``to_config`` of its
    constructor's arguments.

    Files of that class can then be saved, and loaded wherever its module has been imported before. The name belongs to
    this class alone, a subclass needs another. Running a notebook's cell again replaces the class.

    :param name: unlike those of the other classes of its family (priors, likelihoods, guides, networks).
    :raises ConfigurationError: for a name that another class has, or a class of none of these families.

    >>> from pyro_ssbnn import SSGHS
    >>> @register("ss-ghs-of-mine")
    ... class MyGHS(SSGHS):
    ...     pass
    >>> MyGHS().name, SSGHS().name
    ('ss-ghs-of-mine', 'ss-ghs')
    """

    def decorate(cls: _Class) -> _Class:
        key = (_family(cls), name)
        owner = _OWNERS.get(key, cls)
        if not _same(owner, cls):
            raise ConfigurationError(
                f"register: the {key[0]} name {name!r} belongs to {_path(owner)}; give {_path(cls)} another."
            )
        _OWNERS.pop(key, None)
        _OWNERS[key] = cls
        return cls

    return decorate


def name_of(cls: type) -> str:
    """Name of a class; one that was registered twice has the later.

    :raises ConfigurationError: for a class without a name of its own, whatever its parents have.
    """
    family = _family(cls)
    names = [
        name for (kind, name), owner in _OWNERS.items() if kind == family and _same(owner, cls)
    ]
    if not names:
        raise ConfigurationError(
            f"the {family} {_path(cls)} has no name of its own, so no file can say how to make it again. Put the"
            f' decorator @pyro_ssbnn.register("...") on the class, with a name unlike {_known(family)}.'
        )
    return names[-1]


def record_of(cls: type) -> dict[str, str]:
    """What a file says of a class: its ``name``, and its ``module`` for the message where it is not known."""
    return {"name": name_of(cls), "module": cls.__module__}


def class_of(family: str, record: Mapping[str, Any]) -> Any:
    """Class of a :func:`record_of`.

    :param family: "prior", "likelihood", "guide", "network" or "augmentation".
    :raises ConfigurationError: when no class of that name is registered; the message says which module to import.
    """
    name, module = record.get("name"), record.get("module")
    if not isinstance(name, str) or (family, name) not in _OWNERS:
        hint = (
            f" Its class was defined in {module}: import that module first."
            if module
            else " Import the module that registers a class of your own first (pyro_ssbnn.register)."
        )
        raise ConfigurationError(f"{family}: expected one of {_known(family)}; got {name!r}.{hint}")
    return _OWNERS[family, name]


def made_of(family: str, record: Mapping[str, Any], **changed: Any) -> Any:
    """Make an object of its class's :func:`record_of` with the constructor's options beside it.

    :param family: as for :func:`class_of`.
    :param changed: options in place of the record's.
    :raises ConfigurationError: for a name that is not registered, or unknown options.
    """
    cls = class_of(family, record)
    options = {key: value for key, value in record.items() if key not in ("name", "module")}
    try:
        return cls(**{**options, **changed})
    except TypeError as error:
        raise ConfigurationError(f"{family} {record['name']!r}: {error}") from error


def _family(cls: type) -> str:
    family = getattr(cls, "family", None)
    if not isinstance(family, str):
        raise ConfigurationError(
            f"register: {_path(cls)} is no prior, likelihood, guide or network. Subclass one of the package's, or set"
            ' its class attribute ``family`` to "guide", "network" or "augmentation".'
        )
    return family


def _same(one: type, other: type) -> bool:
    """Whether one is the other, or a later definition of it, as when a notebook's cell is run again."""
    return _path(one) == _path(other)


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _known(family: str) -> list[str]:
    return sorted(name for kind, name in _OWNERS if kind == family)
