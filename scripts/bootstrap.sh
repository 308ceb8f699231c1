#!/bin/sh
# Installs what a Debian machine lacks for building, testing or measuring dStore.
#
#   scripts/bootstrap.sh [build] [test] [bench] [swarm]
#
#   build   a C compiler (SQLite is compiled in), make, and protoc with its standard types (etcd's client)
#   test    etcd and etcdctl, because the coordinator is tested against the real one and restored from its
#           snapshot, and curl, which the tutorial uses; ip, tc and iptables, for networks of the tests' own;
#           PostgreSQL, into which reporting exports; python3, and AWS's clients for it in target/clients, with
#           which the DynamoDB door is tried
#   bench   PostgreSQL and Redis, the peers of `make bench`, and in target/peers and peers-rust those of its part
#           `dynamodb`: moto and dynoxide
#   swarm   what scripts/swarm.sh uses beside the Docker Engine, which it does not install
#
# It looks for what it needs before it asks the package manager, so that a second run takes no time and
# a machine where everything was put by other means is left alone. Installed services are not started.
set -eu

missing=""
need() { # need PACKAGE TEST...: adds PACKAGE where the test fails
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
has_command() { command -v "$1"; }
has_admin_command() { command -v "$1" || ls "/usr/sbin/$1" "/sbin/$1"; }
has_c_library() { printf '#include <stdio.h>\nint main(void){return 0;}\n' | cc -x c - -o /dev/null; }
has_proto_types() {
    for folder in /usr/include /usr/local/include "${PROTOC_INCLUDE:-/nowhere}" "$(dirname "$(command -v protoc || echo /nowhere/bin/protoc)")/../include"; do
        [ -e "$folder/google/protobuf/struct.proto" ] && return 0
    done
    return 1
}
has_environments() { python3 -c 'import ensurepip, venv'; }
has_postgres() { command -v postgres || ls /usr/lib/postgresql/*/bin/postgres; }

root=$(cd "$(dirname "$0")/.." && pwd)
environments=""
environment() { # environment NAME LIST: Python packages in target/NAME, made anew where the list has changed
    folder=$root/target/$1
    if cmp -s "$root/$2" "$folder/list"; then return 0; fi
    echo "bootstrap: installing what $2 lists into target/$1 (pip)" >&2
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$root/$2" >&2
    cp "$root/$2" "$folder/list"
}
dynoxide() {
    echo "bootstrap: building dynoxide into target/peers-rust (cargo install)" >&2
    cargo install --quiet --locked --root "$root/target/peers-rust" --version 3.2.0 --no-default-features \
        --features native-sqlite,http-server,cli dynoxide-rs >&2
}
finish() { # what comes behind the packages of the system
    for name in $environments; do
        case $name in
        clients) environment clients tests/dynamodb/requirements.txt ;;
        peers)
            environment peers bench/requirements.txt
            [ -x "$root/target/peers-rust/bin/dynoxide" ] || dynoxide
            ;;
        esac
    done
}

[ $# -gt 0 ] || set -- build
for part in "$@"; do
    case $part in
    build)
        need gcc has_command cc
        need libc6-dev has_c_library
        need make has_command make
        if [ -z "${PROTOC:-}" ]; then need protobuf-compiler has_command protoc; fi
        need libprotobuf-dev has_proto_types
        ;;
    test)
        need etcd-server has_command etcd
        need etcd-client has_command etcdctl
        need curl has_command curl
        need iproute2 has_admin_command ip
        need iptables has_admin_command iptables
        need postgresql has_postgres
        need python3 has_command python3
        need python3-venv has_environments
        environments="$environments clients"
        ;;
    bench)
        need postgresql has_postgres
        need python3 has_command python3
        need python3-venv has_environments
        environments="$environments peers"
        need redis-server has_command redis-server
        ;;
    swarm)
        need openssl has_command openssl
        need curl has_command curl
        ;;
    *)
        echo "bootstrap: unknown part '$part'; there are build, test, bench and swarm" >&2
        exit 2
        ;;
    esac
done

if ! command -v cargo >/dev/null 2>&1 && [ "$*" != swarm ]; then
    echo "bootstrap: no cargo on the PATH. Install a Rust toolchain first: https://rustup.rs" >&2
    exit 1
fi
if [ -z "$missing" ]; then
    finish
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "bootstrap: missing:$missing (Debian's names). This is no Debian; install their like and run again." >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root="sudo"
else
    echo "bootstrap: missing:$missing. Installing needs root, and there is no sudo that works here." >&2
    echo "bootstrap: ask an administrator to run: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

# Debian starts a service as soon as it is installed. Nobody asked for an etcd or PostgreSQL that runs all day
# beside the tests, so the packages' own switch for that (policy-rc.d) says no while they are unpacked.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
echo "bootstrap: installing$missing (apt-get; their services are not started)" >&2
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
# shellcheck disable=SC2086 # a list of packages, meant to be split
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
finish
echo "bootstrap: done" >&2
