#!/bin/bash
# A cluster of dStore in Docker, by one command: docker/swarm.yml on this host, and everything that it needs.
#
#   scripts/swarm.sh up                     images, a swarm, secrets, the stack; waits until it serves and says how to ask it
#   scripts/swarm.sh down                   removes all that `up` made, data included
#   scripts/swarm.sh update IMAGE [NAME...] another image for every member, one after the other, while the cluster serves
#   scripts/swarm.sh stop|start NAME...     members by their names in docker/swarm.yml, as in: stop etcd-2 control-1
#   scripts/swarm.sh control ARGUMENT...    the admin CLI, as in: control node list
#   scripts/swarm.sh backup FOLDER          copies of all volumes of this host, etcd's snapshot and a new recovery file
#   scripts/swarm.sh restore FOLDER         a cluster from such a backup, where there is none; the passphrases lie in dstore-swarm
#   scripts/swarm.sh images                 only the images
#   scripts/swarm.sh deploy                 what docker/swarm.yml says by now: all services that differ from it start anew at once
#
# How a cluster comes to its secrets: keys, passphrases and certificates are drawn first and become swarm secrets; a first deployment starts
# etcd alone; `dstore control init` makes the cluster in it and invites every member; the join tokens become secrets;
# a second deployment starts everybody. Each step looks for what is there, so that `up` again changes nothing; it starts
# what was stopped, and deploys nothing to a cluster that is there. What a person has to
# keep, and nothing else, stays in the folder dstore-swarm: the root token, the authority, the recovery file and its passphrase.
#
# Images: with a registry, dStore's is built from the official ones (docker/Dockerfile); without one, the base comes
# from Debian's packages, by this host's own apt with whatever sources and proxies it has, and the binary from this host's
# compiler (or DSTORE_BINARY). etcd is Debian's, unless ETCD_IMAGE names another image, as the etcd project's own, which lies in a registry
# of its choice. Nothing of where packages come from is written into an image.
#
# What was made is noted in dstore-swarm/made, a line each, and `down` removes that: a swarm, labels and images that were there before stay.
# A stack of this name that is not noted there belongs to somebody else: `up` does not take it over, and `down` leaves it alone.
#
# Where the Engine has no overlay networks, the same services stand in bridge networks, started by docker compose from the same
# file (`DSTORE_NETWORKS=bridge` asks for that). Secrets are then files of this host, and nothing spreads over several hosts.
#
# DSTORE_STACK (dstore), DSTORE_PORT_1 (8080), DSTORE_PORT_2 (8180), DSTORE_ADVERTISE (127.0.0.1: this host alone; for more hosts its
# address in their network), DSTORE_NAMES (more names for the clients' certificate, with commas), DSTORE_IMAGE and ETCD_IMAGE (ready
# images), DSTORE_BINARY (a ready binary), DSTORE_SWARM_FOLDER (dstore-swarm).
set -euo pipefail
umask 077
cd "$(dirname "$0")/.."

export DSTORE_STACK=${DSTORE_STACK:-dstore}
export DSTORE_PORT_1=${DSTORE_PORT_1:-8080} DSTORE_PORT_2=${DSTORE_PORT_2:-8180}
stack=$DSTORE_STACK
folder=${DSTORE_SWARM_FOLDER:-dstore-swarm}
# As they were given to this call, whatever the folder remembers.
given_image=${DSTORE_IMAGE:-} given_etcd_image=${ETCD_IMAGE:-}
official_base=debian:bookworm-slim
etcds="etcd-1 etcd-2 etcd-3"
nodes="node-a node-b node-c"
# In the order in which they are updated: control first, then those who store, then those in front.
members="control-1 control-2 $nodes proxy-1 proxy-2 reporting"
invited="node=node-a node=node-b node=node-c proxy=proxy-1 proxy=proxy-2 reporter=reporting"
tokens="join-node-a join-node-b join-node-c join-proxy-1 join-proxy-2 join-reporting"
# By swarm, and by compose.
stack_label=com.docker.stack.namespace project_label=com.docker.compose.project

say() { echo "swarm: $*" >&2; }
fail() {
    say "$*"
    exit 1
}
quiet() { "$@" >/dev/null 2>&1; }

# logged WHAT COMMAND...: what the command says goes into the log; where it fails, the end of that is told, and this ends.
logged() {
    local what=$1
    shift
    "$@" >"$folder/log" 2>&1 || fail "$what has failed. The end of $folder/log:
$(tail -n 20 "$folder/log")"
}

# The folder of begin_secrets. Whatever ends this script, what was drawn does not stay in it.
secrets=
leave() { if [ -n "$secrets" ]; then rm -rf "$secrets"; fi; }
trap leave EXIT

# eventually SECONDS COMMAND...: until it succeeds.
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.5
    done
}

made() { # made THING: notes that it is ours to remove
    grep -qxF "$*" "$folder/made" || echo "$*" >>"$folder/made"
}
was_made() { [ -e "$folder/made" ] && grep -qxF "$*" "$folder/made"; }
all_made() { sed -n "s/^$1 //p" "$folder/made" 2>/dev/null || true; }

open_folder() {
    [ -d "$folder" ] || install -d -m 700 "$folder"
    folder=$(cd "$folder" && pwd)
    touch "$folder/made"
    # Those of the deployment that is there win over what would be chosen now.
    # shellcheck disable=SC1091 # made by remember
    if [ -e "$folder/settings" ]; then . "$folder/settings"; fi
    stack=$DSTORE_STACK
}

