#!/usr/bin/env bash
# Runs a command in the project's environment: bash run_script.bash COMMAND [ARGUMENT]...
#
# The environment is a container where a Docker engine answers, else .venv; RUNNER=docker or RUNNER=venv chooses.
# It is made on first use from the hashed lock and, where there is one, requirements-own.txt, and made again when they
# change. RUNNER=none takes the Python at hand, such as conda's or Colab's.
# The command runs in the project folder, wherever it is called from, so relative paths start there. A container sees
# the project folder and, read-only, what absolute paths among the arguments name: results belong in the project folder.

fail() {
    echo "error: $1" >&2
    exit 2
}

if [ $# -eq 0 ]; then
    echo "usage: bash run_script.bash COMMAND [ARGUMENT]..." >&2
    exit 2
fi
project=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
cd "$project" || fail "cannot enter $project"

export MLFLOW_DISABLE_TELEMETRY=${MLFLOW_DISABLE_TELEMETRY:-true}

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-"$1"
}

packages() { # what is installed: the lock, and what the user adds
    cat requirements.txt
    [ ! -e requirements-own.txt ] || cat requirements-own.txt
}

# once IS_MADE NAME MAKE [UNMAKE]: unless IS_MADE says so, runs MAKE, and UNMAKE if that fails or is interrupted.
once() {
    local is_made=$1 name=$2 make=$3 unmake=${4:-true} code
    "$is_made" && return
    # MAKE inherits this lock: when only this script is killed, the next call still waits until MAKE has ended.
    exec 9<>requirements.txt
    if command -v flock >/dev/null && ! flock -n 9; then
        echo "waiting for another call that sets up $name" >&2
        flock 9
    fi
    if ! "$is_made"; then
        echo "setting up $name from requirements.txt: once, some minutes and gigabytes" >&2
        log=$(mktemp)
        set -m # gives MAKE a process group, so that all of it can be ended
        "$make" </dev/null >"$log" 2>&1 &
        set +m
        trap 'interrupt INT $!' INT
        trap 'interrupt TERM $!' TERM
        trap 'interrupt HUP $!' HUP
        wait $!
        code=$?
        trap - INT TERM HUP
        if [ $code -ne 0 ]; then
            tail -n 15 "$log" >&2
            rm -f "$log"
            "$unmake"
            echo "error: setting up $name failed, for the reason above" >&2
            exit 1
        fi
        rm -f "$log"
    fi
    exec 9>&-
}

interrupt() { # SIGNAL GROUP: what `once` does then
    trap '' INT TERM HUP
    kill -TERM -- "-$2"
    wait "$2"
    for _ in {1..50}; do # its children may take a moment longer
        kill -0 -- "-$2" 2>/dev/null || break
        sleep 0.1
    done
    rm -f "$log"
    "$unmake"
    trap - "$1"
    kill "-$1" $$
    exit 1
}

# ---- .venv

venv_state() { # what .venv depends on: it cannot be moved, and a Python that was upgraded breaks it
    { readlink -f .venv/bin/python && pwd && packages; } | sha256 64
}

venv_is_made() {
    [ -x .venv/bin/python ] && [ "$(cat .venv/made-from 2>/dev/null)" = "$(venv_state)" ]
}

make_venv() {
    rm -rf .venv
    bash docker/install.sh .venv || return
    pwd >"$(echo .venv/lib/python3*/site-packages)/reproai.pth" || return
    venv_state >.venv/made-from
}

unmake_venv() {
    rm -rf .venv
}

