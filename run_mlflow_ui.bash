#!/usr/bin/env bash
# Opens the MLflow tracking UI on this project's results, or on those of another folder:
# bash run_mlflow_ui.bash [FOLDER] [PORT]
# The folder may have been moved, copied or synced from another machine since: the paths of artifacts are mended first.
project=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")

fail() {
    echo "error: $1" >&2
    exit 2
}

folder=$project given=
if [ $# -gt 0 ] && ! [[ $1 =~ ^[0-9]*$ ]]; then
    [ -d "$1" ] || fail "'$1': expected a folder with results, or a port from 1 to 65535"
    folder=$(readlink -f -- "$1")
    given="$(printf %q "$1") "
    shift
fi
[ $# -lt 2 ] || fail "'$2': expected no more than a folder and a port, as in 'bash run_mlflow_ui.bash ../results 5001'"
port=${1-5000}
if ! [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || [ "$port" -gt 65535 ]; then
    fail "the port is '$port': expected a whole number from 1 to 65535"
fi
if ! [ -f "$folder/mlflow.db" ]; then
    [ -z "$given" ] || fail "$folder: no results (mlflow.db); expected a project folder, or a copy of its results"
    [[ $MLFLOW_TRACKING_URI != http* ]] || fail "no results here: the server of MLFLOW_TRACKING_URI has them, and a UI"
    fail "no results yet (mlflow.db): 'bash run_script.bash python step_2/train.py' makes some"
fi
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    fail "port $port is taken: name another, as in 'bash run_mlflow_ui.bash $given$((port % 65535 + 1))'"
fi

listen=${REPROAI_IMAGE:+$REPROAI_LISTEN} # of this container, when it is called in one
echo "http://${listen:-127.0.0.1}:$port${listen:+, for whoever reaches this address, without a password} (Ctrl-C ends it)"
export REPROAI_FOLDER=$folder REPROAI_PORTS=$port # what run_script.bash gives a container, and publishes to 127.0.0.1
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false   # seven processes that nothing here asks for
# The working directory stays the project: Python imports what lies there, and the results may be somebody else's.
# shellcheck disable=SC2016 # what is known inside the container
serve='listen=${REPROAI_IMAGE:+$REPROAI_LISTEN}'
serve+='; python -m common.tracking.upkeep "$0" --ui "http://${listen:-127.0.0.1}:$1" && exec mlflow server'
serve+=' --backend-store-uri "sqlite:///$0/mlflow.db" --workers 1 --host "${listen:-127.0.0.1}" --port "$1"'
exec bash "$project/run_script.bash" bash -c "$serve" "$folder" "$port"
