"""How long `import scoremux_client` takes in a fresh interpreter, over an interpreter that imports nothing.

python -m benchmarks.client_import
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.provenance import record
from benchmarks.timing import interleave

COMMAND = "python -m benchmarks.client_import"
ROUNDS = 15


def main() -> None:
    works = {
        name: lambda code=code: subprocess.run([sys.executable, "-c", code], check=True)
        for name, code in (("nothing", "pass"), ("scoremux_client", "import scoremux_client"))
    }
    timings = interleave(works, ROUNDS, warm_up=2)
    import_s = timings["scoremux_client"].median_s - timings["nothing"].median_s
    print(f"import scoremux_client: {import_s:.3f} s, spread {timings['scoremux_client'].spread:.2f}")
    record(
        "client_import", COMMAND, {"rounds": ROUNDS, "import_s": import_s, "spread": timings["scoremux_client"].spread}
    )


if __name__ == "__main__":
    main()
