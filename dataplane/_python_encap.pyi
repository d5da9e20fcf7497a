"""Types of the compiled adapter that hands Python classes to the core as encapsulations (``ext/python_encap.pyx``)."""

from types import ModuleType

from dataplane._core import Engine
from dataplane.encap.python_plugin import Encapsulation

def capsule_of(plugin: type[Encapsulation], contract: ModuleType) -> object:
    """The PyCapsule that ``dataplane._core.register_encap`` takes; the same struct for the same class.

    ``contract`` is the module ``dataplane.encap.python_plugin``.
    ValueError: more than three IP protocols, or more than 16 classes.
    """

def take_secrets(engine: Engine) -> list[tuple[int, bytes]]:
    """What the devices of one engine have handed to ``Host.add_secret`` since the last call, in the order of their numbers."""