remember() { # remember NAME VALUE: for later calls
    sed -i "/^export $1=/d" "$folder/settings" 2>/dev/null || true
    printf 'export %s=%q\n' "$1" "$2" >>"$folder/settings"
    export "$1=$2"
}

# ---- images

# base_from_packages NAME: a root file system of a shell, the C library, certificate authorities and etcd. Packages are unpacked and not
# configured: nothing of this image is shipped, the stages of the others only copy from it.
base_from_packages() {
    local work root package
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
        fail "without apt-get no image can be made here. Give ETCD_IMAGE (the etcd project publishes one), and DSTORE_IMAGE where no registry is reached."
    say "the base image is made from Debian's packages"
    work=$(mktemp -d)
    root=$work/root
    mkdir -p "$work/packages" "$root"/usr/{bin,sbin,lib,lib64} "$root"/{etc/ssl/certs,tmp,var}
    for link in bin sbin lib lib64; do ln -s "usr/$link" "$root/$link"; done
    for package in libc6 libgcc-s1 busybox-static ca-certificates etcd-server etcd-client; do
        (cd "$work/packages" && apt-get -o APT::Sandbox::User=root download -qq "$package") ||
            fail "apt-get download $package: are the package lists here (apt-get update)?"
    done
    for package in "$work"/packages/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$root"
    done
    for tool in $("$root/usr/bin/busybox" --list); do
        [ -e "$root/usr/bin/$tool" ] || [ -e "$root/usr/sbin/$tool" ] || ln -s busybox "$root/usr/bin/$tool"
    done
    find "$root/usr/share/ca-certificates" -name '*.crt' | LC_ALL=C sort | xargs cat >"$root/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale"
    tar --sort=name --owner=0 --group=0 --numeric-owner -C "$root" -c . | docker import - "$1" >/dev/null
    rm -rf "$work"
}

has_registry() { timeout 60 docker pull -q "$official_base" >/dev/null 2>&1; }

# Whoever has no buildx builds with the builder that is part of the Engine.
build() {
    docker build -q "$@" >/dev/null 2>&1 || DOCKER_BUILDKIT=0 docker build -q "$@" >/dev/null
    # What was only built from, which the older builder leaves behind.
    quiet docker image prune --force --filter label=dstore.stage || true
}

make_images() {
    local work binary=${DSTORE_BINARY:-} builder=$official_base registry
    # Also those that were given: the next call, in another shell, must not choose others.
    if [ -n "${DSTORE_IMAGE:-}" ]; then remember DSTORE_IMAGE "$DSTORE_IMAGE"; fi
    if [ -n "${ETCD_IMAGE:-}" ]; then remember ETCD_IMAGE "$ETCD_IMAGE"; fi
    if [ -n "${DSTORE_IMAGE:-}" ] && [ -n "${ETCD_IMAGE:-}" ]; then return; fi
    registry=no
    if has_registry; then registry=yes; fi
    if [ $registry = no ] || [ -z "${ETCD_IMAGE:-}" ]; then
        if ! quiet docker image inspect "dstore-base:$stack"; then
            base_from_packages "dstore-base:$stack"
            made image "dstore-base:$stack"
        fi
    fi
    if [ $registry = no ]; then builder=dstore-base:$stack; fi
    if [ -z "${ETCD_IMAGE:-}" ]; then
        work=$(mktemp -d)
        install -D docker/gather.sh "$work/docker/gather.sh"
        build -f docker/etcd.Dockerfile --build-arg BASE="dstore-base:$stack" -t "dstore-etcd:$stack" "$work"
        rm -rf "$work"
        made image "dstore-etcd:$stack"
        remember ETCD_IMAGE "dstore-etcd:$stack"
    fi
    if [ -z "${DSTORE_IMAGE:-}" ]; then
        if [ -z "$binary" ] && [ $registry = no ]; then
            command -v cargo >/dev/null || fail "no registry and no compiler here: give DSTORE_BINARY or DSTORE_IMAGE"
            scripts/bootstrap.sh build
            cargo build --locked --profile quick --bin dstore
            binary=target/quick/dstore
        fi
        if [ -n "$binary" ]; then
            work=$(mktemp -d)
            install -D docker/gather.sh "$work/docker/gather.sh"
            install "$binary" "$work/dstore"
            # A binary for tests is mostly symbols.
            if command -v strip >/dev/null; then strip "$work/dstore"; fi
            build -f docker/Dockerfile --build-arg BUILDER="$builder" --build-arg BINARY=dstore -t "dstore:$stack" "$work"
            rm -rf "$work"
        else
            say "building dStore from source, in the official image of Rust: some minutes"
            build -f docker/Dockerfile --build-arg COMMIT="$(git rev-parse --short=12 HEAD 2>/dev/null || true)" -t "dstore:$stack" .
        fi
        made image "dstore:$stack"
        remember DSTORE_IMAGE "dstore:$stack"
    fi
}

# ---- the swarm, or what stands for it

compose() {
    if quiet docker compose version; then docker compose "$@"; else docker-compose "$@"; fi
}

overlay_works() {
    local network=$stack-probe done=1
    quiet docker network create --driver overlay --attachable "$network" || return 1
    if quiet docker run --rm --network "$network" --entrypoint /usr/bin/dstore "$DSTORE_IMAGE" --version; then done=0; fi
    eventually 10 quiet docker network rm "$network" || true
    return $done
}

