"""The control plane: knows every model, starts and stops workers, relays requests to them."""

from modelpool_client import __version__

__all__ = ["__version__"]
