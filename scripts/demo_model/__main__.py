"""``python scripts/demo_model`` is ``python scripts/demo_model/train.py``."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).with_name("train.py")), run_name="__main__")
