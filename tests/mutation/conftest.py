"""The runner is a script beside its modules; its tests import them in the same way."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
