#!/usr/bin/env bash
# bench/gpu.sh [FOLDER]: builds, tests and times everything on this machine's GPU in under 9 minutes.
# FOLDER (default bench/results) gets gpu.json, all figures and how each step ended, and gpu.txt, the same to read.
set -uo pipefail
out=${1:-$(dirname "$0")/results}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
steps=$(mktemp)
export PYTHONUNBUFFERED=1 PYTEST_ADDOPTS="-p no:cacheprovider"

# step NAME SECONDS COMMAND...: runs it for at most so long, keeps its output in NAME.log and how it ended
step() {
  local name=$1 limit=$2 begin=$SECONDS
  shift 2
  timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1
  echo "$name $? $((SECONDS - begin))" >>"$steps"
  tail -n 1 "$steps"
  tail -n 4 "$out/$name.log"
}

workers=$("$python" -c "import xdist" 2>/dev/null && echo "-n 12")
step build 150 "$python" -m pip install --quiet --no-build-isolation --no-deps -e .
# what needs no GPU runs anywhere
step tests 170 "$python" -m pytest -q $workers tests -k "triton or cuda or gpu" -m "not slow" \
  --deselect tests/test_triton.py --deselect tests/test_cuda_sources.py
if command -v compute-sanitizer >/dev/null; then
  step sanitizer 60 compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$python" -m pangu_ops.cli check --backend triton moge_gating moge_dispatch moge_combine rms_norm
  step sanitizer-cuda 30 compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$python" -m pangu_ops.cli check --backend cuda moge_gating moge_dispatch spec_verify
fi
step bench 120 "$python" -m pangu_ops.cli bench --device cuda --json "$out/gpu.json"

"$python" - "$steps" "$out" <<'END'
import json, pathlib, sys
steps, out = [line.split() for line in open(sys.argv[1])], pathlib.Path(sys.argv[2])
file = out / "gpu.json"
results = json.loads(file.read_text()) if file.exists() else {"machine": "no figures", "figures": {}}
results["steps"] = {name: {"status": int(status), "seconds": int(seconds)} for name, status, seconds in steps}
file.write_text(json.dumps(results, indent=1) + "\n")
lines = [f"{name:16} {'ok' if status == '0' else 'ended with ' + status:16} {seconds} s" for name, status, seconds in steps]
(out / "gpu.txt").write_text("\n".join(lines) + "\n\n" + (out / "bench.log").read_text())
END
cat "$out/gpu.txt"
! grep -qv ' 0 [0-9]*$' "$steps"
