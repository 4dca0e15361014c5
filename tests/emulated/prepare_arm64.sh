#!/bin/sh
# Makes out/arm64: everything that runs both programs as on an arm64 machine, by emulation.
#
#   out/arm64/root    Debian's arm64 packages: Python, the C library, what the C++ runner links
#   out/arm64/site    arm64 wheels of what the runtime needs
#   out/arm64/host    this machine's emulator and cross compiler, where they are not installed
#   out/arm64/build   the C++ runner, cross-built
#   out/arm64/bin     python3, patchcore_infer, dump_preprocess: they run emulated
#
# Nothing is installed, and root is not needed. A second run makes only what is missing. Packages
# come through the machine's own apt and pip configuration.
set -eu

repository=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
place="$repository/out/arm64"
python="$repository/.venv/bin/python"
# Debian 12's qemu 7.2 crashes while it imports onnxruntime 1.28 and newer.
onnxruntime=1.27.0
libraries="python3 libstdc++-12-dev libjpeg-dev libpng-dev libssl-dev nlohmann-json3-dev"
libraries="$libraries libcli11-dev libhnswlib-dev catch2"

refuse() {
  echo "prepare_arm64.sh: $*" >&2
  exit 1
}

[ "$(uname -m)" = x86_64 ] || refuse "expected an x86-64 machine, got $(uname -m)"
command -v apt-get >/dev/null || refuse "expected Debian's apt-get, which fetches arm64 packages"
. /etc/os-release
[ "${VERSION_CODENAME:-}" = bookworm ] ||
  refuse "expected Debian 12 (its Python 3.11 and qemu 7.2), got ${PRETTY_NAME:-another system}"
[ -x "$python" ] || refuse "$python: no such program; run it as make arm64"

# apt-get for one architecture, with package lists and a cache of its own.
apt_for() {
  architecture=$1
  shift
  apt="$place/apt-$architecture"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  apt-get -qq -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" \
    -o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt/cache" -o Debug::NoLocking=true \
    -o APT::Sandbox::User=root "$@"
}

# Downloads packages and what they depend on, and unpacks them into a folder.
#   unpack ARCHITECTURE FOLDER STATUS PACKAGES...   STATUS lists what is installed already
unpack() {
  architecture=$1 folder=$2 status=$3
  shift 3
  apt_for "$architecture" update || echo "some package lists are not available"
  apt_for "$architecture" -o Dir::State::status="$status" -y --no-install-recommends \
    --download-only install "$@" || refuse "apt-get cannot download: $*"
  mkdir -p "$folder.new"
  for package in "$place/apt-$architecture/cache/archives"/*.deb; do
    case "$package" in
      *'*.deb') ;;                         # all of them are installed
      */*libc6*-cross_*) ;;                # the C library is that of out/arm64/root
      */linux-libc-dev-*-cross_*) ;;
      *) dpkg -x "$package" "$folder.new" ;;
    esac
  done
  mv "$folder.new" "$folder"
}

mkdir -p "$place/bin"
: >"$place/nothing-installed"
[ -d "$place/root" ] ||
  # shellcheck disable=SC2086
  unpack arm64 "$place/root" "$place/nothing-installed" $libraries
[ -d "$place/host" ] ||
  unpack amd64 "$place/host" /var/lib/dpkg/status qemu-user-static g++-aarch64-linux-gnu

if [ ! -d "$place/site" ]; then
  wheels="--quiet --only-binary :all: --python-version 3.11 --implementation cp"
  wheels="$wheels --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64"
  wheels="$wheels --platform manylinux_2_17_aarch64"
  # onnxruntime's own requirements serve its tools; the runtime imports none of them.
  # shellcheck disable=SC2086
  "$python" -m pip install $wheels --target "$place/site.new" numpy pillow
  # shellcheck disable=SC2086
  "$python" -m pip install $wheels --target "$place/site.new" --no-deps "onnxruntime==$onnxruntime"
  mv "$place/site.new" "$place/site"
fi

PATH="$place/host/usr/bin:$PATH"
export PATH
qemu=$(command -v qemu-aarch64-static) || refuse "qemu-aarch64-static: not found"

# A command of out/arm64/bin that runs one arm64 program. qemu's SVE is off: it is slow, and its
# 7.2 computes some of it wrongly.
emulated() {
  printf '#!/bin/sh\n%s\nexec "%s" -cpu max,sve=off -L "%s" "%s" "$@"\n' \
    "${3:-}" "$qemu" "$place/root" "$2" >"$place/bin/$1.new"
  chmod 755 "$place/bin/$1.new"
  mv "$place/bin/$1.new" "$place/bin/$1"
}

emulated python3 "$place/root/usr/bin/python3.11" \
  "export PYTHONPATH='$place/site:$repository/runtime' PYTHONDONTWRITEBYTECODE=1"

# The cross compiler's own libraries, where it is not installed.
LD_LIBRARY_PATH="$place/host/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
cmake -S "$repository/ascend310_infer" -B "$place/build" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_TOOLCHAIN_FILE="$repository/tests/emulated/arm64.cmake" -DARM64="$place" \
  -DONNXRUNTIME_LIBRARY="$place/site/onnxruntime/capi/libonnxruntime.so.$onnxruntime" \
  >"$place/build.log" 2>&1 &&
  cmake --build "$place/build" --parallel 2 --target patchcore_infer dump_preprocess \
    >>"$place/build.log" 2>&1 ||
  refuse "the cross build failed: $(grep -m 1 -i error "$place/build.log"); see $place/build.log"
emulated patchcore_infer "$place/build/patchcore_infer"
emulated dump_preprocess "$place/build/tests/dump_preprocess"
