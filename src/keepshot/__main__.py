"""`python -m keepshot`, and `accelerate launch -m keepshot eval …`."""

from keepshot.cli import main

main()
