#!/usr/bin/env bash
# Opens the MLflow tracking UI on this folder's results: bash run_mlflow_ui.bash [PORT]
# The folder may have been moved, copied or synced from another machine since: the paths of artifacts are mended first.
project=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
port=${1:-5000}

fail() {
    echo "error: $1" >&2
    exit 2
}

if ! [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || [ "$port" -gt 65535 ]; then
    fail "the port is '$port': expected a whole number from 1 to 65535"
fi
[ -f "$project/mlflow.db" ] || fail "no results yet (mlflow.db): 'bash run_script.bash python step_2/train.py' makes some"
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    fail "port $port is taken: name another, as in 'bash run_mlflow_ui.bash $((port % 65535 + 1))'"
fi

echo "http://127.0.0.1:$port (Ctrl-C ends it)"
export PORTS=$port # run_script.bash publishes it from a container to this machine's 127.0.0.1, and sets LISTEN inside
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # seven processes that nothing here asks for
# shellcheck disable=SC2016 # LISTEN is known inside the container
exec bash "$project/run_script.bash" bash -c \
    'python -m common.tracking.upkeep && exec mlflow server --backend-store-uri sqlite:///mlflow.db --workers 1 --host "${LISTEN:-127.0.0.1}" --port "$0"' "$port"
