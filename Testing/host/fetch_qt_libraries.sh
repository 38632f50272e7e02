#!/bin/sh
# Qt's wheels expect a desktop's graphics and font libraries. On a bare Debian or Ubuntu this puts them into a folder
# of ours: no root, nothing installed. Prints the make variables that let Qt find them.
# Usage: fetch_qt_libraries.sh FOLDER
set -eu
target=$1
packages="libegl1 libgl1 libx11-6 libdbus-1-3 libfontconfig1 libfreetype6 libglib2.0-0 libxkbcommon0 fonts-dejavu-core"
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "Qt needs libEGL, libGL, libX11, libdbus, libfontconfig, libfreetype, libglib and libxkbcommon; install them." >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
apt() {
    apt-get -qq -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" -o Dir::State="$work/state" \
        -o Dir::State::status=/var/lib/dpkg/status -o Dir::Cache="$work/cache" "$@"
}
apt update
# shellcheck disable=SC2086
apt install --yes --no-install-recommends --download-only $packages >/dev/null
rm -rf "$target"
mkdir -p "$target"
for package in "$work"/cache/archives/*.deb; do
    case $package in *mesa* | *llvm* | *z3*) continue ;; esac # drivers: nothing is drawn with OpenGL
    dpkg-deb -x "$package" "$target"
done
target=$(cd "$target" && pwd)
printf '<fontconfig><dir>%s/usr/share/fonts</dir><cachedir>%s/fontcache</cachedir></fontconfig>\n' \
    "$target" "$target" >"$target/fonts.conf"
libraries=$(printf '%s:' "$target"/usr/lib/*-linux-gnu "$target"/lib/*-linux-gnu)
printf 'export LD_LIBRARY_PATH := %s$(LD_LIBRARY_PATH)\nexport FONTCONFIG_FILE := %s/fonts.conf\n' "$libraries" "$target"