make_swarm() {
    local state address=${DSTORE_ADVERTISE:-127.0.0.1}
    if [ -n "${DSTORE_NETWORKS:-}" ]; then
        remember DSTORE_NETWORKS "$DSTORE_NETWORKS"
        return 0
    fi
    state=$(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')
    case $state in
    "active true") say "the swarm of this host is used, and left in place" ;;
    "active false") fail "this host is a worker of a swarm; run this on a manager" ;;
    *)
        if quiet docker swarm init --advertise-addr "$address" --listen-addr "$address:2377"; then
            made swarm
        else
            say "no swarm can be made on this host"
            remember DSTORE_NETWORKS bridge
            return 0
        fi
        ;;
    esac
    if overlay_works; then
        remember DSTORE_NETWORKS overlay
    else
        say "this Engine cannot do overlay networks"
        remember DSTORE_NETWORKS bridge
    fi
}

label_zones() {
    local zone node labelled
    [ "$DSTORE_NETWORKS" = overlay ] || return 0
    for zone in zone-a zone-b zone-c; do
        labelled=no
        for node in $(docker node ls -q); do
            if [ "$(docker node inspect -f "{{index .Spec.Labels \"dstore.$zone\"}}" "$node")" = yes ]; then labelled=yes; fi
        done
        [ $labelled = no ] || continue
        docker node update --label-add "dstore.$zone=yes" "$(docker info -f '{{.Swarm.NodeID}}')" >/dev/null
        made "label dstore.$zone"
    done
}

# ---- secrets

placeholder="not there yet"
secrets_are_there() {
    if [ "$DSTORE_NETWORKS" = overlay ]; then
        quiet docker secret inspect "${stack}_join-reporting.1"
    else
        # What stands for it until the cluster is made is no token.
        [ -e "$folder/secrets/join-reporting" ] && ! grep -qxF "$placeholder" "$folder/secrets/join-reporting"
    fi
}

certificate() { # certificate NAME SUBJECT EXTENSIONS: signed by etcd-ca, or by client-ca for the clients' listener
    local ca=$secrets/etcd-ca serial
    if [ "$1" = client ]; then ca=$secrets/client-ca; fi
    logged "openssl, asked for a key and a request of $1," openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" \
        -keyout "$secrets/$1-key" -out "$secrets/request"
    serial=$(openssl rand -hex 16) || fail "openssl rand has failed"
    printf '%b' "basicConstraints=critical,CA:false\n$3" >"$secrets/extensions"
    logged "openssl, asked to sign the certificate of $1," openssl x509 -req -in "$secrets/request" -CA "$ca" -CAkey "$ca.key" \
        -set_serial "0x$serial" -days 3650 -sha256 -extfile "$secrets/extensions" -out "$secrets/$1-cert"
    rm "$secrets/request" "$secrets/extensions"
}

authority() { # authority NAME SUBJECT
    logged "openssl, asked for the authority $1," openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -subj "/CN=$2" -days 3650 -sha256 -addext 'keyUsage=critical,keyCertSign,cRLSign' -keyout "$secrets/$1.key" -out "$secrets/$1"
}

# What is drawn before there is a cluster, as files named like the secrets.
draw_secrets() {
    local names=DNS:localhost,DNS:proxy-1,DNS:proxy-2,DNS:$(uname -n),IP:127.0.0.1,IP:::1 name
    for name in ${DSTORE_NAMES:+${DSTORE_NAMES//,/ }}; do
        case $name in *[!0-9.]*) names=$names,DNS:$name ;; *) names=$names,IP:$name ;; esac
    done
    openssl rand -hex 32 >"$secrets/control-key"
    # Kept for people, too: without the one nothing opens a backup of nodes, without the other nothing opens the recovery file.
    for name in keys-passphrase recovery-passphrase; do
        if [ -e "$folder/$name" ]; then continue; fi
        # Noted first: `down` removes those that were drawn, and keeps those that somebody put here.
        made "drawn $name"
        openssl rand -hex 24 >"$folder/$name"
    done
    cp "$folder/keys-passphrase" "$secrets/keys-passphrase"
    authority etcd-ca "$stack etcd"
    # Members of etcd are servers to each other and clients of each other.
    certificate etcd "$stack etcd" "extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=DNS:etcd-1,DNS:etcd-2,DNS:etcd-3,DNS:localhost"
    certificate etcd-client "$stack" "extendedKeyUsage=clientAuth"
    authority client-ca "$stack clients"
    certificate client "$stack" "extendedKeyUsage=serverAuth\nsubjectAltName=$names"
    # Whoever wants another certificate later makes another authority: these keys sign nothing more.
    rm "$secrets/etcd-ca.key" "$secrets/client-ca.key"
    cp "$secrets/client-ca" "$folder/client-ca.pem"
}

keep_secret() { # keep_secret NAME FILE: as a swarm secret
    [ "$DSTORE_NETWORKS" = overlay ] || return 0
    docker secret create --label "$stack_label=$stack" "${stack}_$1" "$2" >/dev/null
}

# ---- deployments

settings_generation() { cksum docker/dstore.toml | cut -d' ' -f1; }

# In a file for compose: bridge networks, secrets and settings as files. One line of docker/swarm.yml is one line here.
bridge_file() {
    awk -v secrets="$folder/secrets" -v settings="$PWD/docker/dstore.toml" '
        /^[a-z]/ { part = $1 }
        /^  [a-z0-9-]+:/ { entry = $1; sub(":", "", entry) }
        part == "networks:" && /driver: overlay/ { sub("overlay", "bridge") }
        part == "networks:" && /attachable:/ { next }
        part == "secrets:" && /external: true/ { print "    file: " secrets "/" entry; next }
        part == "secrets:" && /name:/ { next }
        part == "configs:" { next }
        /^  configs:/ { next }
        /^    volumes: \["/ { sub(/volumes: \["/, "&" settings ":/etc/dstore/dstore.toml:ro\", \"") }
        { print }' docker/swarm.yml
}

# deploy MEMBERS JOIN: MEMBERS is 0 for etcd alone, JOIN the generation of join tokens.
deploy() {
    export DSTORE_MEMBERS=$1 DSTORE_JOIN=$2 DSTORE_SETTINGS
    DSTORE_SETTINGS=$(settings_generation)
    if [ "$DSTORE_NETWORKS" = overlay ]; then
        docker stack deploy --resolve-image "${DSTORE_RESOLVE:-never}" -c docker/swarm.yml "$stack" >"$folder/log" 2>&1 ||
            fail "docker stack deploy: $(cat "$folder/log")"
        return
    fi
    bridge_file >"$folder/bridge.yml"
    # Members start with compose when their tokens are there; a file that is missing would become a folder.
    # shellcheck disable=SC2086,SC2046 # lists of names
    logged "docker compose up" compose -p "$stack" -f "$folder/bridge.yml" up -d \
        $(if [ "$1" = 0 ]; then echo $etcds; else echo $etcds $members; fi)
}

container() { # container NAME: the one that runs on this host
    if [ "$DSTORE_NETWORKS" = overlay ]; then
        docker ps -q --filter "label=com.docker.swarm.service.name=${stack}_$1" | head -1
    else
        docker ps -q --filter "label=$project_label=$stack" --filter "label=com.docker.compose.service=$1" | head -1
    fi
}

# inside NETWORK ARGUMENT...: the binary in a container of its own in a network of the stack, with the folder that is kept as /kept.
inside() {
    local network=${stack}_$1
    shift
    docker run --rm --network "$network" --user "$(id -u):$(id -g)" --read-only --cap-drop ALL \
        -v "$folder:/kept" -v "${secrets:-$folder}:/run/secrets:ro" -v "$PWD/docker/dstore.toml:/etc/dstore/dstore.toml:ro" \
        -e DSTORE_CONFIG=/etc/dstore/dstore.toml -e DSTORE_CLI_CONFIG=/kept/contexts.toml "$DSTORE_IMAGE" "$@"
}
control() { inside control control "$@"; }

is_ready() { # is_ready NAME: it serves; where it runs on another host, its container runs
    local id
    id=$(container "$1")
    if [ -n "$id" ]; then
        case $1 in
        etcd-*) [ "$(docker inspect -f '{{.State.Running}}' "$id")" = true ] ;;
        *) quiet docker exec "$id" /usr/bin/dstore health --ready && is_found "$id" ;;
        esac
    else
        [ "$DSTORE_NETWORKS" = overlay ] && [ "$(docker service ls --filter "name=${stack}_$1" --format '{{.Replicas}}')" = 1/1 ] &&
            [ -z "$(docker service ps -q --filter desired-state=running --filter "node=$(docker info -f '{{.Swarm.NodeID}}')" "${stack}_$1")" ]
    fi
}

