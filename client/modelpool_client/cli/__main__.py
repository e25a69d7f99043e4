"""``python -m modelpool_client.cli`` is ``poolctl``."""

from modelpool_client.cli.app import main

main()
