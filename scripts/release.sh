#!/bin/bash
# Builds what is handed out, into dist/: the stripped binary (fat LTO, one codegen unit: the release profile), a Debian
# package with a systemd unit, and SHA-256 checksums of both. File times are the commit's, so that one commit gives
# one package, wherever it is built with the same toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --locked --release --bin dstore
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
architecture=$(dpkg --print-architecture 2>/dev/null || uname -m)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

mkdir -p dist
rm -f dist/dstore-"$version"-* dist/dstore_"$version"_* dist/SHA256SUMS
binary="dist/dstore-$version-linux-$architecture"
install -m 755 target/release/dstore "$binary"

if command -v dpkg-deb >/dev/null; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    install -D -m 755 "$binary" "$root/usr/bin/dstore"
    install -D -m 644 docs/dstore.example.toml "$root/usr/share/doc/dstore/dstore.example.toml"
    install -D -m 644 LICENSE "$root/usr/share/doc/dstore/copyright"
    for unit in dstore@.service dstore-control.service; do
        install -D -m 644 "scripts/packaging/$unit" "$root/lib/systemd/system/$unit"
    done
    for shell in bash:usr/share/bash-completion/completions/dstore zsh:usr/share/zsh/vendor-completions/_dstore \
        fish:usr/share/fish/vendor_completions.d/dstore.fish; do
        target="$root/${shell#*:}"
        mkdir -p "$(dirname "$target")"
        "$binary" completions "${shell%%:*}" >"$target"
    done
    install -d -m 755 "$root/DEBIAN"
    size=$(du -sk --exclude=DEBIAN "$root" | cut -f1)
    cat >"$root/DEBIAN/control" <<CONTROL
Package: dstore
Version: $version
Architecture: $architecture
Section: database
Priority: optional
Maintainer: The dStore authors <dstore@localhost>
Installed-Size: $size
Depends: libc6, adduser
Description: federated, multi-tenant, encrypted, distributed key/value store
 One binary for every role: proxy, node, control, reporting, and all of them in
 one process for development. Settings: /etc/dstore/ROLE.toml, then
 systemctl enable --now dstore@ROLE.
CONTROL
    install -m 755 scripts/packaging/postinst "$root/DEBIAN/postinst"
    find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group --build "$root" "dist/dstore_${version}_$architecture.deb" >/dev/null
else
    echo "release: no dpkg-deb here, so no .deb"
fi
(cd dist && sha256sum dstore-"$version"-* $(ls dstore_"$version"_*.deb 2>/dev/null) >SHA256SUMS)
ls -l dist
cat dist/SHA256SUMS
