#!/usr/bin/env bash
# kill -9 at 20 random moments, then the same command: the same student, bit for bit.
set -euo pipefail
cd "$(dirname "$0")/../.."
{ python -c "import json; from docstill.deploy.hardware import hardware; print(json.dumps(hardware()))"
  pytest -m slow tests/test_compression.py -q | grep -v Writing; } | tee benchmarks/resume/output.txt
