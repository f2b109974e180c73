"""Print pip constraints that pin every direct dependency to the lowest version pyproject.toml allows.

torch is left to constraints.txt: its older releases have no CPU build in the ordinary index.
"""

import re
import sys
import tomllib
from pathlib import Path

_LOWER_BOUND = re.compile(r"(?P<name>[\w-]+)(?:\[[^]]*\])?>=(?P<version>[\w.]+)")


def main() -> None:
    """Read the file named on the command line."""
    project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]:
        bound = _LOWER_BOUND.match(requirement)
        if bound and bound["name"] != "torch":
            print(f"{bound['name']}=={bound['version']}")


if __name__ == "__main__":
    main()
