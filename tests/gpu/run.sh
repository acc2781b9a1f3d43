#!/usr/bin/env bash
# Everything that needs a GPU, on a bare machine: a CUDA 13 driver, Python 3.12; torch, JAX and CuPy if they are there.
#
#     tests/gpu/run.sh [FOLDER-OF-WHEELS] [options of run.py]
#
# The folder (or SYMTENSOR_GPU_WHEELS) holds what the machine lacks: wheels of PyCUDA and what it needs, nvmath-python.
# They are unpacked into a temporary folder, nothing is installed. PYTHON names another interpreter than python3.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
wheels=${SYMTENSOR_GPU_WHEELS:-}
if [ $# -gt 0 ] && [ -d "$1" ]; then
    wheels=$1
    shift
fi

site=$(mktemp -d)
child=
trap 'rm -rf "$site"' EXIT
trap '[ -n "$child" ] && kill -TERM "$child" 2>/dev/null; wait; exit 143' TERM INT HUP

if [ -n "$wheels" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
        --upgrade --target "$site" "$wheels"/*.whl ||
        for wheel in "$wheels"/*.whl; do
            "$python" -m zipfile -e "$wheel" "$site" || echo "cannot be unpacked: $wheel"
        done
fi

export PYTHONPATH="$root:$root/codegen:$site${PYTHONPATH:+:$PYTHONPATH}"
"$python" "$root/tests/gpu/run.py" "$@" &
child=$!
wait "$child"
