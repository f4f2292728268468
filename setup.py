"""A wheel also has configs/ and the scripts of the `ldm` command, in ldm/shipped; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

OF_A_CLONE = ("check_all", "demo", "demo_tasks", "parity", "reproduce", "rescale_effect", "roundtrips", "user_study")
# These scripts need paper/, demos/ or tests/, which are not installed.


class BuildWithScripts(build_py):
    """Copies the two folders into the package that is built."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # it uses the clone
            return
        shipped = Path(self.build_lib, "ldm", "shipped")
        shutil.rmtree(shipped, ignore_errors=True)  # of an earlier build
        shutil.copytree("configs", shipped / "configs", ignore=shutil.ignore_patterns("__pycache__"))
        names = [f"{name}.py" for name in OF_A_CLONE]
        shutil.copytree("scripts", shipped / "scripts", ignore=shutil.ignore_patterns("__pycache__", *names))


setup(cmdclass={"build_py": BuildWithScripts})
