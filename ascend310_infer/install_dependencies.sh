#!/bin/sh
# Installs the packages that a build of patchcore_infer needs on Debian, as root. A second run
# changes nothing.
#
#   install_dependencies.sh          libraries and headers, and ONNX Runtime's headers
#   install_dependencies.sh --fuzz   also clang, for the libFuzzer harnesses
#
# ONNX Runtime's library itself comes with the onnxruntime wheel in .venv. Its headers are Debian's
# package libonnxruntime-dev (Debian 13 or newer). If this machine's Debian lacks it, the package is
# fetched from Debian 13 through the machine's own sources and unpacked, not installed, into
# out/onnxruntime.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
headers="$here/../out/onnxruntime"
packages="g++ cmake ninja-build make libjpeg-dev libpng-dev nlohmann-json3-dev libssl-dev libcli11-dev"
packages="$packages libhnswlib-dev catch2"

refuse() {
  echo "install_dependencies.sh: $*" >&2
  exit 1
}

command -v apt-get >/dev/null || refuse "expected Debian's apt-get; install by hand: $packages"

# Installs those of the named packages that are missing.
install() {
  missing=""
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
      missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  [ "$(id -u)" = 0 ] || refuse "run it as root to install:$missing"
  echo "installing:$missing"
  apt-get update -qq || echo "some package lists are not available; continuing with the others"
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}

# shellcheck disable=SC2086
install $packages
if [ "${1:-}" = "--fuzz" ]; then
  install clang
  install "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev" # the sanitizers and libFuzzer
fi

if find "$headers" /usr/include -name onnxruntime_cxx_api.h 2>/dev/null | grep -q .; then
  echo "ONNX Runtime's headers are installed"
  exit 0
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch" # apt fetches as its own user
mkdir -p "$scratch/lists/partial" "$scratch/sources" "$scratch/deb"

# The machine's own Debian sources, with its release replaced by Debian 13's.
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$codename" ] ||
  refuse "/etc/os-release: VERSION_CODENAME: missing; install libonnxruntime-dev"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
  [ -f "$file" ] || continue
  case "$file" in *.list | *.sources) ;; *) continue ;; esac
  # Only archives of Debian itself: the others name the release in their own way.
  grep -Eq "(^|[[:space:]])$codename([[:space:]]|\$)" "$file" || continue
  sed -E "s/(^|[[:space:]])$codename([[:space:]-]|\$)/\\1trixie\\2/g" "$file" \
    >"$scratch/sources/$(basename "$file")"
done
apt_trixie() {
  apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$scratch/sources" \
    -o Dir::State::lists="$scratch/lists" -o Dir::Cache="$scratch" -o APT::Sandbox::User=root "$@"
}
echo "fetching ONNX Runtime's headers (Debian 13, libonnxruntime-dev)"
apt_trixie update || echo "some package lists are not available; continuing with the others"
(cd "$scratch/deb" && apt_trixie download libonnxruntime-dev) ||
  refuse "libonnxruntime-dev is not available; pass -DONNXRUNTIME_INCLUDE_DIR=DIR to cmake"
mkdir -p "$headers"
dpkg -x "$scratch"/deb/*.deb "$headers"
echo "unpacked into $headers"