# Others find a container by its name only when its health check has passed once.
is_found() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$1")" = healthy ]; }

until_ready() {
    local name
    for name in "$@"; do
        eventually "${DSTORE_WAIT:-240}" is_ready "$name" || fail "$name does not serve:
$(docker service ps --no-trunc "${stack}_$name" 2>/dev/null | head -5)
$(docker logs --tail 10 "$(container "$name")" 2>&1)"
    done
}

ours() { # ours secret|volume: the names of those of this stack
    case $1 in
    secret) [ "$DSTORE_NETWORKS" != overlay ] || docker secret ls --filter "label=$stack_label=$stack" --format '{{.Name}}' ;;
    volume)
        docker volume ls --filter "label=$stack_label=$stack" --format '{{.Name}}'
        docker volume ls --filter "label=$project_label=$stack" --format '{{.Name}}'
        ;;
    esac
}

# Secrets that are drawn, and what stands for those that the cluster makes: a secret has to be there for a service that is deployed,
# also for one that does not run yet.
begin_secrets() {
    local name
    [ -z "$(ours secret)" ] && [ ! -e "$folder/secrets" ] || fail "a cluster was half made here before: run $0 down first"
    secrets=$(mktemp -d)
    draw_secrets
    for name in etcd-ca etcd-cert etcd-key etcd-client-cert etcd-client-key client-cert client-key keys-passphrase; do
        keep_secret "$name" "$secrets/$name"
    done
    echo "$placeholder" >"$secrets/nothing"
    for name in control-key $tokens; do keep_secret "$name.0" "$secrets/nothing"; done
    for name in $tokens; do cp "$secrets/nothing" "$secrets/$name"; done
    keep_files
}

# On bridge networks there are no swarm secrets: files are what containers see.
keep_files() {
    [ "$DSTORE_NETWORKS" = bridge ] || return 0
    # All at once: with half of them a cluster would look complete, or be none.
    rm -rf "$folder/secrets.new"
    cp -r "$secrets" "$folder/secrets.new"
    protect "$folder/secrets.new"
    rm -rf "$folder/secrets"
    mv "$folder/secrets.new" "$folder/secrets"
}

