#!/usr/bin/env bash
# The whole runs: second-kitti in every number format on sm_80 and sm_90, each recorded and played again, then outgrown by
# a larger scan, an empty one and another; and 256 layers of odd widths. Prints lines of results; exit code 1 where
# anything differs. PYTHON=... names the interpreter. Long: half an hour to hours, by what else the machine does.
set -u
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
failed=0
run() {
  local begin=$SECONDS
  "$PYTHON" tests/ptxsim/run.py "$@" || failed=1
  echo "== $*: $((SECONDS - begin)) s"
}
for cc in 80 90; do
  for dtype in float32 tf32 float16 bfloat16; do
    run frame "second-kitti:$dtype:kitti" --then full,empty,street0 --cc "$cc"
  done
  run ops --cc "$cc"
done
exit "$failed"