leave_venv() { # an activated .venv must not be what makes .venv anew
    local ours=:$project/.venv/bin:
    PATH=:$PATH:
    while [[ $PATH == *"$ours"* ]]; do PATH=${PATH/"$ours"/:}; done
    PATH=${PATH#:}
    PATH=${PATH%:}
}

run_in_venv() {
    leave_venv
    once venv_is_made .venv make_venv unmake_venv
    unset PYTHONHOME
    export VIRTUAL_ENV=$project/.venv PATH=$project/.venv/bin:$PATH
    exec "$@"
}

# ---- the Python at hand

run_here() {
    export PYTHONPATH=$project${PYTHONPATH:+:$PYTHONPATH}
    exec "$@"
}

# ---- Docker

ask_engine() { # prints the engine's version, security options and runtimes, if one answers
    local limit=()
    if command -v timeout >/dev/null; then limit=(timeout 5); fi
    # shellcheck disable=SC2016 # a Go template
    "${limit[@]}" docker info 2>/dev/null \
        --format '{{.ServerVersion}} {{.SecurityOptions}} {{range $name, $_ := .Runtimes}}runtime={{$name}} {{end}}.'
}

image_is_made() {
    docker image inspect "$image" >/dev/null 2>&1
}

make_image() {
    docker build --tag "$image" --file docker/Dockerfile .
}

add_mount() { # PATH [,readonly]: at the same path inside; quoted, since a path may hold a comma
    local known
    for known in "${mounted[@]}"; do
        [ "$known" != "$1" ] || return 0
    done
    mounted+=("$1")
    flags+=(--mount "type=bind,\"source=$1\",\"target=$1\"$2")
}

mount_outside() { # PATH [,readonly]: if it exists, lies outside the project and hides nothing of the image
    local path=${1%/} top
    case $path in
        "" | /tmp | /opt | /opt/venv* | "$project" | "$project"/*) return ;;
        /*) top=${path#/} ;;
        *) return ;;
    esac
    case ${top%%/*} in
        bin | dev | etc | lib* | proc | sbin | sys | usr) ;;
        *) [ ! -e "$path" ] || add_mount "$path" "$2" ;;
    esac
}

run_in_docker() {
    local engine=$1 name argument flags=() mounted=()
    shift
    image=reproai:$({ cat docker/Dockerfile docker/install.sh docker/uv.txt && packages; } | sha256 12)
    once image_is_made "the Docker image $image" make_image

    local home=$project/cache/home # downloaded weights outlive the container there
    mkdir -p "$home"
    flags=(--rm --init --ipc=host --workdir "$project" --env HOME="$home" --env USER="$(id -un)" --env PYTHONPATH="$project")
    add_mount "$project"

    if [ -t 0 ] && [ -t 1 ]; then
        flags+=(--interactive --tty)
    elif [ ! -t 0 ]; then # a terminal that is only read from would stop a command put into the background
        flags+=(--interactive)
    fi
    case $engine in
        *rootless*) flags+=(--env ROOTLESS=1) ;; # root inside is the caller outside
        *)
            flags+=(--user "$(id -u):$(id -g)")
            for name in $(id -G); do flags+=(--group-add "$name"); done
            ;;
    esac
    case $engine in *" runtime=nvidia "*) flags+=(--gpus all) ;; esac
    for name in $REPROAI_PORTS; do
        flags+=(--publish "127.0.0.1:$name:$name" --env REPROAI_LISTEN=0.0.0.0)
    done

    for name in $(compgen -e); do
        case $name in
            KAFKA_* | PUB_SUB_* | PUBSUB_EMULATOR_HOST | GOOGLE_APPLICATION_CREDENTIALS | TIMEOUT) flags+=(--env "$name") ;;
            MLFLOW_* | OPTUNA_* | PGPASSFILE | JUPYTER_CONFIG_PATH | TORCH_HOME | PETS_DIR | CI | CUDA_VISIBLE_DEVICES) flags+=(--env "$name") ;;
            REPROAI_NETWORKS | REPROAI_DISK | REPROAI_PATIENT_KEY) flags+=(--env "$name") ;;
        esac
    done
    if [ -n "$TORCH_HOME" ]; then
        mkdir -p "$TORCH_HOME"
        mount_outside "$TORCH_HOME"
    fi
    for name in *; do # data, cache or mlruns may be links to a larger disk
        [ ! -L "$name" ] || mount_outside "$(readlink -f "$name")"
    done
    for name in REPROAI_STATE REPROAI_CACHE; do
        if [ -n "${!name}" ]; then
            mkdir -p "${!name}"
            flags+=(--env "$name")
            mount_outside "$(readlink -f "${!name}")"
        fi
    done
    if [ -n "$REPROAI_FOLDER" ]; then # of results, whose paths are mended
        mount_outside "$REPROAI_FOLDER"
        [ ! -L "$REPROAI_FOLDER/mlruns" ] || mount_outside "$(readlink -f "$REPROAI_FOLDER/mlruns")" ,readonly
    fi
    mount_outside "$PETS_DIR" ,readonly
    mount_outside "$PGPASSFILE" ,readonly
    mount_outside "$REPROAI_PATIENT_KEY" ,readonly
    mount_outside "$GOOGLE_APPLICATION_CREDENTIALS" ,readonly
    for argument in "$@"; do
        case $argument in
            -*=*) argument=${argument#*=} ;;
        esac
        case $argument in
            /*) ;;
            *) argument=$(readlink -f -- "$argument") ;;
        esac
        mount_outside "$argument" ,readonly
    done
    exec docker run "${flags[@]}" "$image" "$@"
}

# ---- JupyterLab

set_up_jupyter() { # REPROAI_PORTS: what a container publishes
    export JUPYTER_CONFIG_PATH=$project/docker${JUPYTER_CONFIG_PATH:+:$JUPYTER_CONFIG_PATH}
    local before="" argument
    REPROAI_PORTS=8888
    for argument in "$@"; do
        case $before$argument in
            --port=* | --ServerApp.port=*) REPROAI_PORTS=${argument#*=} ;;
            --port" "*) REPROAI_PORTS=$argument ;;
        esac
        before=
        [ "$argument" != --port ] || before="--port "
    done
}

# ---- which of them

[ "$1 $2" != "jupyter lab" ] || set_up_jupyter "$@"
[ -z "$REPROAI_IMAGE" ] || exec "$@" # already inside the container
case $RUNNER in
    venv) run_in_venv "$@" ;;
    none) run_here "$@" ;;
    "" | docker)
        if engine=$(ask_engine) && [[ $engine != " "* ]]; then
            run_in_docker "$engine" "$@"
        elif [ "$RUNNER" = docker ]; then
            fail "RUNNER=docker, but no Docker engine answers: start it, or use RUNNER=venv"
        fi
        run_in_venv "$@"
        ;;
    *) fail "RUNNER is '$RUNNER': expected docker, venv, none or nothing" ;;
esac
