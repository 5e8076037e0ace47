"""The names that `import keepshot` offers."""

import pkgutil
import subprocess
import sys

import keepshot


def test_no_public_name_is_the_name_of_a_room() -> None:
    # Importing a sub-package binds its name in the package: it would take the function's place.
    rooms = {module.name for module in pkgutil.iter_modules(keepshot.__path__)}
    assert not rooms & set(keepshot.__all__)


def test_importing_keepshot_loads_no_torch() -> None:
    code = "import sys, keepshot; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
