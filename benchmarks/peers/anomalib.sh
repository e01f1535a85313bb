#!/bin/sh
# Makes an environment with anomalib in FOLDER, apart from the project's own: about 2 GB on disk with the CPU build of
# PyTorch. Where a CPU build is to be had under another index, name it: PIP_EXTRA_INDEX_URL=... anomalib.sh FOLDER
#
#     benchmarks/peers/anomalib.sh /path/of/anomalib-venv
#     python -m benchmarks.industrial.real_sets ... --peers anomalib-padim --anomalib /path/of/anomalib-venv/bin/python
#
# On x86-64 the package index has torchvision built for CUDA alone. Beside a CPU build of PyTorch it comes without its
# compiled operators; PatchCore and PaDiM call none of them, and benchmarks/peers/anomalib_models.py lets it import.
set -eu
if [ $# -ne 1 ]; then
    echo "usage: $0 FOLDER" >&2
    exit 2
fi
here=$(dirname "$0")
"${PYTHON:-python3}" -m venv "$1"
"$1/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 torchvision==0.28.0 --requirement "$here/anomalib.txt"
"$1/bin/python" -c 'from importlib.metadata import version; print("anomalib", version("anomalib"))'
