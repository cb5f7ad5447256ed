"""``python -m pyramidai_mpi``."""

from pyramidai_mpi.cli.main import main

if __name__ == "__main__":
    main()