end_secrets() {
    local name
    for name in control-key $tokens; do keep_secret "$name.1" "$secrets/$name"; done
    keep_files
    rm -rf "$folder/init" "$secrets"
    secrets=
}

drop_placeholders() {
    local name
    for name in $(ours secret | grep '\.0$' || true); do quiet docker secret rm "$name" || true; done
}

make_cluster() {
    local newcomer arguments=()
    begin_secrets
    for newcomer in $invited; do arguments+=(--invite "$newcomer"); done
    say "starting etcd"
    deploy 0 0
    say "making the cluster and inviting its members"
    eventually 120 make_in_etcd "${arguments[@]}" || fail "dstore control init: $(cat "$folder/log")"
    for newcomer in $invited; do
        mv "$folder/init/${newcomer#*=}.join-token" "$secrets/join-${newcomer#*=}"
    done
    mv "$folder/init/root.token" "$folder/init/authority.pem" "$folder/init/recovery.dstore" "$folder"
    end_secrets
}

protect() {
    [ "$(id -u)" = 0 ] || fail "bridge networks need root: secrets are files of the containers' user then"
    # The folder above is closed to others. What etcd reads is open to whoever the official image runs as.
    chmod 711 "$1"
    chown 65532 "$1"/*
    chmod 444 "$1"/*
    chmod 400 "$1"/{control-key,keys-passphrase,client-key,etcd-client-key} "$1"/join-*
}

# The control key is a secret of the stack and a file of this command, which makes the cluster for it.
make_in_etcd() {
    rm -rf "$folder/init" && mkdir -p "$folder/init"
    inside coordinator control init --data /kept/init --recovery-passphrase-file /kept/recovery-passphrase "$@" >"$folder/log" 2>&1
}

# A tenant to try things with, and a token that may do what it likes there and nothing elsewhere.
make_demo() {
    if was_made demo; then return 0; fi
    if [ ! -e "$folder/root.token" ]; then
        say "no tenant demo is made: there is no root.token in $folder"
        return 0
    fi
    eventually 60 quiet control login https://control:8082 --token-file /kept/root.token --authority-file /kept/authority.pem ||
        fail "control does not let the root token in"
    # Each is looked for before it is made: a call before this one may have ended anywhere in between.
    eventually 60 has_or_makes_demo || fail "the tenant demo was not made: $(cat "$folder/log")"
    # The one that was made with the cluster knows of no member yet. Before the token, with which work begins.
    export_recovery "$folder/recovery.dstore"
    rm -f "$folder/token"
    control token create developer --note "make swarm" --out /kept/token >/dev/null
    made demo
}
has_or_makes_demo() {
    quiet control tenant show demo || control tenant create demo >"$folder/log" 2>&1 || return 1
    control principal list 2>/dev/null | grep -w developer >/dev/null ||
        control principal create developer --tenant demo --may read,write,admin >"$folder/log" 2>&1
}

# Whether there is anything of a stack of this name, whoever made it: by swarm, by compose, or as volumes that a stack would find and take.
stack_is_here() {
    [ -n "$(
        docker ps -aq --filter "label=$stack_label=$stack"
        docker ps -aq --filter "label=$project_label=$stack"
        docker volume ls -q | grep "^${stack}_" || true
        docker service ls -q --filter "label=$stack_label=$stack" 2>/dev/null || true
        docker secret ls -q --filter "label=$stack_label=$stack" 2>/dev/null || true
    )" ]
}

begin() {
    # Before anything is remembered, so that another name can still be given.
    if ! was_made stack; then
        ! stack_is_here || fail "a stack $stack is here that was not made from $folder; give DSTORE_STACK another name"
        made stack
    fi
    remember DSTORE_STACK "$stack"
    remember DSTORE_PORT_1 "$DSTORE_PORT_1"
    remember DSTORE_PORT_2 "$DSTORE_PORT_2"
    make_images
    make_swarm
    label_zones
}

# Whether all services are there with what the cluster made for them. A deployment that ended half-way is done again.
is_deployed() {
    local name used
    for name in $etcds $members; do
        if [ "$DSTORE_NETWORKS" = overlay ]; then
            used=$(docker service inspect -f '{{range .Spec.TaskTemplate.ContainerSpec.Secrets}}{{.SecretName}} {{end}}' "${stack}_$name" 2>/dev/null) || return 1
            case " $used" in *" ${stack}_control-key.0 "* | *" ${stack}_join-$name.0 "*) return 1 ;; esac
        else
            [ -e "$folder/bridge.yml" ] && [ -n "$(any_container "$name")" ] || return 1
        fi
    done
}
any_container() { docker ps -aq --filter "label=$project_label=$stack" --filter "label=com.docker.compose.service=$1" | head -1; }

# Another image, deployed, would start everybody anew at once.
check_images() {
    local name wanted runs
    for name in $etcds $members; do
        case $name in
        etcd-*) wanted=$ETCD_IMAGE ;;
        *) wanted=$DSTORE_IMAGE ;;
        esac
        if [ "$DSTORE_NETWORKS" = overlay ]; then
            runs=$(docker service inspect -f '{{.Spec.TaskTemplate.ContainerSpec.Image}}' "${stack}_$name")
        else
            runs=$(docker inspect -f '{{.Config.Image}}' "$(any_container "$name")")
        fi
        # Without the digest that swarm may have added.
        [ "${runs%@*}" = "${wanted%@*}" ] || fail "$name runs $runs and not $wanted: that is for $0 update IMAGE (for etcd: docker service update, one after the other)"
    done
}
check_given() { # check_given REMEMBERED GIVEN
    [ -z "$2" ] || [ "$1" = "$2" ] || fail "this cluster was made with $1 and not $2: that is for $0 update IMAGE (for etcd: docker service update, one after the other)"
}

up() {
    quiet docker info || fail "no Docker Engine answers here. Install one (Debian: docker.io), start it, and run this again."
    scripts/bootstrap.sh swarm
    open_folder
    begin
    if ! secrets_are_there; then make_cluster; fi
    check_given "$DSTORE_IMAGE" "$given_image"
    check_given "$ETCD_IMAGE" "$given_etcd_image"
    if is_deployed; then
        check_images
        say "the cluster is here; who was stopped is started, and nothing is deployed"
        # shellcheck disable=SC2086 # lists of names
        start_members $etcds $members
    else
        say "starting control, nodes, proxies and reporting"
        deploy 1 1
        until_ready $etcds $members
    fi
    drop_placeholders
    make_demo
    local url=https://localhost:$DSTORE_PORT_1
    [ "$DSTORE_NETWORKS" = overlay ] || say "containers on bridge networks, not a swarm: this Engine cannot do overlay networks, or was not to"
    cat <<END
dStore serves at https://localhost:$DSTORE_PORT_1 and https://localhost:$DSTORE_PORT_2
END
    # A restored cluster has the tokens of the old one.
    if [ ! -e "$folder/token" ]; then return 0; fi
    cat <<END

  the tenant demo's token is in $folder/token:
  $(cat "$folder/token")

  TOKEN=\$(cat $folder/token)
  ask() { curl -sS --cacert $folder/client-ca.pem -w ' %{http_code}\n' -H "Authorization: Bearer \$TOKEN" -H "Content-Type: application/json" "\$@"; }
  ask -X PUT $url/v1/tenant/demo/table/users -d '{"id_type":"String"}'
  ask -X PUT $url/v1/tenant/demo/table/users/id/ada -d '{"name":"Ada"}'
  ask $url/v1/tenant/demo/table/users/id/ada

Administer it: scripts/swarm.sh control status. Keep recovery.dstore, recovery-passphrase and keys-passphrase of
$folder elsewhere: without them nothing opens a backup. make swarm-down removes all of it, data included.
END
}

# ---- afterwards

stop_members() {
    local name
    for name in "$@"; do
        if [ "$DSTORE_NETWORKS" = overlay ]; then
            docker service scale --detach=true "${stack}_$name=0" >/dev/null
        else
            logged "docker compose stop $name" compose -p "$stack" -f "$folder/bridge.yml" stop "$name"
        fi
    done
    for name in "$@"; do eventually 120 is_stopped "$name" || fail "$name does not stop"; done
}
is_stopped() { [ -z "$(container "$1")" ]; }

start_members() {
    local name
    for name in "$@"; do
        if [ "$DSTORE_NETWORKS" = overlay ]; then
            docker service scale --detach=true "${stack}_$name=1" >/dev/null
        else
            logged "docker compose start $name" compose -p "$stack" -f "$folder/bridge.yml" start "$name"
        fi
    done
    until_ready "$@"
}

all_caught_up() {
    local status
    status=$(control --output json status 2>/dev/null) || return 1
    for number in ranges_under_replicated ranges_unavailable ranges_changing; do
        case $status in *"\"$number\":0"[,}]*) ;; *) return 1 ;; esac
    done
}

update() {
    local name image=$1
    shift
    [ $# -gt 0 ] || set -- $members
    quiet docker image inspect "$image" || docker pull -q "$image" >/dev/null
    remember DSTORE_IMAGE "$image"
    export ETCD_IMAGE
    if [ "$DSTORE_NETWORKS" = bridge ]; then bridge_file >"$folder/bridge.yml"; fi
    for name in "$@"; do
        case $name in node-*)
            eventually 300 all_caught_up || fail "copies of ranges are missing or behind; $name was not touched"
            # Others lead its ranges before it stops, and for a while after it is back.
            control node hand-over "$name" >/dev/null
            ;;
        esac
        say "updating $name"
        if [ "$DSTORE_NETWORKS" = overlay ]; then
            docker service update --quiet --detach=true --no-resolve-image --image "$image" "${stack}_$name" >/dev/null
        else
            DSTORE_MEMBERS=1 DSTORE_JOIN=1 logged "docker compose up $name" \
                compose -p "$stack" -f "$folder/bridge.yml" up -d --no-deps "$name"
        fi
        eventually "${DSTORE_WAIT:-240}" runs_image "$name" "$image" || fail "$name does not run $image: $(docker service ps --no-trunc "${stack}_$name" 2>&1 | head -4)"
        until_ready "$name"
        case $name in node-*) control node status "$name" okay >/dev/null ;; esac
    done
    eventually 300 all_caught_up || fail "all run $image, and copies of ranges are missing or behind"
}

runs_image() {
    local id
    id=$(container "$1")
    if [ -n "$id" ]; then
        [ "$(docker inspect -f '{{.Image}}' "$id")" = "$(docker image inspect -f '{{.Id}}' "$2")" ]
    else
        [ "$DSTORE_NETWORKS" = overlay ] && [ "$(docker service inspect -f '{{.UpdateStatus.State}}' "${stack}_$1")" = completed ]
    fi
}

# Etcd's snapshot first: nodes believe a coordinator that is as old as their disks or older. Nothing stops meanwhile.
backup() {
    local target=${1%/} final name away=
    # Under its name stands a backup that is complete, and never one over another.
    [ ! -e "$target" ] || fail "$target is there already; give a name that is not"
    [ ! -e "$target.partial" ] || fail "a backup before this one has not ended: remove $target.partial, and run this again"
    install -d -m 700 "$target.partial"
    target=$(cd "$target.partial" && pwd)
    final=${target%.partial}
    name=$(first_running $etcds) || fail "no member of etcd runs on this host"
    docker exec -e ETCDCTL_API=3 "$(container "$name")" etcdctl --endpoints https://localhost:2379 --cacert /run/secrets/etcd-ca \
        --cert /run/secrets/etcd-cert --key /run/secrets/etcd-key snapshot save /var/lib/etcd/snapshot >"$folder/log" 2>&1 || fail "etcdctl snapshot save: $(cat "$folder/log")"
    docker cp -q "$(container "$name"):/var/lib/etcd/snapshot" "$target/etcd.snapshot"
    for name in $nodes proxy-1 proxy-2 reporting; do
        if ! quiet docker volume inspect "${stack}_$name"; then
            away="$away $name"
            continue
        fi
        # As root without rights but to read: what is copied belongs to the user of the image, and so does the copy.
        mkdir "$target/$name"
        docker run --rm --network none --user 0 --read-only --cap-drop ALL --cap-add DAC_OVERRIDE --cap-add CHOWN \
            -v "${stack}_$name:/from:ro" -v "$target:/to" "$DSTORE_IMAGE" copy /from "/to/$name" >"$folder/log" 2>&1 || fail "$name: $(cat "$folder/log")"
    done
    export_recovery "$target/recovery.dstore"
    mv "$target" "$final"
    say "$final has everything of this host but the passphrases: keep recovery-passphrase and keys-passphrase of $folder elsewhere"
    [ -z "$away" ] || say "NOT in it, since their volumes are on other hosts:$away. Copy them there (dstore copy), and put them beside the others of $final"
}

# What was made since, members and tenants, is in the new file and not in the one before.
export_recovery() {
    local id name
    name=$(first_running control-1 control-2) || fail "control does not run on this host: export the recovery file on the one where it does"
    id=$(container "$name")
    docker exec -i "$id" /usr/bin/dstore control recovery export --file "/data/recovery.$$" --passphrase-file - \
        <"$folder/recovery-passphrase" >"$folder/log" 2>&1 || fail "dstore control recovery export: $(cat "$folder/log")"
    docker cp -q "$id:/data/recovery.$$" "$1.new"
    # Nothing within the container could remove it; as root this can.
    rm -f "$(docker volume inspect -f '{{.Mountpoint}}' "${stack}_$name")/recovery.$$" 2>/dev/null || true
    mv "$1.new" "$1"
}

# A copy of a folder as a volume of the stack. Mounted where the image has its data, an empty volume belongs to the user of the image.
restore_volume() { # restore_volume FOLDER NAME
    docker volume create --label "$stack_label=$stack" "${stack}_$2" >/dev/null
    docker run --rm --network none --user 0 --read-only --cap-drop ALL --cap-add DAC_OVERRIDE --cap-add CHOWN \
        -v "$1:/from:ro" -v "${stack}_$2:/data" "$DSTORE_IMAGE" copy /from /data >"$folder/log" 2>&1 || fail "$2: $(cat "$folder/log")"
}

restore_etcd() { # restore_etcd FOLDER
    local name
    # The image's user has to be able to read it.
    install -m 644 "$1/etcd.snapshot" "$secrets/etcd.snapshot"
    for name in $etcds; do
        docker volume create --label "$stack_label=$stack" "${stack}_$name" >/dev/null
        docker run --rm --network none -e ETCDCTL_API=3 -v "$secrets/etcd.snapshot:/snapshot:ro" -v "${stack}_$name:/var/lib/etcd" \
            "$ETCD_IMAGE" etcdctl snapshot restore /snapshot --name "$name" --data-dir /var/lib/etcd/member \
            --initial-cluster etcd-1=https://etcd-1:2380,etcd-2=https://etcd-2:2380,etcd-3=https://etcd-3:2380 \
            --initial-cluster-token "$stack" --initial-advertise-peer-urls "https://$name:2380" >"$folder/log" 2>&1 ||
            fail "etcdctl snapshot restore: $(cat "$folder/log")"
    done
}

restore_in_etcd() {
    rm -rf "$folder/init" && mkdir -p "$folder/init"
    inside coordinator control recovery restore --data /kept/init --file /kept/recovery.dstore --passphrase-file /kept/recovery-passphrase \
        --set control.key_file=/kept/init/control.key >"$folder/log" 2>&1
}

# The order is that of docs/OPERATIONS.md: etcd from its snapshot, the keys from the recovery file, then everybody over their folders.
restore() {
    local source name
    source=$(cd "$1" && pwd)
    quiet docker info || fail "no Docker Engine answers here"
    scripts/bootstrap.sh swarm
    open_folder
    for name in recovery-passphrase keys-passphrase; do
        [ -e "$folder/$name" ] || fail "put the file $name of the old cluster into $folder first"
    done
    # The file that is written last tells that the backup is complete. Without a node's copy ranges would be short of copies, or gone.
    for name in etcd.snapshot recovery.dstore $nodes; do
        [ -e "$source/$name" ] || fail "$source has no $name; where it lies with another host's backup, put it here. Nothing was touched"
    done
    begin
    ! secrets_are_there && [ -z "$(ours volume)" ] || fail "there is a cluster here already; nothing was touched"
    cp "$source/recovery.dstore" "$folder/recovery.dstore"
    begin_secrets
    restore_etcd "$source"
    for name in $nodes proxy-1 proxy-2 reporting; do
        if [ -e "$source/$name" ]; then restore_volume "$source/$name" "$name"; fi
    done
    say "starting etcd"
    deploy 0 0
    say "putting back what the recovery file has"
    eventually 120 restore_in_etcd || fail "dstore control recovery restore: $(cat "$folder/log")"
    cp "$folder/init/control.key" "$secrets/control-key"
    mv "$folder/init/authority.pem" "$folder"
    end_secrets
    say "starting control, nodes, proxies and reporting"
    deploy 1 1
    until_ready $etcds $members
    drop_placeholders
    # Tenants are those of the old cluster, whatever `up` finds here later.
    made demo
    say "restored; clients need $folder/client-ca.pem, and tokens are those of the old cluster"
}

first_running() {
    local name
    for name in "$@"; do
        if [ -n "$(container "$name")" ]; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

nothing_is_left() {
    local label
    for label in "$stack_label" "$project_label"; do
        [ -z "$(docker ps -aq --filter "label=$label=$stack")" ] && [ -z "$(docker network ls -q --filter "label=$label=$stack")" ] || return 1
    done
}
in_swarm() { [ "$(docker info --format '{{.Swarm.LocalNodeState}}')" = active ]; }

remove_services() { docker stack rm "$stack" >"$folder/log" 2>&1; }
remove_secrets() {
    local secret
    for secret in $(ours secret); do docker secret rm "$secret" || return 1; done
}

# Where something does not go, the folder stays, with the record of what is ours: whoever runs this again goes on from there.
remove_stack() {
    local thing
    if [ "${DSTORE_NETWORKS:-}" = overlay ] && in_swarm; then
        # More than once: a network whose tasks have not ended yet is refused.
        eventually 120 remove_services || fail "docker stack rm: $(cat "$folder/log"). Run this again"
        eventually 120 quiet remove_secrets || fail "secrets of the stack do not go. Run this again"
    elif [ -e "$folder/bridge.yml" ]; then
        DSTORE_MEMBERS=1 DSTORE_JOIN=1 logged "docker compose down, which can be run again," \
            compose -p "$stack" -f "$folder/bridge.yml" down --volumes --timeout 30
    fi
    eventually 120 nothing_is_left || fail "some containers or networks of the stack do not go. Run this again"
    for thing in $(ours volume); do
        eventually 20 quiet docker volume rm "$thing" || fail "the volume $thing does not go. Run this again"
    done
    # By now it may have been taken off, or be another host's.
    for thing in $(all_made label); do quiet docker node update --label-rm "$thing" "$(docker info -f '{{.Swarm.NodeID}}')" || true; done
    if in_swarm && [ "$(docker node ls -q | wc -l)" -gt 1 ]; then say "volumes on other hosts are left there: docker volume ls --filter label=$stack_label=$stack"; fi
}

# What somebody else has in it by now would go with it.
leave_swarm() {
    in_swarm || return 0
    if [ -n "$(docker service ls -q)" ] || [ "$(docker node ls -q | wc -l)" -gt 1 ]; then
        say "the swarm stays, since other services or hosts are in it (docker swarm leave --force)"
        return 0
    fi
    quiet docker swarm leave --force || fail "docker swarm leave has failed. Run this again"
    eventually 20 quiet docker network rm docker_gwbridge || true
}

down() {
    local thing
    quiet docker info || fail "no Docker Engine answers here"
    [ -e "$folder/made" ] || fail "nothing was made from $folder: \`up\` was run elsewhere, or not at all"
    open_folder
    if was_made stack; then remove_stack; else say "no stack was made from $folder"; fi
    if was_made swarm; then leave_swarm; fi
    for thing in $(all_made image); do quiet docker image rm --force "$thing" || true; done
    remove_folder
}

# Only what this script puts there, the record last: people keep files in it, too.
remove_folder() {
    local name
    for name in $(all_made drawn); do rm -f "${folder:?}/$name"; done
    rm -rf "${folder:?}"/{init,secrets,secrets.new}
    for name in token root.token authority.pem client-ca.pem contexts.toml contexts.lock recovery.dstore recovery.dstore.new bridge.yml log settings made; do
        rm -f "${folder:?}/$name"
    done
    if rmdir "$folder" 2>/dev/null; then say "removed"; else say "removed; what others put there stays in $folder: $(ls -A "$folder" | tr '\n' ' ')"; fi
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
up) up ;;
down) down ;;
restore) restore "${1:?a folder}" ;;
images)
    open_folder
    make_images
    echo "$DSTORE_IMAGE $ETCD_IMAGE"
    ;;
update | stop | start | control | backup | container | deploy)
    [ -e "$folder/settings" ] || fail "there is no cluster: run $0 up"
    open_folder
    case $command in
    update) update "${@:?an image}" ;;
    stop) stop_members "$@" ;;
    start) start_members "$@" ;;
    control) control "$@" ;;
    container) container "${1:?a name}" ;;
    backup) backup "${1:?a folder}" ;;
    deploy)
        was_made stack && secrets_are_there || fail "no cluster was made from $folder: run $0 up"
        deploy 1 1
        until_ready $etcds $members
        ;;
    esac
    ;;
*)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"
    [ "$command" = help ] || exit 2
    ;;
esac
