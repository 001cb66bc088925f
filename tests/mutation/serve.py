"""Answers requests on standard input, one JSON object a line: are these tests killed by this edit of a module?

    {"module": "theory/mixing.py", "edits": [["old text", "new text"], ...], "tests": ["tests/...::test_...", ...]}

The answer is ``{"failed": [...]}``, or ``{"error": "..."}`` where a text does not occur exactly once.
"""

import ast
import json
import os
import sys
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    """Serve until the input ends."""
    from selection import PACKAGE, ROOT
    from worker import Child

    for line in sys.stdin:
        request = json.loads(line)
        source = (ROOT / PACKAGE / request["module"]).read_text(encoding="utf-8")
        answer: dict[str, object] = {}
        for old, new in request["edits"]:
            if source.count(old) != 1:
                answer["error"] = f"{source.count(old)} times in {request['module']}: {old}"
                break
            source = source.replace(old, new)
        else:
            tree = ast.parse(source)
            child = Child(request["module"], tree, request["tests"], profile="unshrunk", limit=60, every=True)
            verdict = child.verdict()
            answer["failed"] = list(verdict.by)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
