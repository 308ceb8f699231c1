#!/bin/sh
# Collects what programs need to run by themselves: docker/gather.sh TARGET PROGRAM...
#
#   TARGET/system   the programs, the libraries that they are linked to, a user, certificate authorities
#   TARGET/owned    the folders that this user may write to, as volumes are mounted there: an empty volume takes over who owns them
#
# It runs within the first stage of an image and needs a shell and the C library's loader only. At its end each program is
# started from what was collected, so that a binary of another system fails here and not on a Sunday.
set -eu

target=$1
shift
system=$target/system
mkdir -p "$system/etc/ssl/certs" "$system/tmp"
chmod 1777 "$system/tmp"
for folder in data join var/lib/etcd; do
    mkdir -p "$target/owned/$folder"
    chmod 700 "$target/owned/$folder"
done

loader=
for candidate in /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.*; do
    if [ -e "$candidate" ]; then loader=$candidate; fi
done
[ -n "$loader" ] || { echo "gather: no loader of the C library in this image" >&2; exit 1; }

put() { # put FILE: under its own path; what a link leads to is copied in its place
    mkdir -p "$system$(dirname "$1")"
    [ -e "$system$1" ] || cp -L "$1" "$system$1"
}

put "$loader"
for program in "$@"; do
    put "$program"
    chmod 755 "$system$program"
    for library in $("$loader" --list "$program" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p'); do put "$library"; done
done

printf 'dstore:x:65532:65532:dStore:/data:/nonexistent\n' >"$system/etc/passwd"
printf 'dstore:x:65532:\n' >"$system/etc/group"
printf 'hosts: files dns\n' >"$system/etc/nsswitch.conf"
# For sinks of reporting that speak TLS.
authorities=/etc/ssl/certs/ca-certificates.crt
if [ ! -e $authorities ] && command -v apt-get >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates
fi
if [ -e $authorities ]; then put $authorities; fi

for program in "$@"; do
    chroot "$system" "$program" --version >/dev/null 2>&1 || chroot "$system" "$program" version >/dev/null
done
