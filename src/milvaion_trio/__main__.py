"""`python -m milvaion_trio` is `milvaion-trio`."""

from milvaion_trio.cli.app import main

if __name__ == "__main__":
    main()
