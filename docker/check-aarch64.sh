#!/usr/bin/env bash
# The runtime on aarch64 against this machine, on one video: the same decisions, and how far scores differ.
#
#   docker/check-aarch64.sh MODEL.aae VIDEO [RESULT.json]
#
# Makes an arm64 Debian root from packages, puts the pinned aarch64 wheels of `edge-aae[camera,cpu]` there, and runs
# `edge-aae run` in it under qemu's user emulation. Needs root, mmdebstrap, qemu-user-static, and a Python 3.11 that has
# edge-aae as PYTHON (default .venv/bin/python). No Docker, no binfmt_misc.
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
model="$(realpath "${1:?name a bundle}")" video="$(realpath "${2:?name a video}")" result="${3:-}"
python="${PYTHON:-$here/.venv/bin/python}"
for tool in mmdebstrap qemu-aarch64-static; do
    command -v "$tool" > /dev/null || { echo "needs $tool: apt-get install mmdebstrap qemu-user-static" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "needs root, for chroot" >&2; exit 2; }
[ "$(uname -m)" != aarch64 ] || { echo "this machine is aarch64 itself: run the tests on it" >&2; exit 2; }

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
root="$work/root"
# extract: packages are unpacked and none of their scripts run, so that nothing foreign has to be executed yet.
mmdebstrap --quiet --architectures=arm64 --variant=extract --include=python3,libstdc++6,libgcc-s1 bookworm "$root"
cp "$(command -v qemu-aarch64-static)" "$root/usr/bin/"
mkdir -p "$root/proc" "$root/tmp" "$root/opt/work"
# bookworm has Python 3.11 and glibc 2.36; -S below keeps its own packages out of the way.
"$python" -m pip install --quiet --disable-pip-version-check --constraint "$here/constraints.txt" \
    --only-binary=:all: --implementation cp --python-version 3.11 \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 --target "$root/opt/site" \
    numpy click onnxruntime opencv-python-headless
cp -r "$here/edge_aae" "$here/edge_runtime" "$root/opt/site/"
cp "$model" "$root/opt/work/model.aae"
cp "$video" "$root/opt/work/"
name="$(basename "$video")"

emulated() {
    # A mount namespace of its own: /proc goes with it.
    unshare --mount --fork sh -c 'mount -t proc proc "$1/proc"; root="$1"; shift; exec chroot "$root" "$@"' sh "$root" \
        /usr/bin/qemu-aarch64-static -E PYTHONPATH=/opt/site -E PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$@"
}
emulated -c 'import platform; print("emulated:", platform.machine(), platform.python_version())' >&2
emulated -m edge_aae run --source "/opt/work/$name" --model /opt/work/model.aae > "$work/aarch64.jsonl"
"$python" -m edge_aae run --source "$video" --model "$model" > "$work/here.jsonl"
"$python" "$here/docker/compare_records.py" "$work/here.jsonl" "$work/aarch64.jsonl" ${result:+--json "$result"}
