"""The command ``pyro-ssbnn``, and ``python -m pyro_ssbnn``, which is the same."""


def main() -> None:
    """Run the command line, or say which extra it needs."""
    try:
        from pyro_ssbnn.cli.main import app
    except ModuleNotFoundError as error:
        if error.name not in ("rich", "typer"):
            raise
        raise SystemExit(
            f'pyro-ssbnn: the command line needs {error.name}; pip install "pyro_ssbnn[cli]" brings it.'
        ) from None
    app(prog_name="pyro-ssbnn")


if __name__ == "__main__":
    main()
