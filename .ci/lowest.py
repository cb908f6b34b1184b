"""Print constraints that hold every requirement of setup.cfg at its lowest version; names given are left out.

python .ci/lowest.py torch > build/lowest.txt
"""

import configparser
import re
import sys
from pathlib import Path

setup = configparser.ConfigParser()
setup.read(Path(__file__).parents[1] / "setup.cfg")
extras = setup["options.extras_require"]
wanted = [
    setup["options"]["install_requires"],
    *(extras[name] for name in ("cli", "export", "excel", "test")),
]
for name, version in re.findall(r"^([\w.-]+) >= ([\w.]+)$", "\n".join(wanted), re.M):
    if name not in sys.argv[1:]:
        print(f"{name}=={version}")
